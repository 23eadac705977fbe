// What the page and its worker say to each other.

import type { AnalyzeOptions, Analysis } from "../../pkg/index.js";
import type { Embeddings, Pair } from "./similar.js";

export type Settings = Pick<AnalyzeOptions, "threshold" | "limitFaces"> & {
    /** Side of the square pictures are fitted into before detection. */
    canvas: number;
};

export type Request =
    /** `threads`: how many to use where that is possible; `crashChannel`: the channel on which one of them says that it stopped. */
    | { kind: "load"; threads: number; crashChannel: string }
    /** A file: decoded by ifr, or by the browser for the formats ifr does not read. */
    | { kind: "picture"; file: Blob; settings: Settings }
    /** A frame of a video, given away. */
    | { kind: "frame"; bitmap: ImageBitmap; settings: Settings; embedding: boolean }
    /** The faces of two pictures, of which the two most alike are looked for. */
    | { kind: "nearest"; a: Embeddings; b: Embeddings };

export interface Loaded {
    build: string;
    /** Threads in use. */
    threads: number;
}

export interface Found {
    analysis: Analysis;
    /** The pixels that were analysed; absent for frames. */
    bitmap?: ImageBitmap;
}

export interface Nearest {
    pair: Pair | undefined;
}

export type Reply =
    | { id: number; ok: true; value: Loaded | Found | Nearest }
    /** `dead`: the module stopped inside and must be loaded again. */
    | { id: number; ok: false; message: string; dead: boolean }
    | { progress: number };
