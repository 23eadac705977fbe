/** Pixels as a canvas gives them: RGBA, row by row. An `ImageData` is one. */
export interface Pixels {
    readonly width: number;
    readonly height: number;
    readonly data: Uint8ClampedArray;
}

/** A picture: the bytes of a JPEG, PNG, WebP, GIF, BMP or TIFF file, or pixels. Alpha is ignored. */
export type Picture = Uint8Array | ArrayBuffer | Pixels;

export interface CreateOptions {
    /** Width and height of the canvas a picture is fitted into before detection, floored to multiples of 32. Default [640, 640]. */
    canvas?: [number, number];
    /** How the recognizer's input is normalized. Default: read from the network. */
    recognizerKind?: "arcface_torch" | "arcface_mxnet" | "adaface";
}

export interface AnalyzeOptions {
    /** Detections must score over this, 0 to 1. Default 0.6. */
    threshold?: number;
    /** Keep only this many of the largest faces; 0 keeps all. Default 0. */
    limitFaces?: number;
    /** Drop faces narrower than this many pixels. Default 0. */
    minFaceSize?: number;
    /** Compute embeddings. Default: true when there is a recognizer. */
    embedding?: boolean;
    /** Return the aligned 112x112 crops. Default false. */
    crops?: boolean;
}

export type Point = [x: number, y: number];

export interface Face {
    /** x1, y1, x2, y2 in pixels of the picture; may reach beyond its edges. */
    bbox: [x1: number, y1: number, x2: number, y2: number];
    /** Left eye, right eye, nose tip, left and right mouth corner, as seen in the picture. */
    landmarks: [Point, Point, Point, Point, Point];
    /** The detector's score, 0 to 1. */
    prob: number;
    /** Unit length. Compare two with `similarity`. */
    embedding?: Float32Array;
    /** Length of the embedding before normalization; small for faces the network found hard to read. */
    norm?: number;
    /** The aligned crop, when asked for. */
    crop?: Pixels;
}

/** Milliseconds spent in each stage. */
export interface Timings {
    decode: number;
    detect: number;
    align: number;
    recognize: number;
}

export interface Analysis {
    width: number;
    height: number;
    /** By descending score. */
    faces: Face[];
    timings: Timings;
}

export interface Tensor {
    shape: number[];
    data: Float32Array;
}
