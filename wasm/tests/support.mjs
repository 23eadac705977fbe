// What the tests and the benchmark share: where things are, a server for the page, a browser.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { chromium } from "playwright-core";

export const root = fileURLToPath(new URL("../../", import.meta.url));
/** The native program, whose results are the truth. */
export const ifr = process.env.IFR_BIN ?? join(root, "target/release/ifr");
export const astronaut = join(root, "assets/astronaut.jpg");

/** Why tests of threads are skipped; `false` when the package has them. */
export const noThreads = existsSync(join(root, "wasm/pkg/ifr_threads.wasm")) ? false : "the package was built without threads";

/** Reference pictures that are not in the repository. */
const data = process.env.IFR_TEST_DATA ?? join(root, "../shared");
export const sixFaces = existsSync(join(data, "images/t1.jpg")) ? join(data, "images/t1.jpg") : undefined;
export const reference = (name) => (existsSync(join(data, name)) ? join(data, name) : undefined);

const types = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml", wasm: "application/wasm", webmanifest: "application/manifest+json", onnx: "application/octet-stream", mjs: "text/javascript" };

/** Serves the built page from `ifr serve`, as users get it. `{ url, close }`; `url` ends in /demo/. */
export async function servePage() {
    const port = 20_000 + Math.floor(Math.random() * 20_000);
    const child = spawn(ifr, ["serve", "--port", String(port)], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PORT: String(port), RUST_LOG: "warn" } });
    let said = "";
    child.stdout.on("data", (text) => (said += text));
    child.stderr.on("data", (text) => (said += text));
    const url = `http://127.0.0.1:${port}/demo/`;
    for (let attempt = 0; attempt < 150; attempt++) {
        if (child.exitCode !== null) break;
        const answer = await fetch(url).catch(() => undefined);
        if (answer?.ok) return { url, close: () => killed(child) };
        await new Promise((resolve) => setTimeout(resolve, 200));
    }
    child.kill();
    throw new Error(`${ifr} serve does not serve ${url}: ${said.slice(-2000)}`);
}

/** Resolves when the process is gone: a polite signal would let it answer a little longer. */
function killed(child) {
    if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
        child.once("exit", resolve);
        child.kill("SIGKILL");
    });
}

/** Serves files by hand: `routes` maps a path prefix to a directory. For the benchmark, and for trying the page without `ifr`. */
export async function serveFiles(routes) {
    const server = createServer(async (request, response) => {
        const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
        for (const [prefix, directory] of Object.entries(routes)) {
            if (!path.startsWith(prefix)) continue;
            const rest = path.slice(prefix.length);
            const name = rest || (prefix.endsWith("/") ? "index.html" : "");
            if (name.includes("..")) break;
            const plain = await readFile(join(directory, name)).catch(() => undefined);
            const packed = plain ? undefined : await readFile(join(directory, `${name}.br`)).catch(() => undefined);
            if (!plain && !packed) continue;
            response.writeHead(200, { "content-type": types[(name || path).split(".").pop()] ?? "application/octet-stream", "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" });
            return response.end(plain ?? brotliDecompressSync(packed));
        }
        response.writeHead(404).end();
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** A fresh Chromium; `CHROMIUM` names another than the system's. */
export async function openBrowser(extraArgs = [], contextOptions = {}) {
    const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
    if (!executablePath) throw new Error("no Chromium found; install it or name one in CHROMIUM");
    const profile = await mkdtemp(join(tmpdir(), "ifr-chromium-"));
    const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...extraArgs];
    const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args, ...contextOptions });
    const close = async () => {
        await context.close();
        await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    };
    return { context, close };
}

/** Waits until the page has its networks. */
export async function ready(page, timeout = 60_000) {
    await page.waitForFunction(() => ["ready", "failed"].includes(document.querySelector("#status").dataset.state), null, { timeout });
    const state = await page.locator("#status").getAttribute("data-state");
    if (state !== "ready") throw new Error(`the page failed: ${await page.locator("#fatal").textContent()}`);
}

/** Where screenshots go; not part of the repository. */
export async function screenshots() {
    const directory = join(root, "target/wasm/screenshots");
    await mkdir(directory, { recursive: true });
    return directory;
}
