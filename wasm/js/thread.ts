// A worker that becomes a thread of the engine. index.ts starts it and sends it the module and its memory.

import init, { runThread } from "./ifr_threads.js";

interface Task {
    module: WebAssembly.Module;
    memory: WebAssembly.Memory;
    /** Name of the channel on which this thread reports a crash. */
    crashChannel: string | undefined;
}

self.onmessage = async ({ data }: MessageEvent<Task>) => {
    try {
        await init({ module_or_path: data.module, memory: data.memory });
    } catch (error) {
        self.postMessage({ failed: String(error) });
        return;
    }
    self.postMessage("ready");
    try {
        // Does not return, so this worker receives no further messages.
        runThread();
    } catch (error) {
        // The worker that waits for this thread cannot receive messages either; the channel leads to the page.
        if (data.crashChannel) new BroadcastChannel(data.crashChannel).postMessage(String(error));
        throw error;
    }
};
