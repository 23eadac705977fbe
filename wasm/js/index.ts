// The entry of the npm package: picks the build this browser can run, loads it, and passes on what it exports.

import init from "./ifr_wasm.js";

export { FaceAnalyzer, Network, decode, similarity, version } from "./ifr_wasm.js";
export type { Analysis, AnalyzeOptions, CreateOptions, Face, Picture, Pixels, Point, Tensor, Timings } from "./ifr_wasm.js";

/** `relaxed`: fused multiply-add where the processor has it. `simd`: every browser since 2021 (Safari since 2023). */
export type Build = "relaxed" | "simd";

export interface LoadOptions {
    /** Which build to load; by default the faster one this browser runs. */
    build?: Build;
    /** Where the two .wasm files are; by default beside this script. */
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

/**
 * Loads the module; call it once, before anything else, and in a worker: analysing a picture takes long enough to freeze a page.
 *
 * @returns the build that was loaded
 * @throws when the browser has no WebAssembly SIMD, or the file cannot be fetched
 */
export async function load(options: LoadOptions = {}): Promise<Build> {
    const build = options.build ?? supportedBuild();
    if (build === undefined) {
        throw new Error("This browser cannot run ifr: it has no WebAssembly SIMD. Any browser made since 2023 has.");
    }
    const url = new URL(`ifr_${build}.wasm`, options.base ?? import.meta.url);
    const response = await (options.fetch ?? fetch)(url);
    if (!response.ok) {
        throw new Error(`The server answered ${response.status} for ${url.pathname}.`);
    }
    await init({ module_or_path: response });
    return build;
}
