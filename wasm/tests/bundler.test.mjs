// The package in a project that is bundled with Vite without configuration for its modules.

import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "vite";
import { astronaut, noThreads, openBrowser, root, serveFiles } from "./support.mjs";

let project;
let server;
let browser;

const page = `
    import Finder from "./finder.js?worker";
    window.find = (threads) => {
        const worker = new Finder();
        worker.postMessage(threads);
        return new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
            worker.onerror = (event) => reject(new Error(event.message));
        });
    };
`;
const finder = `
    import { FaceAnalyzer, load, threads } from "ifr-wasm";
    const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
    self.onmessage = async ({ data }) => {
        try {
            await load({ threads: data });
            const analyzer = FaceAnalyzer.create(await bytes("/models/centerface.onnx"));
            self.postMessage({ faces: analyzer.analyze(await bytes("/picture")).faces.length, threads });
        } catch (error) {
            self.postMessage({ error: String(error) });
        }
    };
`;

before(async () => {
    project = await mkdtemp(join(root, "target/wasm/bundled-"));
    const installed = join(project, "node_modules/ifr-wasm");
    await mkdir(installed, { recursive: true });
    await cp(join(root, "wasm/pkg"), installed, { recursive: true });
    await writeFile(join(project, "index.html"), `<!doctype html><title>bundled</title><script type="module" src="/main.js"></script>`);
    await writeFile(join(project, "main.js"), page);
    await writeFile(join(project, "finder.js"), finder);
    // Module workers, as the README requires: the package imports the glue of the threads build dynamically.
    await build({ root: project, configFile: false, logLevel: "error", worker: { format: "es" } });
    server = await serveFiles({ "/models/": join(root, "models/onnx"), "/picture": astronaut, "/": join(project, "dist") });
    browser = await openBrowser();
});
after(async () => {
    await browser?.close();
    server?.close();
    if (project) await rm(project, { recursive: true });
});

test("bundler: the modules are emitted", async () => {
    const names = await readdir(join(project, "dist/assets"));
    for (const build of ["simd", "relaxed", ...(noThreads ? [] : ["threads"])]) {
        assert.ok(names.some((name) => name.startsWith(`ifr_${build}`) && name.endsWith(".wasm")), `${build} among ${names}`);
    }
});

for (const threads of noThreads ? [1] : [1, 2]) {
    test(`bundler: the result finds a face with ${threads} thread${threads > 1 ? "s" : ""}`, async () => {
        const page = await browser.context.newPage();
        await page.goto(server.url);
        await page.waitForFunction(() => window.find);
        assert.deepEqual(await page.evaluate((threads) => window.find(threads), threads), { faces: 1, threads });
        await page.close();
    });
}
