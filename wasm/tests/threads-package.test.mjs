// The package with threads, in a worker of a cross-origin isolated page: the number of threads, and results equal to
// those of one thread.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { astronaut, noThreads, openBrowser, root, serveFiles, sixFaces } from "./support.mjs";

const picture = sixFaces ?? astronaut;
let server;
let browser;

before(async () => {
    const model = (name) => join(root, `models/onnx/${name}/${name}.onnx`);
    server = await serveFiles({
        "/pkg/": join(root, "wasm/pkg"),
        "/tests/": join(root, "wasm/tests"),
        "/bench/": join(root, "wasm/bench"),
        "/models/detector": model("centerface"),
        "/models/recognizer": model("mobilefacenet"),
        "/picture": picture,
    });
    browser = await openBrowser();
});
after(async () => {
    await browser?.close();
    server?.close();
});

/** A page with a worker that has loaded the package with `options`: `{ page, loaded, analyze }`. */
async function loadInWorker(options) {
    const page = await browser.context.newPage();
    await page.goto(`${server.url}bench/index.html`);
    const loaded = await page.evaluate(async (options) => {
        const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
        const worker = new Worker("/tests/in-worker.mjs", { type: "module" });
        window.ask = (message) => {
            worker.postMessage(message);
            return new Promise((resolve, reject) => {
                worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
                worker.onerror = (event) => reject(new Error(event.message));
            });
        };
        window.picture = await bytes("/picture");
        return window.ask({ load: options, models: [await bytes("/models/detector"), await bytes("/models/recognizer")] });
    }, options);
    const analyze = () =>
        page.evaluate(async () => {
            const { faces } = await window.ask({ picture: window.picture });
            return faces.map(({ bbox, landmarks, prob, embedding }) => ({ bbox, landmarks, prob, embedding: [...embedding] }));
        });
    return { page, loaded, analyze };
}

test("threads: results equal those of one thread exactly", { skip: noThreads }, async () => {
    const one = await loadInWorker({});
    assert.deepEqual(one.loaded, { build: "relaxed", threads: 1, available: true });
    assert.equal(one.page.workers().length, 1);
    const expected = await one.analyze();
    assert.equal(expected.length, sixFaces ? 6 : 1);
    for (const count of [2, 3, 5]) {
        const several = await loadInWorker({ threads: count });
        assert.deepEqual(several.loaded, { build: "relaxed", threads: count, available: true });
        // Repeated, because the distribution of work to threads differs between runs. The results must not.
        for (let round = 0; round < 5; round++) assert.deepEqual(await several.analyze(), expected, `${count} threads, round ${round}`);
        await several.page.close();
    }
    await one.page.close();
});

test("threads: an explicit build without threads uses one thread", async () => {
    const { page, loaded } = await loadInWorker({ build: "simd", threads: 2 });
    assert.deepEqual(loaded, { build: "simd", threads: 1, available: true });
    await page.close();
});

test("threads: one thread if the threads build cannot be fetched", async () => {
    await browser.context.route("**/ifr_threads.wasm", (route) => route.fulfill({ status: 404 }));
    const { page, loaded, analyze } = await loadInWorker({ threads: 2 });
    assert.deepEqual(loaded, { build: "relaxed", threads: 1, available: true });
    assert.equal((await analyze()).length, sixFaces ? 6 : 1);
    await page.close();
    await browser.context.unroute("**/ifr_threads.wasm");
});
