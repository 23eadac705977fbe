// Messages between the page and its worker.

import type { AnalyzeOptions, Analysis, ErrorCode } from "../../pkg/index.js";
import type { Embeddings, Pair } from "./similar.js";

export type Settings = Pick<AnalyzeOptions, "threshold" | "limitFaces"> & {
    /** Side of the square canvas for detection, in pixels. */
    canvas: number;
};

export type Request =
    /**
     * `threads`: the wanted number of threads. `crashChannel`: name of the channel on which a thread reports a crash.
     */
    | { kind: "load"; threads: number; crashChannel: string }
    /** A picture file. The browser decodes the formats that ifr does not support. */
    | { kind: "picture"; file: Blob; settings: Settings }
    /** A frame of a video. The bitmap is transferred. */
    | { kind: "frame"; bitmap: ImageBitmap; settings: Settings; embedding: boolean }
    /** Embeddings of the faces of two pictures, for the most similar pair. */
    | { kind: "nearest"; a: Embeddings; b: Embeddings };

export interface Loaded {
    build: string;
    /** Number of threads in use. */
    threads: number;
}

export interface Found {
    analysis: Analysis;
    /** The analyzed pixels; absent for frames. */
    bitmap?: ImageBitmap;
}

export interface Nearest {
    pair: Pair | undefined;
}

export type Reply =
    | { id: number; ok: true; value: Loaded | Found | Nearest }
    /** `message` is for the user. With the code `crashed` the worker must be replaced. */
    | { id: number; ok: false; message: string; code: ErrorCode | undefined }
    /** Loaded share of the networks, 0 to 1. */
    | { progress: number };
