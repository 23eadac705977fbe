// The page's side of the worker: sends requests, receives replies, and replaces a worker that has crashed.

import type { Found, Loaded, Reply, Request, Settings } from "./messages.js";
import type { Embeddings, Pair } from "./similar.js";

/** The worker was replaced during a request. The request can be repeated. */
export class Interrupted extends Error {}

type Waiting = { resolve: (value: never) => void; reject: (error: Error) => void };

export class Client {
    #worker: Worker | undefined;
    #ready: Promise<Loaded> | undefined;
    #waiting = new Map<number, Waiting>();
    #next = 0;
    #threads: number;
    #crashChannel: BroadcastChannel | undefined;
    #onProgress: (share: number) => void;
    #onLostThread: () => void;

    /**
     * `onProgress` receives the loaded share of the networks, 0 to 1. `onLostThread` is called when a thread has
     * crashed; the client then continues with one thread.
     */
    constructor(threads: number, onProgress: (share: number) => void, onLostThread: () => void) {
        this.#threads = threads;
        this.#onProgress = onProgress;
        this.#onLostThread = onLostThread;
    }

    /** Changes the number of threads. This needs a new worker, because a module cannot change its threads. */
    useThreads(threads: number) {
        this.#threads = threads;
        this.#restart(new Interrupted("The number of threads was changed. Try again."));
    }

    /** Loads the networks once: concurrent calls share the result. A call after a failure loads again. */
    load(): Promise<Loaded> {
        if (this.#ready) return this.#ready;
        const ready = this.#ask<Loaded>({ kind: "load", threads: this.#threads, crashChannel: this.#listen() }).catch((error: Error) => {
            if (this.#ready === ready) this.#restart(error);
            throw error;
        });
        this.#ready = ready;
        return ready;
    }

    /** Decodes and analyzes a picture file. Repeats the request once if the worker was replaced. */
    async picture(file: Blob, settings: Settings): Promise<Found> {
        await this.load();
        const ask = () => this.#ask<Found>({ kind: "picture", file, settings });
        return ask().catch(async (error: Error) => {
            if (!(error instanceof Interrupted)) throw error;
            await this.load();
            return ask();
        });
    }

    /**
     * Analyzes a camera frame. `bitmap` is transferred to the worker. Throws `Interrupted` if the worker was replaced.
     */
    async frame(bitmap: ImageBitmap, settings: Settings, embedding: boolean): Promise<Found> {
        await this.load();
        return this.#ask<Found>({ kind: "frame", bitmap, settings, embedding }, [bitmap]);
    }

    /** The most similar pair of faces, computed by the worker. */
    async nearest(a: Embeddings, b: Embeddings): Promise<Pair | undefined> {
        await this.load();
        const { pair } = await this.#ask<{ pair: Pair | undefined }>({ kind: "nearest", a, b });
        return pair;
    }

    #ask<T>(request: Request, transfer: Transferable[] = []): Promise<T> {
        const worker = (this.#worker ??= this.#start());
        const id = this.#next++;
        return new Promise<T>((resolve, reject) => {
            this.#waiting.set(id, { resolve, reject });
            worker.postMessage({ id, request }, transfer);
        });
    }

    #start(): Worker {
        const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
        worker.onmessage = ({ data }: MessageEvent<Reply>) => this.#receive(data);
        worker.onerror = () => this.#restart(new Error("The worker could not be started. Reload the page."));
        return worker;
    }

    /**
     * Opens the channel on which threads of the worker report a crash, and returns its name. The worker itself cannot
     * report it: it waits for the crashed thread forever.
     */
    #listen(): string {
        const channel = new BroadcastChannel(`ifr-${Math.random()}`);
        channel.onmessage = () => {
            this.#threads = 1;
            this.#restart(new Interrupted("The computation was interrupted. Try again."));
            this.#onLostThread();
        };
        this.#crashChannel = channel;
        return channel.name;
    }

    #receive(reply: Reply) {
        if ("progress" in reply) return this.#onProgress(reply.progress);
        const waiting = this.#waiting.get(reply.id);
        this.#waiting.delete(reply.id);
        if (reply.ok) return waiting?.resolve(reply.value as never);
        waiting?.reject(new Error(reply.message));
        if (reply.code === "crashed") this.#restart(new Interrupted("The computation was interrupted. Try again."));
    }

    /** Ends the worker and rejects all open requests with `error`. The next request starts a new worker. */
    #restart(error: Error) {
        this.#worker?.terminate();
        this.#crashChannel?.close();
        this.#worker = undefined;
        this.#ready = undefined;
        const waiting = [...this.#waiting.values()];
        this.#waiting.clear();
        for (const { reject } of waiting) reject(error);
    }
}
