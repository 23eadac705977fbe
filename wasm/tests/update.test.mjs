// A new version of the page: one visit stores all of its files, so that it works without a network.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { brotliDecompressSync } from "node:zlib";
import { astronaut, openBrowser, ready, root, until } from "./support.mjs";

const types = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml", wasm: "application/wasm", webmanifest: "application/manifest+json" };
const unpack = async (name) => brotliDecompressSync(await readFile(join(root, `wasm/dist/${name}.br`)));
let built;
/** The version that is served. */
let version;
let server;
let browser;

before(async () => {
    built = (await unpack("sw.js")).toString().match(/ifr-([0-9a-f]{12})/)[1];
    version = built;
    server = createServer(async (request, response) => {
        const name = new URL(request.url, "http://x").pathname.replace("/demo/", "") || "index.html";
        const model = name.match(/^models\/(\w+)\.onnx$/)?.[1];
        const body = await (model ? readFile(join(root, `models/onnx/${model}/${model}.onnx`)) : unpack(name)).catch(() => undefined);
        if (!body) return response.writeHead(404).end();
        const type = types[name.split(".").pop()] ?? "application/octet-stream";
        const content = name.endsWith(".js") ? body.toString().replaceAll(built, version) : body;
        response.writeHead(200, { "content-type": type, "cache-control": "no-cache" }).end(content);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    browser = await openBrowser();
});
after(async () => {
    await browser?.close();
    server?.closeAllConnections();
    server?.close();
});

test("offline: the page works without a network after an update", async () => {
    const page = await browser.context.newPage();
    const url = `http://127.0.0.1:${server.address().port}/demo/`;
    const stored = () =>
        page.evaluate(async () => {
            const names = (await caches.keys()).filter((name) => name.startsWith("ifr-"));
            const files = async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url.split("/demo/")[1]).sort();
            return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await files(name)])));
        });
    const storedAll = (version) =>
        until(page, async (name) => {
            const names = (await caches.keys()).filter((name) => name.startsWith("ifr-"));
            return names.length === 1 && names[0] === name && (await (await caches.open(name)).keys()).length >= 10;
        }, `ifr-${version}`);
    await page.goto(url);
    await ready(page);
    await storedAll(built);
    const before = (await stored())[`ifr-${built}`];
    assert.ok(["models/centerface.onnx", "models/mobilefacenet.onnx"].every((name) => before.includes(name)), String(before));
    // A file of an older version that this version does not have.
    await page.evaluate(async (name) => (await caches.open(name)).put("gone.wasm", new Response("old")), `ifr-${built}`);

    version = "0123456789ab";
    await page.goto(url);
    await ready(page);
    await storedAll(version);
    assert.deepEqual((await stored())[`ifr-${version}`], before);

    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await page.goto(url);
    await ready(page);
    await page.locator("#pane-A .file").setInputFiles(astronaut);
    await page.waitForSelector("#pane-A[data-state=picture]");
    assert.equal(await page.locator("#pane-A .face").count(), 1);
});
