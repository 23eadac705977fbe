// The glue of the build with threads: that of the others, and what wasm/src/threads.rs adds.

export * from "./ifr_wasm.js";
export default function init(options: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<unknown>;
export function buildThreads(count: number): void;
export function runThread(): void;
export function threadCount(): number;
export function threadMemory(): WebAssembly.Memory;
