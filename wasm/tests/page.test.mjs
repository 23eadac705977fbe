// The page in Chromium, served by `ifr serve`, compared with the native program.
//
// Needs the result of wasm/build.sh, target/release/ifr (or IFR_BIN) and Chromium (or CHROMIUM). t1.jpg (six faces) is
// in IFR_TEST_DATA or ../shared. Without it the tests use assets/astronaut.jpg (one face) and report that.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { crc32 } from "node:zlib";
import { astronaut, chooserOf, ifr, openBrowser, ready, screenshots, servePage, sixFaces, until } from "./support.mjs";

const picture = sixFaces ?? astronaut;
const faceCount = sixFaces ? 6 : 1;
if (!sixFaces) console.log("skipped: the picture with six faces, t1.jpg (set IFR_TEST_DATA); assets/astronaut.jpg is used");

let server;
let browser;
let page;
const complaints = [];

/** The faces that the native program finds, with bbox, landmarks and embedding. */
function native(path) {
    const [line] = execFileSync(ifr, ["extract", path], { encoding: "utf8", maxBuffer: 1 << 26 }).split("\n");
    return JSON.parse(line).faces;
}

/** The faces of a pane, with embeddings as plain arrays. */
async function faces(pane) {
    return page.evaluate((letter) => window.ifr.panes.find((p) => p.letter === letter).faces.map(({ bbox, landmarks, prob, embedding }) => ({ bbox, landmarks, prob, embedding: [...(embedding ?? [])] })), pane);
}

/** Opens a file in a pane through the pane's file chooser. */
async function choose(pane, file) {
    const chooser = await chooserOf(page, () => page.locator(`#pane-${pane} .choose:visible`).click());
    await chooser.setFiles(file);
}

async function settled(pane) {
    await page.locator(`#pane-${pane} .working`).waitFor({ state: "hidden" });
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

before(async () => {
    server = await servePage();
    const video = join(tmpdir(), `ifr-camera-${process.pid}.mjpeg`);
    const frame = await readFile(astronaut);
    await writeFile(video, Buffer.concat(Array(30).fill(frame)));
    browser = await openBrowser(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-video-capture=${video}`], { viewport: { width: 1280, height: 900 } });
    page = await browser.context.newPage();
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await page.addInitScript(() => {
        window.statuses = [];
        const note = () => window.statuses.push(document.querySelector("#status").textContent.trim());
        document.addEventListener("DOMContentLoaded", () => new MutationObserver(note).observe(document.querySelector("#status"), { subtree: true, childList: true, characterData: true }));
    });
    await page.goto(server.url);
    await ready(page);
});

after(async () => {
    await browser?.close();
    await server?.close();
});

test("status: loading is announced once, not with every percent", async () => {
    const said = await page.evaluate(() => window.statuses);
    assert.deepEqual(said, said.filter((text, i) => text !== said[i - 1] && !text.includes("%")));
    assert.ok(said.length <= 3 && said.at(-1) === "Ready", String(said));
    assert.equal(await page.locator("#percent").textContent(), "");
});

test("picture: same faces as the native program", async (t) => {
    await choose("A", picture);
    await page.waitForSelector("#pane-A[data-state=picture]");
    const [found, expected] = [await faces("A"), native(picture)];
    assert.equal(found.length, faceCount);
    assert.equal(found.length, expected.length);
    let [farthest, least] = [0, 1];
    found.forEach((face, i) => {
        const truth = expected[i];
        const corners = [...face.bbox, ...face.landmarks.flat()];
        const wanted = [...truth.bbox, ...truth.landmarks.flat()];
        const off = Math.max(...corners.map((value, j) => Math.abs(value - wanted[j])));
        const cosine = dot(face.embedding, truth.vec);
        assert.ok(off < 1, `face ${i + 1} is ${off} pixels off`);
        assert.ok(cosine > 0.999, `face ${i + 1}: embeddings at cosine ${cosine}`);
        assert.ok(Math.abs(face.prob - truth.prob) < 0.01);
        [farthest, least] = [Math.max(farthest, off), Math.min(least, cosine)];
    });
    t.diagnostic(`${faceCount} faces, at most ${farthest.toFixed(4)} pixels off, embeddings at cosine ${least.toFixed(6)} or more`);
    assert.match(await page.locator("#pane-A .summary").textContent(), new RegExp(`^${faceCount} face`));
    assert.equal(await page.locator("#pane-A .face").count(), faceCount);
    for (const stage of ["decode", "detect", "align", "recognize"]) {
        assert.match(await page.locator("#pane-A .timings").textContent(), new RegExp(`${stage}\\s*[\\d.]+ ms`));
    }
});

test("picture: boxes are drawn over the faces", async () => {
    // The edge of the first face's box is painted; the corner of the picture is not.
    const painted = await page.evaluate(() => {
        const canvas = document.querySelector("#pane-A .overlay");
        const { faces } = window.ifr.panes[0];
        const base = document.querySelector("#pane-A .base");
        const scale = Math.min(canvas.width / base.width, canvas.height / base.height);
        const left = (canvas.width - base.width * scale) / 2;
        const top = (canvas.height - base.height * scale) / 2;
        const [x1, y1, , y2] = faces[0].bbox;
        const context = canvas.getContext("2d");
        const alpha = (x, y) => Math.max(...[-2, -1, 0, 1, 2].map((d) => context.getImageData(Math.round(x) + d, Math.round(y), 1, 1).data[3]));
        return { edge: alpha(left + x1 * scale, top + ((y1 + y2) / 2) * scale), corner: alpha(8, canvas.height - 8) };
    });
    assert.equal(painted.edge, 255);
    assert.equal(painted.corner, 0);
});

test("comparison: two pictures are compared face by face", async () => {
    await choose("B", astronaut);
    await page.waitForSelector("#pane-B[data-state=picture]");
    const [a, b] = [native(picture), native(astronaut)];
    const cells = await page.locator("#matrix td").allTextContents();
    // One row: the picture with fewer faces.
    const expected = a.map((face) => dot(face.vec, b[0].vec).toFixed(2));
    assert.equal(cells.length, a.length * b.length);
    const near = (text, wanted) => Math.abs(Number(text.replace("−", "-")) - Number(wanted)) < 0.015;
    assert.ok(cells.every((cell, i) => near(cell, expected[i])), `${cells} instead of ${expected}`);
    assert.match(await page.locator("#verdict").textContent(), /A\d and B1/);
});

test("comparison: the same picture twice is the same person", async () => {
    await choose("A", astronaut);
    await page.waitForFunction(() => document.querySelector("#verdict").textContent.includes("same person"));
    assert.equal(await page.locator("#verdict").textContent(), "A1 and B1 are probably the same person (1.00).");
});

test("picture: bad files are explained, the previous picture stays", async () => {
    const jpeg = await readFile(astronaut);
    const png = Buffer.concat([Buffer.from("89504e470d0a1a0a0000000d49484452", "hex"), Buffer.from("0000ffff0000ffff0802000000", "hex"), Buffer.alloc(64)]);
    // A PNG of 65000 x 65000 whose header is sound; a file of 70 MB.
    const claiming = Buffer.from("89504e470d0a1a0a0000000d494844520000fde80000fde808020000000000000000000010494441543031323334353637383961626364656600000000", "hex");
    claiming.writeUInt32BE(crc32(claiming.subarray(12, 29)), 29);
    // A GIF whose screen is 65535 x 65535.
    const gif = Buffer.from("474946383961ffffffff800000000000ffffff2c00000000ffffffff00020144003b", "hex");
    const bad = [
        ["empty.jpg", Buffer.alloc(0), /empty/i],
        ["note.txt", Buffer.from("this is no picture at all"), /not a picture/i],
        ["cut.jpg", jpeg.subarray(0, 300), /damaged|unsupported/i],
        ["noise.jpg", Buffer.concat([jpeg.subarray(0, 20), Buffer.alloc(5000, 0xa7)]), /damaged|unsupported/i],
        ["bomb.png", png, /damaged|unsupported|exceeds/i],
        ["bomb.gif", gif, /exceeds|damaged/i],
        ["claims.png", claiming, /damaged|unsupported|exceeds|limit/i],
    ];
    for (const [name, buffer, message] of bad) {
        await choose("A", { name, mimeType: "image/jpeg", buffer });
        await settled("A");
        const alert = page.locator("#pane-A > .alert");
        await alert.waitFor({ state: "visible" });
        const text = await alert.textContent();
        assert.match(text, message, name);
        assert.match(text, /^[A-Z].*\.$/s, `${name}: '${text}' is no sentence`);
        assert.equal((await faces("A")).length, 1, "the previous picture stays");
    }
    // Refused before it is read.
    await page.evaluate(() => window.ifr.panes[0].open(new File([new Uint8Array(70e6)], "film.mp4")));
    assert.equal(await page.locator("#pane-A > .alert").textContent(), "This file is too large: 70 MB. The limit is 67 MB.");
    await choose("A", astronaut);
    await settled("A");
    assert.ok(await page.locator("#pane-A > .alert").isHidden());
    assert.equal((await faces("A")).length, 1);
});

test("picture: the third of three dropped pictures is not opened", async () => {
    const bytes = [...(await readFile(astronaut))];
    const drop = (names) =>
        page.evaluate(([bytes, names]) => {
            const transfer = new DataTransfer();
            for (const name of names) transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }, [bytes, names]);
    await drop(["one.jpg", "two.jpg", "three.jpg"]);
    assert.equal(await page.locator("#notice").textContent(), "Only two pictures can be compared. Not opened: three.jpg.");
    await settled("A");
    await settled("B");
    assert.equal((await faces("B")).length, 1);
    await drop(["one.jpg"]);
    assert.ok(await page.locator("#notice").isHidden());
    await settled("A");
    await settled("B");
});

test("picture: files can be dropped and pasted", async () => {
    const bytes = [...(await readFile(astronaut))];
    for (const kind of ["drop", "paste"]) {
        await page.locator("#pane-B .clear:visible").click();
        assert.equal((await faces("B")).length, 0);
        await page.evaluate(([kind, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "face.jpg", { type: "image/jpeg" }));
            const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }) : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
            document.querySelector("#pane-B .stage").dispatchEvent(event);
        }, [kind, bytes]);
        await page.waitForSelector("#pane-B[data-state=picture]");
        assert.equal((await faces("B")).length, 1, kind);
    }
});

test("accessibility: the keyboard reaches everything", async () => {
    await page.locator("#pane-B .clear").focus();
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("#pane-B").getAttribute("data-state"), "empty");
    const focused = () => page.evaluate(() => `${document.activeElement.closest(".pane")?.id} ${document.activeElement.className}`);
    assert.match(await focused(), /^pane-B .*choose/, "the focus moves when its button is hidden");
    const chooser = await chooserOf(page, () => page.keyboard.press("Enter"));
    await chooser.setFiles(astronaut);
    await page.waitForSelector("#pane-B[data-state=picture]");
    await page.locator("#pane-B .face").focus();
    await page.keyboard.press("Space");
    assert.equal(await page.locator("#pane-B .face").getAttribute("aria-pressed"), "true");
    // Every control can be reached by tabbing from the top.
    await page.evaluate(() => document.activeElement.blur());
    const reached = new Set();
    for (let i = 0; i < 30; i++) {
        await page.keyboard.press("Tab");
        reached.add(await focused());
    }
    // In the table the arrow keys move the focus, and both pictures highlight the pair.
    await page.locator("#matrix td").first().focus();
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowDown");
    assert.deepEqual(await page.evaluate(() => window.ifr.panes.map((pane) => pane.lit)), [0, 0]);
    assert.equal(await page.locator("#matrix th.lit").count(), 2);
    await page.locator("#pane-A .face").focus();
    // The row or column of the pressed face is marked.
    assert.deepEqual(await page.evaluate(() => window.ifr.panes.map((pane) => pane.lit)), [undefined, 0]);
    assert.equal(await page.locator("#matrix td.lit").count(), 1);
    for (const control of ["undefined ", "pane-A icon choose", "pane-A icon camera", "pane-A icon clear", "pane-A face", "pane-B icon choose"]) {
        assert.ok([...reached].some((name) => name.startsWith(control)), `${control} among ${[...reached]}`);
    }
});

test("accessibility: each picture has a heading", async () => {
    assert.deepEqual(await page.locator(".pane h2").allTextContents(), ["Picture A", "Picture B"]);
});

test("page: stays responsive during an analysis", async () => {
    const work = () =>
        page.evaluate(async () => {
            let last = performance.now();
            let longest = 0;
            let running = true;
            const tick = () => {
                const now = performance.now();
                longest = Math.max(longest, now - last);
                last = now;
                if (running) setTimeout(tick, 5);
            };
            const bytes = await (await fetch(document.querySelector("link[rel=icon]").href)).arrayBuffer();
            void bytes;
            setTimeout(tick, 0);
            const canvas = new OffscreenCanvas(2000, 1500);
            canvas.getContext("2d").fillRect(0, 0, 1000, 800);
            const started = performance.now();
            await window.ifr.panes[1].open(await canvas.convertToBlob({ type: "image/png" }));
            running = false;
            return { longest, took: performance.now() - started };
        });
    // Repeated, because a single delay can be caused by the machine. A delay caused by the page occurs each time.
    let gap = await work();
    for (let round = 1; round < 4 && gap.longest >= gap.took / 2; round++) gap = await work();
    assert.ok(gap.longest < gap.took / 2, `the page was blocked for ${gap.longest} of ${gap.took} ms`);
});

test("camera: frames are analyzed live, and one can be kept", async () => {
    await page.locator("#pane-B .camera:visible").click();
    await page.waitForFunction(() => window.ifr.panes[1].faces.length === 1);
    assert.equal(await page.locator("#pane-B").getAttribute("data-state"), "camera");
    // The timings change with each frame.
    const reading = () => page.locator("#pane-B .timings").textContent();
    const first = await reading();
    await page.waitForFunction((first) => document.querySelector("#pane-B .timings").textContent !== first, first);
    // The camera shows the person of picture A.
    await page.waitForFunction(() => document.querySelector("#verdict").textContent.includes("same person"));
    await page.screenshot({ path: join(await screenshots(), "camera.png"), fullPage: true });
    // A bad file does not stop the camera.
    await choose("B", { name: "note.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") });
    await page.locator("#pane-B > .alert").waitFor({ state: "visible" });
    const second = await reading();
    await page.waitForFunction((second) => document.querySelector("#pane-B .timings").textContent !== second, second);
    await page.locator("#pane-B .snap").click();
    await page.waitForSelector("#pane-B[data-state=picture]");
    assert.equal((await faces("B")).length, 1);
    const live = await page.evaluate(() => document.querySelector("#pane-B .video").srcObject);
    assert.equal(live, null, "the camera is off");
});

test("layout: fits phone and desktop in both color schemes", async () => {
    await choose("A", picture);
    await page.waitForFunction((n) => window.ifr.panes[0].faces.length === n, faceCount);
    for (const [device, viewport] of Object.entries({ desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } })) {
        for (const colorScheme of ["light", "dark"]) {
            await page.emulateMedia({ colorScheme });
            await page.setViewportSize(viewport);
            await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
            await page.screenshot({ path: join(await screenshots(), `${device}-${colorScheme}.png`), fullPage: true });
            const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert.ok(wide <= 0, `${device}: the page is ${wide} pixels too wide`);
            const small = await page.evaluate(() => [...document.querySelectorAll("button, select, summary")].filter((e) => e.offsetParent && (e.offsetHeight < 40 || e.offsetWidth < 40)).map((e) => e.outerHTML.slice(0, 80)));
            assert.deepEqual(small, [], "everything is large enough for a finger");
        }
    }
    await page.setViewportSize({ width: 1280, height: 900 });
    assert.equal(await page.locator(".lit").count(), 0, "no face of a removed picture stays highlighted");
});

test("offline: the page works without a network after one visit", async () => {
    await page.evaluate(() => navigator.serviceWorker.ready);
    await until(page, async () => (await (await caches.open((await caches.keys()).find((k) => k.startsWith("ifr-")))).keys()).length >= 10);
    await server.close();
    await assert.rejects(fetch(server.url));
    await page.reload();
    await ready(page);
    await page.locator("#pane-A .file").setInputFiles(astronaut);
    await page.waitForSelector("#pane-A[data-state=picture]");
    assert.equal((await faces("A")).length, 1);
});

test("page: the console has no errors", () => {
    assert.deepEqual(complaints, []);
});
