// The worker of the page: loads the networks and runs all computations, so that the page stays responsive.

import { FaceAnalyzer, decode, load, supportedBuild, threads, type Analysis, type ErrorCode, type Pixels } from "../../pkg/index.js";
import { cachedFetch } from "./cache.js";
import type { Found, Loaded, Nearest, Reply, Request, Settings } from "./messages.js";
import { nearest } from "./similar.js";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const MODELS = { detector: "models/centerface.onnx", recognizer: "models/mobilefacenet.onnx" };
/** Size of all networks in bytes, for the progress bar if the server sends no length. */
const EXPECTED_BYTES = 12_200_000;

let networks: { detector: Uint8Array; recognizer: Uint8Array } | undefined;
/** One analyzer per canvas size, because a detector is prepared for one size. */
const analyzers = new Map<number, FaceAnalyzer>();

/** Loads the module and the networks, and reports the progress to the page. */
async function start(wanted: number, crashChannel: string): Promise<Loaded> {
    const progress = new Map<string, { got: number; of: number }>();
    const fetchModel = async (path: string): Promise<Uint8Array> => {
        const response = await cachedFetch(new URL(path, self.location.href));
        if (!response.ok || !response.body) throw new Error(`The server answered ${response.status} for ${path}.`);
        const of = Number(response.headers.get("content-length")) || EXPECTED_BYTES / 2;
        const parts: Uint8Array[] = [];
        let got = 0;
        const reader = response.body.getReader();
        for (let next = await reader.read(); !next.done; next = await reader.read()) {
            parts.push(next.value);
            got += next.value.length;
            progress.set(path, { got, of });
            const all = [...progress.values()];
            const sum = (pick: (p: { got: number; of: number }) => number) => all.reduce((s, p) => s + pick(p), 0);
            scope.postMessage({ progress: sum((p) => p.got) / Math.max(EXPECTED_BYTES, sum((p) => p.of)) } satisfies Reply);
        }
        const bytes = new Uint8Array(got);
        let at = 0;
        for (const part of parts) {
            bytes.set(part, at);
            at += part.length;
        }
        return bytes;
    };
    const supported = supportedBuild();
    const [build, detector, recognizer] = await Promise.all([
        load({ fetch: cachedFetch, threads: wanted, crashChannel, ...(supported && { build: supported }) }),
        fetchModel(MODELS.detector),
        fetchModel(MODELS.recognizer),
    ]);
    networks = { detector, recognizer };
    analyzer(640);
    return { build, threads };
}

function analyzer(canvas: number): FaceAnalyzer {
    if (!networks) throw new Error("The networks are not loaded yet.");
    let found = analyzers.get(canvas);
    if (!found) {
        found = FaceAnalyzer.create(networks.detector, networks.recognizer, { canvas: [canvas, canvas] });
        analyzers.set(canvas, found);
    }
    return found;
}

function analyze(picture: Uint8Array | Pixels, settings: Settings, embedding: boolean): Analysis {
    const { threshold, limitFaces } = settings;
    return analyzer(settings.canvas).analyze(picture, {
        ...(threshold !== undefined && { threshold }),
        ...(limitFaces !== undefined && { limitFaces }),
        embedding,
        crops: true,
    });
}

async function picture(file: Blob, settings: Settings): Promise<Found> {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const started = performance.now();
    const pixels = await decoded(bytes, file);
    const took = performance.now() - started;
    const analysis = analyze(pixels, settings, true);
    analysis.timings.decode += took;
    const image = new ImageData(pixels.data as Uint8ClampedArray<ArrayBuffer>, pixels.width, pixels.height);
    return { analysis, bitmap: await createImageBitmap(image) };
}

async function decoded(bytes: Uint8Array, file: Blob): Promise<Pixels> {
    try {
        return decode(bytes);
    } catch (error) {
        // Some browsers decode AVIF and HEIC, which ifr does not. If the browser fails too, the error of ifr is
        // reported.
        const bitmap = codeOf(error) === "unknown_format" ? await createImageBitmap(file).catch(() => null) : null;
        if (!bitmap) throw error;
        return pixelsOf(bitmap);
    }
}

/** The pixels of a bitmap. Closes the bitmap. */
function pixelsOf(bitmap: ImageBitmap): ImageData {
    const { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("This browser cannot read the pixels of a picture.");
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return context.getImageData(0, 0, width, height);
}

async function answer(request: Request): Promise<Loaded | Found | Nearest> {
    switch (request.kind) {
        case "load":
            return start(request.threads, request.crashChannel);
        case "picture":
            return picture(request.file, request.settings);
        case "frame":
            return { analysis: analyze(pixelsOf(request.bitmap), request.settings, request.embedding) };
        case "nearest":
            return { pair: nearest(request.a, request.b) };
    }
}

/** The buffers that are transferred instead of copied: the crops of a crowd have 100 MB. */
function transferables(value: Loaded | Found | Nearest): Transferable[] {
    if (!("analysis" in value)) return [];
    const arrays = value.analysis.faces.flatMap((face) => [face.crop?.data, face.embedding]);
    const buffers = arrays.flatMap((array) => (array ? [array.buffer as ArrayBuffer] : []));
    return value.bitmap ? [value.bitmap, ...buffers] : buffers;
}

function codeOf(error: unknown): ErrorCode | undefined {
    return (error as { code?: ErrorCode } | null)?.code;
}

scope.onmessage = async ({ data }: MessageEvent<{ id: number; request: Request }>) => {
    const { id, request } = data;
    try {
        const value = await answer(request);
        scope.postMessage({ id, ok: true, value } satisfies Reply, transferables(value));
    } catch (error) {
        const code = codeOf(error);
        let message = error instanceof Error ? error.message : String(error);
        if (code === "crashed") {
            console.warn(error);
            message = "The computation failed: there was not enough memory, or an internal error. You can continue with another picture.";
        }
        scope.postMessage({ id, ok: false, message, code } satisfies Reply);
    }
};
