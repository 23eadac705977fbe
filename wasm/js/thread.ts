// A worker that becomes one thread of the engine. Started by index.ts, which sends it the module and its memory.

import init, { runThread } from "./ifr_threads.js";

interface Task {
    module: WebAssembly.Module;
    memory: WebAssembly.Memory;
    /** Name of the channel on which to say that this thread stopped. */
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
        // Does not return: from here on this worker hears no messages.
        runThread();
    } catch (error) {
        // The worker that waits for this thread hears nothing either, so this goes past it.
        if (data.crashChannel) new BroadcastChannel(data.crashChannel).postMessage(String(error));
        throw error;
    }
};
