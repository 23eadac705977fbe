// The entry point of the npm package: selects and loads a build that the browser supports, and exports its functions.

import * as single from "./ifr_wasm.js";
import { withCodes } from "./errors.js";

// The glue for one thread; `load` replaces these by the glue of the threads build.
export let { FaceAnalyzer, Network, decode, similarity, version } = withCodes(single);
export type { ErrorCode } from "./errors.js";
export type FaceAnalyzer = single.FaceAnalyzer;
export type Network = single.Network;
export type { Analysis, AnalyzeOptions, CreateOptions, Face, Picture, Pixels, Point, Tensor, Timings } from "./ifr_wasm.js";

/** `relaxed` uses relaxed SIMD (fused multiply-add). `simd` runs in every browser since 2021 (Safari since 2023). */
export type Build = "relaxed" | "simd";

export interface LoadOptions {
    /** The build for one thread. Default: the fastest build that the browser supports. */
    build?: Build;
    /**
     * Number of threads per analysis, 1 to 64. Default: 1. More than one needs a cross-origin isolated page and a
     * browser with relaxed SIMD (see `threadsAvailable`); otherwise, and if workers or memory are not available, one
     * thread is used. The exported `threads` is the number in use. Read `FaceAnalyzer` and the functions from this
     * module after `load`, not before.
     */
    threads?: number;
    /**
     * Name of a `BroadcastChannel` on which a thread reports an internal error that stopped it. The analysis then never
     * ends, and the worker that waits for it cannot detect this. The code that started that worker must listen, and
     * terminate it.
     */
    crashChannel?: string;
    /**
     * The directory of the .wasm files, with a slash at its end, if they are not next to this script: for a CDN, or a
     * build that copies them by hand. A relative URL is resolved from the page or the worker. Bundlers that support
     * `new URL("./file", import.meta.url)` do not need this option.
     */
    base?: string | URL;
    /** Replaces the global `fetch`, for example to use a cache. */
    fetch?: (url: URL) => Promise<Response>;
}

// Minimal modules with one instruction of each extension: i8x16.popcnt and i8x16.relaxed_swizzle.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const RELAXED = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253,
    128, 2, 11,
];

/** The fastest build that the browser supports; `undefined` if the browser has no WebAssembly SIMD. */
export function supportedBuild(): Build | undefined {
    const runs = (module: number[]) => typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(module));
    if (runs(RELAXED)) return "relaxed";
    return runs(SIMD) ? "simd" : undefined;
}

/** True if the browser and the page allow `load` to use more than one thread. */
export function threadsAvailable(): boolean {
    const isolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true;
    return isolated && typeof SharedArrayBuffer === "function" && typeof Worker === "function" && supportedBuild() === "relaxed";
}

/** Number of threads per analysis; valid after `load`. */
export let threads = 1;

// Without a reference, a running worker may be garbage-collected
// (https://bugzilla.mozilla.org/show_bug.cgi?id=1702191).
let workers: Worker[] = [];

/**
 * Loads the module. Call it once, before all other functions, and in a worker: an analysis takes long enough to freeze
 * a page, and with several threads it blocks, which browsers do not allow on a page.
 *
 * @returns the build that was loaded; the threads build counts as `relaxed`
 * @throws if the browser has no WebAssembly SIMD, the file cannot be fetched, or `threads` is out of range
 */
export async function load(options: LoadOptions = {}): Promise<Build> {
    const build = options.build ?? supportedBuild();
    if (build === undefined) {
        throw new Error("This browser cannot run ifr, because it has no WebAssembly SIMD. Browsers released since 2023 support it.");
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
            console.warn("ifr continues with one thread:", error);
            for (const worker of workers) worker.terminate();
            workers = [];
        }
    }
    await single.default({ module_or_path: await fetchModule(build, options) });
    return build;
}

// Bundlers recognize files only in complete expressions, so each is written out.
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
    // All workers must be ready before the pool is built: this worker cannot start others from inside the module.
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
