// The page with a camera: persons keep their numbers, buttons stay usable, announcements are rare, the camera is turned
// off.

import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { astronaut, fakeCamera, openBrowser, ready, screenshots, servePage, twoPeopleOnVideo } from "./support.mjs";

let server;
let browser;
let video;
let page;

before(async () => {
    [server, video] = await Promise.all([servePage(), twoPeopleOnVideo()]);
    browser = await openBrowser(fakeCamera(video), { viewport: { width: 1280, height: 900 } });
});
after(async () => {
    await browser?.close();
    await server?.close();
    if (video) await rm(video);
});

const complaints = [];
beforeEach(async () => {
    page = await browser.context.newPage();
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    // Records the streams and constraints of the page. Simulates a phone with a front and a rear camera; both show the
    // video.
    await page.addInitScript(() => {
        navigator.mediaDevices.enumerateDevices = async () => ["front", "rear"].map((deviceId) => ({ kind: "videoinput", deviceId }));
        const settings = MediaStreamTrack.prototype.getSettings;
        MediaStreamTrack.prototype.getSettings = function () {
            return { ...settings.call(this), facingMode: window.asked.at(-1).facingMode };
        };
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        window.asked = [];
        window.streams = [];
        navigator.mediaDevices.getUserMedia = async (wish) => {
            window.asked.push(wish.video);
            const stream = await open(wish);
            window.streams.push(stream);
            return stream;
        };
    });
    await page.goto(server.url);
    await ready(page);
});
afterEach(async () => {
    await page.close();
    assert.deepEqual(complaints.splice(0), []);
});

async function startCamera() {
    await page.locator("#pane-B .empty .camera").click();
    await page.waitForFunction(() => window.ifr.panes[1].faces.length === 2);
}

/** Waits until `count` more frames are analyzed. */
async function frames(count) {
    await page.evaluate(
        (count) =>
            new Promise((resolve) => {
                const timings = document.querySelector("#pane-B .timings");
                const observer = new MutationObserver(() => {
                    if (--count > 0) return;
                    observer.disconnect();
                    resolve();
                });
                observer.observe(timings, { childList: true });
            }),
        count,
    );
}

const tracks = () => page.evaluate(() => window.streams.flatMap((stream) => stream.getTracks().map((track) => track.readyState)));

test("camera: a pressed face stays pressed across frames", async () => {
    await startCamera();
    await page.evaluate(() => (window.button = document.querySelector("#pane-B .face")));
    // A press lasts for several frames.
    const box = await page.locator("#pane-B .face").first().boundingBox();
    await page.mouse.move(box.x + 20, box.y + 20);
    await page.mouse.down();
    await frames(3);
    await page.mouse.up();
    await page.waitForSelector("#pane-B .face[aria-pressed=true]");
    const where = () =>
        page.evaluate(() => {
            const pane = window.ifr.panes[1];
            const face = pane.faces[pane.lit];
            return { same: window.button === document.querySelector("#pane-B .face"), left: face ? face.bbox[0] < 320 : undefined };
        });
    const { left } = await where();
    assert.notEqual(left, undefined);
    const seen = [];
    for (let round = 0; round < 12; round++) {
        await frames(1);
        seen.push(await where());
    }
    // A face may be missing in a frame, but must never be that of the other person.
    assert.ok(seen.every((now) => now.same && (now.left === left || now.left === undefined)), JSON.stringify(seen));
    assert.ok(seen.filter((now) => now.left === left).length >= 8, JSON.stringify(seen));
    await page.evaluate(() => window.button.focus());
    await page.keyboard.down("Space");
    await frames(3);
    await page.keyboard.up("Space");
    await page.waitForSelector("#pane-B .face[aria-pressed=true]", { state: "detached" });
    assert.ok(await page.evaluate(() => document.activeElement === window.button), "the focus stays");
});

test("camera: announcements do not change with every frame", async () => {
    await page.locator("#pane-A .file").setInputFiles(astronaut);
    await page.waitForSelector("#pane-A[data-state=picture]");
    await startCamera();
    await page.waitForFunction(() => document.querySelector("#verdict").textContent.includes("same person"));
    await page.waitForFunction(() => document.querySelector("#verdict-said").textContent.includes("same person"));
    await page.evaluate(() => {
        window.changes = [];
        for (const region of document.querySelectorAll("[aria-live], [role=status], [role=alert]")) {
            const watch = new MutationObserver(() => window.changes.push(`${region.id || region.className}: ${region.textContent}`));
            watch.observe(region, { childList: true, subtree: true, characterData: true });
        }
    });
    await frames(20);
    const changes = await page.evaluate(() => window.changes);
    assert.ok(changes.length <= 2, changes.join("\n"));
});

test("camera: a double click opens it once, removing turns it off", async () => {
    await page.locator("#pane-B .empty .camera").dblclick();
    await page.waitForFunction(() => window.ifr.panes[1].faces.length > 0);
    assert.deepEqual(await tracks(), ["live"]);
    await page.locator("#pane-B .clear").click();
    assert.deepEqual(await tracks(), ["ended"]);
});

test("camera: turned off if its video cannot be played", async () => {
    await page.evaluate(() => (HTMLMediaElement.prototype.play = () => Promise.reject(new Error("no decoder"))));
    await page.locator("#pane-B .empty .camera").click();
    await page.locator("#pane-B > .alert").waitFor({ state: "visible" });
    assert.equal(await page.locator("#pane-B > .alert").textContent(), "The camera's video could not be played: no decoder.");
    assert.deepEqual(await tracks(), ["ended"]);
    assert.equal(await page.locator("#pane-B").getAttribute("data-state"), "empty");
});

test("camera: continues after a change of the number of threads", async (t) => {
    await startCamera();
    await page.locator(".options summary").click();
    if (await page.locator("#cores").isDisabled()) return t.skip(await page.locator("#cores-note").textContent());
    await page.locator("#cores").check();
    await ready(page);
    await frames(2);
    assert.equal(await page.locator("#pane-B").getAttribute("data-state"), "camera");
    assert.ok(await page.locator("#pane-B > .alert").isHidden());
    assert.deepEqual(await tracks(), ["live"]);
});

test("camera: a device with two cameras can switch between them", async () => {
    await startCamera();
    await page.locator("#pane-B .turn").click();
    await page.waitForFunction(() => window.streams.length === 2);
    await frames(2);
    assert.deepEqual(await tracks(), ["ended", "live"]);
    assert.deepEqual(await page.evaluate(() => window.asked.map(({ facingMode }) => facingMode)), ["user", "environment"]);
    assert.equal(await page.locator("#pane-B .video").evaluate((video) => video.classList.contains("mirrored")), false);
    // If the other camera is gone, the pane displays an error and is empty, because the first camera is closed.
    await page.evaluate(() => (navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("gone", "OverconstrainedError"))));
    await page.locator("#pane-B .turn").click();
    await page.locator("#pane-B > .alert").waitFor({ state: "visible" });
    assert.equal(await page.locator("#pane-B").getAttribute("data-state"), "empty");
    assert.deepEqual(await tracks(), ["ended", "ended"]);
});

test("layout: no overlaps on a phone", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.locator("#pane-A .file").setInputFiles(astronaut);
    await page.waitForSelector("#pane-A[data-state=picture]");
    await startCamera();
    await page.screenshot({ path: join(await screenshots(), "camera-phone.png"), fullPage: true });
    const { overlaps, wide, lines } = await page.evaluate(() => {
        const overlaps = [];
        for (const pane of document.querySelectorAll(".pane")) {
            const parts = [...pane.querySelectorAll(".pane-title, .summary, .tools button, .stage, .result")].filter((e) => e.getClientRects().length);
            parts.forEach((one, i) => {
                for (const other of parts.slice(i + 1)) {
                    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
                    const [x, y] = [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
                    if (x > 0.5 && y > 0.5) overlaps.push(`${pane.id}: ${one.className} and ${other.className}`);
                }
            });
        }
        const range = document.createRange();
        range.selectNodeContents(document.querySelector("#pane-B .summary"));
        const tops = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
        return { overlaps, wide: document.documentElement.scrollWidth - innerWidth, lines: tops.size };
    });
    assert.deepEqual(overlaps, []);
    assert.ok(wide <= 0, `the page is ${wide} pixels too wide`);
    assert.ok(lines <= 3, `the caption takes ${lines} lines`);
});
