// The entry of the npm package: picks the build this browser can run, loads it, and passes on what it exports.

import * as single from "./ifr_wasm.js";
import { withCodes } from "./errors.js";

// The classes and functions of the build that was loaded: before `load`, and with one thread, those of the glue of the others.
export let { FaceAnalyzer, Network, decode, similarity, version } = withCodes(single);
export type { ErrorCode } from "./errors.js";
export type FaceAnalyzer = single.FaceAnalyzer;
export type Network = single.Network;
export type { Analysis, AnalyzeOptions, CreateOptions, Face, Picture, Pixels, Point, Tensor, Timings } from "./ifr_wasm.js";

/** `relaxed`: fused multiply-add where the processor has it. `simd`: every browser since 2021 (Safari since 2023). */
export type Build = "relaxed" | "simd";

export interface LoadOptions {
    /** Which build to load for one thread; by default the faster one this browser runs. */
    build?: Build;
    /**
     * Threads one analysis may use, 1 to 64; by default 1. More than one takes a page that is cross-origin isolated and a browser
     * with relaxed SIMD (see `threadsAvailable`): elsewhere, and where workers or memory cannot be had, it is one thread after all.
     * `threads` says what it came to. Read `FaceAnalyzer` and the functions from this module after `load`, not before.
     */
    threads?: number;
    /**
     * Name of a `BroadcastChannel` on which a thread that stops on an internal error says why. The analysis it was part of then
     * never ends, and nothing in the worker that waits for it can tell: whoever started that worker listens, and terminates it.
     */
    crashChannel?: string;
    /**
     * The directory of the .wasm files, ending in a slash, when they are not beside this script: for a CDN, or a build that copies
     * them by hand. A relative one starts from the page or the worker. Bundlers that know `new URL("./file", import.meta.url)` need none.
     */
    base?: string | URL;
    /** Fetches a file, for callers with a cache of their own. */
    fetch?: (url: URL) => Promise<Response>;
}

// The smallest modules that use one instruction of each kind: i8x16.popcnt and i8x16.relaxed_swizzle.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const RELAXED = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253,
    128, 2, 11,
];

/** The faster build this browser runs, or `undefined` when it has no WebAssembly SIMD. */
export function supportedBuild(): Build | undefined {
    const runs = (module: number[]) => typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(module));
    if (runs(RELAXED)) return "relaxed";
    return runs(SIMD) ? "simd" : undefined;
}

/** Whether this browser and this page let `load` use more than one thread. */
export function threadsAvailable(): boolean {
    const isolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true;
    return isolated && typeof SharedArrayBuffer === "function" && typeof Worker === "function" && supportedBuild() === "relaxed";
}

/** Threads that one analysis uses, known when `load` is done. */
export let threads = 1;

// A worker nobody refers to may be collected while it runs (https://bugzilla.mozilla.org/show_bug.cgi?id=1702191).
let workers: Worker[] = [];

/**
 * Loads the module; call it once, before anything else, and in a worker: analysing a picture takes long enough to freeze a page,
 * and with several threads it waits in a way that pages may not.
 *
 * @returns the build that was loaded; the one with threads has relaxed SIMD
 * @throws when the browser has no WebAssembly SIMD, the file cannot be fetched, or `threads` is out of range
 */
export async function load(options: LoadOptions = {}): Promise<Build> {
    const build = options.build ?? supportedBuild();
    if (build === undefined) {
        throw new Error("This browser cannot run ifr: it has no WebAssembly SIMD. Any browser made since 2023 has.");
    }
    const wanted = options.threads ?? 1;
    if (!Number.isInteger(wanted) || wanted < 1 || wanted > 64) {
        throw new Error(`'threads' must be a whole number from 1 to 64, not ${wanted}.`);
    }
    if (wanted > 1 && build === "relaxed" && threadsAvailable()) {
        try {
            await loadThreads(wanted, options);
            return build;
        } catch (error) {
            console.warn("ifr goes on with one thread:", error);
            for (const worker of workers) worker.terminate();
            workers = [];
        }
    }
    await single.default({ module_or_path: await fetchModule(build, options) });
    return build;
}

// Written out one by one: that is how bundlers learn of a file.
const FILES = {
    simd: () => new URL("./ifr_simd.wasm", import.meta.url),
    relaxed: () => new URL("./ifr_relaxed.wasm", import.meta.url),
    threads: () => new URL("./ifr_threads.wasm", import.meta.url),
};

async function fetchModule(build: keyof typeof FILES, options: LoadOptions): Promise<Response> {
    const named = () => new URL(`ifr_${build}.wasm`, new URL(options.base ?? "", globalThis.location?.href ?? import.meta.url));
    const url = options.base === undefined ? FILES[build]() : named();
    const response = await (options.fetch ?? fetch)(url);
    if (!response.ok) {
        throw new Error(`The server answered ${response.status} for ${url.pathname}.`);
    }
    return response;
}

async function loadThreads(count: number, options: LoadOptions) {
    const [glue, response] = await Promise.all([import("./ifr_threads.js"), fetchModule("threads", options)]);
    const module = await WebAssembly.compile(await response.arrayBuffer());
    await glue.default({ module_or_path: module });
    const memory = glue.threadMemory();
    // All must be there before the pool is built: once inside the module, this worker starts no others.
    await Promise.all(Array.from({ length: count }, () => startWorker(module, memory, options.crashChannel)));
    glue.buildThreads(count);
    ({ FaceAnalyzer, Network, decode, similarity, version } = withCodes(glue));
    threads = glue.threadCount();
}

function startWorker(module: WebAssembly.Module, memory: WebAssembly.Memory, crashChannel: string | undefined): Promise<void> {
    const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
    workers.push(worker);
    return new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => (data === "ready" ? resolve() : reject(new Error(data.failed)));
        worker.onerror = (event) => reject(new Error(`A thread could not be started. ${event.message ?? ""}`));
        worker.postMessage({ module, memory, crashChannel });
    });
}
