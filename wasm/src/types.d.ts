/** RGBA pixels, row by row. An `ImageData` is of this type. */
export interface Pixels {
    readonly width: number;
    readonly height: number;
    readonly data: Uint8ClampedArray;
}

/** A picture: the bytes of a JPEG, PNG, WebP, GIF, BMP or TIFF file, or pixels. Alpha is ignored. */
export type Picture = Uint8Array | ArrayBuffer | Pixels;

export interface CreateOptions {
    /** Width and height of the detection canvas in pixels, rounded down to multiples of 32. Default [640, 640]. */
    canvas?: [number, number];
    /** How the recognizer's input is normalized. Default: read from the network. */
    recognizerKind?: "arcface_torch" | "arcface_mxnet" | "adaface";
}

export interface AnalyzeOptions {
    /** Minimum score of a face, 0 to 1. Default 0.6. */
    threshold?: number;
    /** Maximum number of faces, largest first; 0 is unlimited. Default 0. */
    limitFaces?: number;
    /** Minimum width of a face in pixels. Default 0. */
    minFaceSize?: number;
    /** Compute embeddings. Default: true if there is a recognizer. */
    embedding?: boolean;
    /** Return the aligned 112x112 crops. Default false. */
    crops?: boolean;
}

export type Point = [x: number, y: number];

export interface Face {
    /** x1, y1, x2, y2 in pixels of the picture; can exceed its edges. */
    bbox: [x1: number, y1: number, x2: number, y2: number];
    /** Left eye, right eye, nose tip, left and right mouth corner, as seen in the picture. */
    landmarks: [Point, Point, Point, Point, Point];
    /** The detector's score, 0 to 1. */
    prob: number;
    /** Vector of unit length. Compare two with `similarity`. */
    embedding?: Float32Array;
    /** Length of the embedding before normalization. Small values indicate faces of low quality. */
    norm?: number;
    /** The aligned crop; present with the option `crops`. */
    crop?: Pixels;
}

/** Duration of each stage in milliseconds. */
export interface Timings {
    decode: number;
    detect: number;
    align: number;
    recognize: number;
}

export interface Analysis {
    width: number;
    height: number;
    /** Sorted by descending score. */
    faces: Face[];
    timings: Timings;
}

export interface Tensor {
    shape: number[];
    data: Float32Array;
}
