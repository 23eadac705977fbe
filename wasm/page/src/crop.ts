// An aligned crop as the network saw it.

import type { Pixels } from "../../pkg/index.js";

export function cropCanvas(crop: Pixels): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    canvas.width = crop.width;
    canvas.height = crop.height;
    const data = new ImageData(crop.data as Uint8ClampedArray<ArrayBuffer>, crop.width, crop.height);
    canvas.getContext("2d")?.putImageData(data, 0, 0);
    return canvas;
}
