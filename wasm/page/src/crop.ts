// Displays the aligned crop of a face.

import type { Pixels } from "../../pkg/index.js";

const shown = new WeakMap<HTMLCanvasElement, Pixels>();

/** Paints a crop into a canvas, unless the canvas displays it already. `undefined` clears the canvas. */
export function paintCrop(canvas: HTMLCanvasElement, crop: Pixels | undefined) {
    if (crop && shown.get(canvas) === crop) return;
    if (!crop || canvas.width !== crop.width || canvas.height !== crop.height) {
        canvas.width = crop?.width ?? 1;
        canvas.height = crop?.height ?? 1;
    }
    if (!crop) return void shown.delete(canvas);
    shown.set(canvas, crop);
    const data = new ImageData(crop.data as Uint8ClampedArray<ArrayBuffer>, crop.width, crop.height);
    canvas.getContext("2d")?.putImageData(data, 0, 0);
}
