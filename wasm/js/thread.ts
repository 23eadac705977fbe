// A worker that becomes one thread of the engine. Started by index.ts, which sends it the module and its memory.

import init, { runThread } from "./ifr_threads.js";

self.onmessage = async ({ data }: MessageEvent<{ module: WebAssembly.Module; memory: WebAssembly.Memory }>) => {
    await init({ module_or_path: data.module, memory: data.memory });
    self.postMessage("ready");
    // Does not return: from here on this worker hears no messages.
    runThread();
};
