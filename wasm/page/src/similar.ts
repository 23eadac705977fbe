// Which faces are alike. Used by the page and, for crowds, by the worker.

/** Of faces in their order; faces without an embedding have none. */
export type Embeddings = (Float32Array | undefined)[];

export interface Pair {
    /** Index in the first list and in the second. */
    i: number;
    j: number;
    value: number;
}

/** Cosine of two unit vectors, as `similarity` of the package; here because the page does not load the module, its worker does. */
export function cosine(a: Float32Array, b: Float32Array): number {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
    return sum;
}

/** The two that are most alike; `undefined` when nothing can be compared. Takes a nanosecond for each number of each pair. */
export function nearest(a: Embeddings, b: Embeddings): Pair | undefined {
    let best: Pair | undefined;
    a.forEach((x, i) => {
        b.forEach((y, j) => {
            const value = x && y ? cosine(x, y) : -Infinity;
            if (value > (best?.value ?? -Infinity)) best = { i, j, value };
        });
    });
    return best;
}
