// Tracks faces across camera frames, so that a person keeps the same number.

import type { Face } from "../../pkg/index.js";

type Box = Face["bbox"];

/** Minimum intersection over union of the boxes of one face in two consecutive frames. */
const SAME_FACE = 0.3;
/** Number of frames in which a followed face may be missing. */
const MAX_MISSED = 20;

/** Intersection over union of two boxes, 0 to 1. */
export function overlap(a: Box, b: Box): number {
    const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
    const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (width <= 0 || height <= 0) return 0;
    const area = (box: Box) => (box[2] - box[0]) * (box[3] - box[1]);
    return (width * height) / (area(a) + area(b) - width * height);
}

/**
 * Sorts the faces of a frame by their order in the previous frame, new faces last. Scores, the detector's order,
 * fluctuate.
 */
export function inOrder(before: Face[], now: Face[]): Face[] {
    const pairs = before.flatMap((old, i) => now.map((face, j) => ({ i, j, share: overlap(old.bbox, face.bbox) })));
    const placed = new Map<number, number>();
    const taken = new Set<number>();
    for (const { i, j } of pairs.filter(({ share }) => share > SAME_FACE).sort((a, b) => b.share - a.share)) {
        if (placed.has(i) || taken.has(j)) continue;
        placed.set(i, j);
        taken.add(j);
    }
    const known = [...placed].sort(([a], [b]) => a - b).map(([, j]) => now[j]!);
    return [...known, ...now.filter((_, j) => !taken.has(j))];
}

/** Follows one face by its position. */
export class Follower {
    #box: Box;
    #missed = 0;

    constructor(face: Face) {
        this.#box = face.bbox;
    }

    /**
     * Index of the face in the next frame; `undefined` if it is missing, or was missing in more than `MAX_MISSED`
     * frames.
     */
    find(faces: Face[]): number | undefined {
        if (this.#missed > MAX_MISSED) return undefined;
        const shares = faces.map((face) => overlap(face.bbox, this.#box));
        const best = shares.indexOf(Math.max(...shares));
        const found = (shares[best] ?? 0) > SAME_FACE ? best : undefined;
        const face = found === undefined ? undefined : faces[found];
        this.#missed = face ? 0 : this.#missed + 1;
        if (face) this.#box = face.bbox;
        return found;
    }
}
