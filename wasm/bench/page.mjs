// A worker that runs one network in both engines alternately, on the same input.

import * as ort from "/ort/ort.wasm.min.mjs";
import { Network, load, threads as granted } from "/pkg/index.js";

ort.env.wasm.wasmPaths = "/ort/";
ort.env.logLevel = "error";

async function measure({ build, threads, model, shape, seconds, layers }) {
    ort.env.wasm.numThreads = threads;
    globalThis.loaded ??= load({ build, threads });
    await globalThis.loaded;
    if (granted !== threads) throw new Error(`${granted} threads instead of ${threads}`);
    const bytes = new Uint8Array(await (await fetch(`/models/${model}`)).arrayBuffer());
    const ours = new Network(bytes, model);
    const theirs = await ort.InferenceSession.create(openShape(bytes), { executionProviders: ["wasm"], graphOptimizationLevel: "all" });

    // Noise in the range of a normalized picture. Constant input could be unrealistically fast.
    let state = 1;
    const input = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return (state >>> 8) / (1 << 23) - 1;
    });
    const runOurs = () => ours.run(Uint32Array.from(shape), input);
    const runTheirs = () => theirs.run({ [theirs.inputNames[0]]: new ort.Tensor("float32", input, shape) });

    const mine = runOurs();
    const other = await runTheirs();
    let off = 0;
    let scale = 0;
    theirs.outputNames.forEach((name, i) => {
        other[name].data.forEach((value, j) => {
            off = Math.max(off, Math.abs(value - mine[i].data[j]));
            scale = Math.max(scale, Math.abs(value));
        });
    });
    const times = { ifr: [], ort: [] };
    const clock = async (into, run) => {
        const started = performance.now();
        await run();
        into.push(performance.now() - started);
    };
    await runTheirs();
    runOurs();
    const end = performance.now() + seconds * 1000;
    while (times.ifr.length < 7 || performance.now() < end) {
        await clock(times.ifr, runOurs);
        await clock(times.ort, runTheirs);
    }
    const table = layers ? ours.explain(Uint32Array.from(shape), input, 20) : undefined;
    ours.free();
    await theirs.release();
    return { times, error: off / Math.max(1, scale), table };
}

/**
 * A copy of a graph in which all input dimensions except the channels are open. Exporters store a fixed size, which ifr
 * ignores and onnxruntime enforces. Replaces `dim_value: N` by `dim_param: ""`, which has the same length.
 */
function openShape(bytes) {
    const copy = bytes.slice();
    const small = (at) => copy[at] === 0x0a && copy[at + 1] === 2 && copy[at + 2] === 8;
    for (let at = 0; at + 16 <= copy.length; at++) {
        if (![0, 4, 8, 12].every((d) => small(at + d)) || copy[at + 7] !== 3) continue;
        for (const d of [0, 8, 12]) copy.set([0x12, 0], at + d + 2);
    }
    return copy;
}

self.onmessage = async ({ data }) => {
    try {
        self.postMessage(await measure(data));
    } catch (error) {
        self.postMessage({ failed: String(error) });
    }
};
