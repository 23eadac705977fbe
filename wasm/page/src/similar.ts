// Finds the most similar pair of faces. Used by the page and, for crowds, by the worker.

/** The embeddings of a picture's faces; `undefined` for faces without an embedding. */
export type Embeddings = (Float32Array | undefined)[];

export interface Pair {
    /** Index in the first list. */
    i: number;
    /** Index in the second list. */
    j: number;
    /** Cosine of the two embeddings, -1 to 1. */
    value: number;
}

/** Cosine of two unit vectors. The page cannot use `similarity` of the package: only its worker loads the module. */
export function cosine(a: Float32Array, b: Float32Array): number {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
    return sum;
}

/** The most similar pair; `undefined` if there is no pair with two embeddings. Takes about 1 ns per number and pair. */
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
