// The option "Use all cores": several threads and the same faces on a cross-origin isolated page, one thread elsewhere.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { brotliDecompressSync } from "node:zlib";
import { astronaut, ifr, noThreads, openBrowser, ready, root, servePage, serveFiles, sixFaces, until } from "./support.mjs";

const picture = sixFaces ?? astronaut;
const expected = JSON.parse(execFileSync(ifr, ["extract", picture], { encoding: "utf8", maxBuffer: 1 << 26 }).split("\n")[0]).faces;
let server;

beforeEach(async () => (server = await servePage()));
afterEach(() => server.close());

/** Runs `use` on a page of a new browser with these context options. Fails if the console has errors or warnings. */
async function visit(options, use) {
    const browser = await openBrowser([], options);
    try {
        const page = await browser.context.newPage();
        const complaints = [];
        page.on("pageerror", (error) => complaints.push(String(error)));
        page.on("console", (message) => {
            // Playwright logs the service workers that this test blocks.
            const complains = ["error", "warning"].includes(message.type()) && !message.text().endsWith("blocked by Playwright");
            if (complains) complaints.push(message.text());
        });
        await use(page);
        assert.deepEqual(complaints, []);
    } finally {
        await browser.close();
    }
}

async function findFaces(page) {
    await page.locator("#pane-A .file").setInputFiles(picture);
    await page.waitForSelector("#pane-A[data-state=picture]");
    return page.evaluate(() => window.ifr.panes[0].faces.map(({ bbox, embedding }) => ({ bbox, embedding: [...embedding] })));
}

function assertSame(found) {
    assert.equal(found.length, expected.length);
    found.forEach((face, i) => {
        const off = Math.max(...face.bbox.map((value, j) => Math.abs(value - expected[i].bbox[j])));
        const cosine = face.embedding.reduce((sum, value, j) => sum + value * expected[i].vec[j], 0);
        assert.ok(off < 1, `face ${i + 1} is ${off} pixels off`);
        assert.ok(cosine > 0.999, `face ${i + 1}: embeddings at cosine ${cosine}`);
    });
}

const inUse = async (page) => Number((await page.locator("#build").textContent()).match(/on (\d+) threads/)?.[1] ?? 1);

test("all cores: same faces, also offline on the second visit", { skip: noThreads }, async (t) => {
    await visit({}, async (page) => {
        await page.goto(server.url);
        await ready(page);
        assert.equal(await inUse(page), 1);
        const cores = await page.evaluate(() => navigator.hardwareConcurrency);
        if (cores < 2) return t.skip("skipped: this machine has one core");
        await page.locator(".options summary").click();
        await page.locator("#cores").focus();
        await page.keyboard.press("Space");
        await ready(page);
        assert.equal(await inUse(page), cores);
        assertSame(await findFaces(page));

        // Waits until the service worker controls the page and the cache contains the files of the threads.
        await until(page, async () => {
            const cached = await (await caches.open((await caches.keys()).find((k) => k.startsWith("ifr-")))).keys();
            const has = (name) => cached.some(({ url }) => url.endsWith(name));
            return navigator.serviceWorker.controller !== null && ["thread.js", "ifr_threads.wasm", "ifr_relaxed.wasm"].every(has);
        });
        await server.close();
        await assert.rejects(fetch(server.url));
        await page.reload();
        await ready(page);
        assert.equal(await inUse(page), cores, "the setting is stored");
        assertSame(await findFaces(page));

        await page.locator(".options summary").click();
        await page.locator("#cores").uncheck();
        await ready(page);
        assert.equal(await inUse(page), 1);
    });
});

test("all cores: not available without cross-origin isolation", async () => {
    await visit({ serviceWorkers: "block" }, async (page) => {
        await page.route(server.url, async (route) => {
            const response = await route.fetch();
            const headers = response.headers();
            delete headers["cross-origin-opener-policy"];
            delete headers["cross-origin-embedder-policy"];
            await route.fulfill({ response, headers });
        });
        await page.goto(server.url);
        await page.evaluate(() => localStorage.setItem("ifr-all-cores", "yes"));
        await page.reload();
        await ready(page);
        assert.equal(await page.evaluate(() => crossOriginIsolated), false);
        assert.equal(await inUse(page), 1);
        await page.locator(".options summary").click();
        assert.ok(await page.locator("#cores").isDisabled());
        assert.match(await page.locator("#cores-note").textContent(), /COOP and COEP/);
        assertSame(await findFaces(page));
    });
});

/** Writes a copy of thread.js in which every thread traps as soon as it runs. Returns its path. */
async function mortalThreads(directory) {
    const path = join(directory, "thread.js");
    const script = brotliDecompressSync(await readFile(join(root, "wasm/dist/thread.js.br")));
    const trap = `{
        const instantiate = WebAssembly.instantiate;
        WebAssembly.instantiate = async (...given) => {
            const { exports } = await instantiate(...given);
            const runThread = () => { throw new WebAssembly.RuntimeError("unreachable"); };
            return Object.create(WebAssembly.Instance.prototype, { exports: { value: { ...exports, runThread } } });
        };
    }
`;
    await writeFile(path, trap + script);
    return path;
}

test("all cores: the page continues with one thread after a crash", { skip: noThreads }, async () => {
    const directory = await mkdtemp(join(tmpdir(), "ifr-threads-"));
    const model = (name) => join(root, `models/onnx/${name}/${name}.onnx`);
    const files = await serveFiles({
        "/demo/thread.js": await mortalThreads(directory),
        "/demo/models/centerface.onnx": model("centerface"),
        "/demo/models/mobilefacenet.onnx": model("mobilefacenet"),
        "/demo/": join(root, "wasm/dist"),
    });
    const browser = await openBrowser();
    try {
        const page = await browser.context.newPage();
        await page.goto(`${files.url}demo/`);
        await ready(page);
        await page.locator(".options summary").click();
        await page.locator("#cores").check();
        await page.waitForFunction(() => /a thread failed/.test(document.querySelector("#cores-note").textContent));
        await ready(page);
        assert.equal(await inUse(page), 1);
        assertSame(await findFaces(page));
    } finally {
        await browser.close();
        files.close();
        await rm(directory, { recursive: true });
    }
});
