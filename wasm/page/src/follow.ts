// Faces from one frame of a camera to the next: the same person keeps the same place.

import type { Face } from "../../pkg/index.js";

type Box = Face["bbox"];

/** Boxes that share this much of their area, from one frame to the next, are of one face. */
const SAME_FACE = 0.3;
/** Frames for which a face that was pressed may be missing before it is given up. */
const PATIENCE = 20;

/** What two boxes share of the area they cover together, 0 to 1. */
export function overlap(a: Box, b: Box): number {
    const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
    const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (width <= 0 || height <= 0) return 0;
    const area = (box: Box) => (box[2] - box[0]) * (box[3] - box[1]);
    return (width * height) / (area(a) + area(b) - width * height);
}

/** The faces of a frame in the order of those `before`; new ones come last. A detector's order is by score, which trembles. */
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

/** One face that is followed by where it is. */
export class Follower {
    #box: Box;
    #missed = 0;

    constructor(face: Face) {
        this.#box = face.bbox;
    }

    /** Its index among the faces of the next frame; `undefined` when it is not there, or has been gone for too long. */
    find(faces: Face[]): number | undefined {
        if (this.#missed > PATIENCE) return undefined;
        const shares = faces.map((face) => overlap(face.bbox, this.#box));
        const best = shares.indexOf(Math.max(...shares));
        const found = (shares[best] ?? 0) > SAME_FACE ? best : undefined;
        const face = found === undefined ? undefined : faces[found];
        this.#missed = face ? 0 : this.#missed + 1;
        if (face) this.#box = face.bbox;
        return found;
    }
}
