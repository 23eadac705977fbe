// Shared by the tests and the benchmark: paths, servers for the page, a browser.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { chromium } from "playwright-core";

export const root = fileURLToPath(new URL("../../", import.meta.url));
/** The native program, whose results are the reference. */
export const ifr = process.env.IFR_BIN ?? join(root, "target/release/ifr");
export const astronaut = join(root, "assets/astronaut.jpg");

/** Maximum time of each step in milliseconds, with room for other load on the machine. */
const TIMEOUT = 120_000;

/** The reason why tests of threads are skipped; `false` if the package has a threads build. */
export const noThreads = existsSync(join(root, "wasm/pkg/ifr_threads.wasm")) ? false : "skipped: the package was built without threads";

/** Reference pictures that are not in the repository. */
const data = process.env.IFR_TEST_DATA ?? join(root, "../shared");
export const sixFaces = existsSync(join(data, "images/t1.jpg")) ? join(data, "images/t1.jpg") : undefined;
export const reference = (name) => (existsSync(join(data, name)) ? join(data, name) : undefined);

const types = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml", wasm: "application/wasm", webmanifest: "application/manifest+json", onnx: "application/octet-stream", mjs: "text/javascript" };

/**
 * Serves the page with `ifr serve`. Returns `{ url, close }`; `url` ends in /demo/. With IFR_PAGE=files the page comes
 * from wasm/dist instead, for work on the page: `ifr` contains the page of its own build.
 */
export async function servePage() {
    if (process.env.IFR_PAGE === "files") {
        const server = await serveFiles({ "/demo/models/": join(root, "models/onnx"), "/demo/": join(root, "wasm/dist") });
        return { ...server, url: `${server.url}demo/` };
    }
    // Port 0: the program selects a free port and logs it.
    const child = spawn(ifr, ["serve", "--host", "127.0.0.1", "--port", "0"], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LOG_LEVEL: "INFO", LOG_FORMAT: "text" } });
    let said = "";
    child.stdout.on("data", (text) => (said += text));
    child.stderr.on("data", (text) => (said += text));
    for (const end = Date.now() + 60_000; Date.now() < end && child.exitCode === null; ) {
        const address = said.match(/ listening address=(127\.0\.0\.1:\d+)/)?.[1];
        const url = `http://${address}/demo/`;
        const answer = address && (await fetch(url).catch(() => undefined));
        if (answer?.ok) return { url, close: () => killed(child) };
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
    child.kill();
    throw new Error(`${ifr} serve does not serve the page: ${said.slice(-2000)}`);
}

/** Resolves when the process has ended. SIGKILL, because SIGTERM would let it answer open requests. */
function killed(child) {
    if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
        child.once("exit", resolve);
        child.kill("SIGKILL");
    });
}

/** Serves files without `ifr`: `routes` maps path prefixes to directories or files. */
export async function serveFiles(routes) {
    const server = createServer(async (request, response) => {
        const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
        for (const [prefix, directory] of Object.entries(routes)) {
            if (!path.startsWith(prefix)) continue;
            const rest = path.slice(prefix.length);
            const name = rest || (prefix.endsWith("/") ? "index.html" : "");
            if (name.includes("..")) break;
            // models/onnx has a directory for each network.
            const nested = join(directory, name.replace(/\.onnx$/, ""), name);
            const plain = await readFile(join(directory, name)).catch(() => readFile(nested).catch(() => undefined));
            const packed = plain ? undefined : await readFile(join(directory, `${name}.br`)).catch(() => undefined);
            if (!plain && !packed) continue;
            response.writeHead(200, { "content-type": types[(name || path).split(".").pop()] ?? "application/octet-stream", "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" });
            return response.end(plain ?? brotliDecompressSync(packed));
        }
        response.writeHead(404).end();
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const close = () => {
        server.close();
        server.closeAllConnections();
    };
    return { url: `http://127.0.0.1:${server.address().port}/`, close };
}

/** Starts a Chromium with an empty profile: that of CHROMIUM, of the system, or of Playwright. */
export async function openBrowser(extraArgs = [], contextOptions = {}) {
    const candidates = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", chromium.executablePath()];
    const executablePath = process.env.CHROMIUM ?? candidates.find(existsSync);
    if (!executablePath) throw new Error("no Chromium found: install it, or set CHROMIUM to its path");
    const profile = await mkdtemp(join(tmpdir(), "ifr-chromium-"));
    const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...extraArgs];
    const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args, timeout: TIMEOUT, ...contextOptions });
    context.setDefaultTimeout(TIMEOUT);
    const close = async () => {
        await context.close();
        await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    };
    return { context, close };
}

/** Waits until the page has loaded its networks. */
export async function ready(page, timeout = TIMEOUT) {
    await page.waitForFunction(() => ["ready", "failed"].includes(document.querySelector("#status").dataset.state), null, { timeout });
    const state = await page.locator("#status").getAttribute("data-state");
    if (state !== "ready") throw new Error(`the page failed: ${await page.locator("#fatal").textContent()}`);
}

/**
 * The file chooser that `act` opens. Repeated, because Chromium opens none if it handles the click or key a second
 * late.
 */
export async function chooserOf(page, act) {
    for (let attempt = 1; ; attempt++) {
        try {
            const [chooser] = await Promise.all([page.waitForEvent("filechooser", { timeout: 8000 }), act()]);
            return chooser;
        } catch (error) {
            if (attempt === 5) throw error;
        }
    }
}

/** Chromium's switches for a camera that shows `file`. */
export function fakeCamera(file) {
    return ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-video-capture=${file}`];
}

/**
 * Writes a video of two persons side by side, both the astronaut. Every frame blurs another of the two, so that the
 * detector's order by score changes with each frame. Returns the path of the video.
 */
export async function twoPeopleOnVideo() {
    const browser = await openBrowser();
    const page = await browser.context.newPage();
    const picture = (await readFile(astronaut)).toString("base64");
    const frames = await page.evaluate(async (picture) => {
        const bytes = Uint8Array.from(atob(picture), (c) => c.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes]));
        const canvas = new OffscreenCanvas(640, 480);
        const context = canvas.getContext("2d");
        const frames = [];
        for (let i = 0; i < 12; i++) {
            for (const side of [0, 1]) {
                const faint = (i + side) % 2;
                context.filter = faint ? "blur(2.5px) brightness(0.8)" : `brightness(${1 + i / 40})`;
                context.drawImage(bitmap, 90, 0, 320, 480, side * 320 + (i % 3), 0, 320, 480);
            }
            const jpeg = new Uint8Array(await (await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 })).arrayBuffer());
            frames.push(btoa(Array.from(jpeg, (c) => String.fromCharCode(c)).join("")));
        }
        return frames;
    }, picture);
    await browser.close();
    const path = join(tmpdir(), `ifr-two-people-${process.pid}.mjpeg`);
    await writeFile(path, Buffer.concat(frames.map((frame) => Buffer.from(frame, "base64"))));
    return path;
}

/**
 * Waits until `question`, which may be asynchronous, is true in the page. `waitForFunction` would take any promise for
 * true.
 */
export async function until(page, question, argument) {
    for (const end = Date.now() + TIMEOUT; !(await page.evaluate(question, argument)); ) {
        if (Date.now() > end) throw new Error(`never came true: ${question}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

/** The directory of the screenshots, which is not part of the repository. */
export async function screenshots() {
    const directory = join(root, "target/wasm/screenshots");
    await mkdir(directory, { recursive: true });
    return directory;
}
