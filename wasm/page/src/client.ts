// The page's side of the worker: questions with answers, and a new worker when the old one is dead.

import type { Found, Loaded, Reply, Request, Settings } from "./messages.js";
import type { Embeddings, Pair } from "./similar.js";

/** The worker was replaced while it worked on a question that can be asked again. */
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

    /** `onLostThread`: called when a thread died, which leaves one thread to go on with. */
    constructor(threads: number, onProgress: (share: number) => void, onLostThread: () => void) {
        this.#threads = threads;
        this.#onProgress = onProgress;
        this.#onLostThread = onLostThread;
    }

    /** Goes on with another number of threads: in a new worker, for a module keeps the threads it began with. */
    useThreads(threads: number) {
        this.#threads = threads;
        this.#restart(new Interrupted("The number of threads was changed. Try again."));
    }

    /** Loads the networks; further calls wait for the same loading, and load again after a failure. */
    load(): Promise<Loaded> {
        if (this.#ready) return this.#ready;
        const ready = this.#ask<Loaded>({ kind: "load", threads: this.#threads, crashChannel: this.#listen() }).catch((error: Error) => {
            if (this.#ready === ready) this.#restart(error);
            throw error;
        });
        this.#ready = ready;
        return ready;
    }

    async picture(file: Blob, settings: Settings): Promise<Found> {
        await this.load();
        const ask = () => this.#ask<Found>({ kind: "picture", file, settings });
        return ask().catch(async (error: Error) => {
            if (!(error instanceof Interrupted)) throw error;
            await this.load();
            return ask();
        });
    }

    /** Takes `bitmap` over. Throws `Interrupted` when the next frame is worth a try. */
    async frame(bitmap: ImageBitmap, settings: Settings, embedding: boolean): Promise<Found> {
        await this.load();
        return this.#ask<Found>({ kind: "frame", bitmap, settings, embedding }, [bitmap]);
    }

    /** The two faces that are most alike. */
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
        worker.onmessage = ({ data }: MessageEvent<Reply>) => this.#hear(data);
        worker.onerror = () => this.#restart(new Error("The worker could not be started. Reload the page."));
        return worker;
    }

    /** The name of a channel on which threads of the worker call: it waits for a dead one for ever, and cannot tell. */
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

    #hear(reply: Reply) {
        if ("progress" in reply) return this.#onProgress(reply.progress);
        const waiting = this.#waiting.get(reply.id);
        this.#waiting.delete(reply.id);
        if (reply.ok) return waiting?.resolve(reply.value as never);
        waiting?.reject(new Error(reply.message));
        if (reply.dead) this.#restart(new Interrupted("The computation was interrupted. Try again."));
    }

    /** Drops the worker; whoever still waits hears `error`. The next question starts another one. */
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
