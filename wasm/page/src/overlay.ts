// Draws boxes and landmarks over a picture.

import type { Face } from "../../pkg/index.js";

export interface Scene {
    faces: Face[];
    /** Size of the picture in its own pixels. */
    width: number;
    height: number;
    /** The picture is displayed mirrored. */
    mirrored: boolean;
    /** Prefix of the face labels: A1, A2… */
    letter: string;
    /** Index of the highlighted face. */
    lit: number | undefined;
}

/** Draws onto `canvas`, which covers the stage. The picture has the position of `object-fit: contain`. */
export function drawOverlay(canvas: HTMLCanvasElement, scene: Scene | undefined) {
    const density = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = canvas;
    canvas.width = Math.round(clientWidth * density);
    canvas.height = Math.round(clientHeight * density);
    const context = canvas.getContext("2d");
    if (!context || !scene) return;
    context.scale(density, density);
    const scale = Math.min(clientWidth / scene.width, clientHeight / scene.height);
    const left = (clientWidth - scene.width * scale) / 2;
    const top = (clientHeight - scene.height * scale) / 2;
    const x = (value: number) => left + (scene.mirrored ? scene.width - value : value) * scale;
    const y = (value: number) => top + value * scale;
    const color = getComputedStyle(canvas).getPropertyValue("--accent") || "#0f766e";
    const ink = getComputedStyle(canvas).getPropertyValue("--accent-ink") || "#fff";

    scene.faces.forEach((face, index) => {
        const [x1, y1, x2, y2] = face.bbox;
        const box = { left: Math.min(x(x1), x(x2)), top: y(y1), width: (x2 - x1) * scale, height: (y2 - y1) * scale };
        const faded = scene.lit !== undefined && scene.lit !== index;
        context.globalAlpha = faded ? 0.35 : 1;
        context.lineJoin = "round";
        const small = box.width < 22 && scene.lit !== index;
        // A dark outline keeps the box visible on every background.
        for (const [style, width] of [[faded ? "#0000" : "#0008", small ? 3.5 : 5], [color, small ? 1.75 : 2.5]] as const) {
            context.strokeStyle = style;
            context.lineWidth = width;
            context.beginPath();
            context.roundRect(box.left, box.top, box.width, box.height, Math.min(8, box.width / 6));
            context.stroke();
        }
        // Labels and landmarks would hide small faces.
        if (small) return;
        const radius = Math.max(1.4, Math.min(3.5, box.width / 28));
        for (const [px, py] of face.landmarks) {
            context.beginPath();
            context.arc(x(px), y(py), radius, 0, 7);
            context.fillStyle = "#fff";
            context.strokeStyle = "#000a";
            context.lineWidth = 1;
            context.stroke();
            context.fill();
        }
        label(context, `${scene.letter}${index + 1}`, box, top, color, ink);
    });
    context.globalAlpha = 1;
}

type Box = { left: number; top: number; width: number };

/** Draws a face's label above its box or, if that is above `minTop`, inside. */
function label(context: CanvasRenderingContext2D, text: string, box: Box, minTop: number, color: string, ink: string) {
    context.font = "600 12px ui-monospace, Menlo, Consolas, monospace";
    const width = context.measureText(text).width + 10;
    const top = box.top - 19 >= minTop ? box.top - 19 : box.top + 3;
    context.fillStyle = color;
    context.beginPath();
    context.roundRect(box.left, top, width, 17, 5);
    context.fill();
    context.fillStyle = ink;
    context.textBaseline = "middle";
    context.fillText(text, box.left + 5, top + 9);
}
