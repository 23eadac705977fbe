// The glue of the threads build: the functions of the other builds, and those of wasm/src/threads.rs.

export * from "./ifr_wasm.js";
export default function init(options: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<unknown>;
export function buildThreads(count: number): void;
export function runThread(): void;
export function threadCount(): number;
export function threadMemory(): WebAssembly.Memory;
