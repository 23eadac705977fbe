// The text of every table cell has a contrast of at least 4.5 to 1 in both color schemes.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { astronaut, openBrowser, ready, servePage } from "./support.mjs";

let server;
let browser;

before(async () => {
    server = await servePage();
    browser = await openBrowser();
});
after(async () => {
    await browser?.close();
    await server?.close();
});

/** The contrast of text and background, as the browser paints them, for each share from 0 to 100. */
function contrasts() {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const luminance = (color) => {
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [pane, other] = window.ifr.panes;
    // Embeddings with the cosine of each share: cosines of 0 to 0.8 are shares of 0 to 100.
    const rows = [];
    const [face] = pane.faces;
    const length = face.embedding.length;
    const unit = (cosine) => Float32Array.from({ length }, (_, i) => (i === 0 ? cosine : i === 1 ? Math.sqrt(1 - cosine * cosine) : 0));
    face.embedding = unit(1);
    for (let share = 0; share <= 100; share++) {
        other.faces[0].embedding = unit(share * 0.008);
        window.ifr.compare();
        const style = getComputedStyle(document.querySelector("#matrix td"));
        const [text, ground] = [luminance(style.color), luminance(style.backgroundColor)];
        rows.push({ share: style.getPropertyValue("--share"), contrast: (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05) });
    }
    return rows;
}

for (const colorScheme of ["light", "dark"]) {
    test(`contrast: table cells in the ${colorScheme} color scheme`, async (t) => {
        const page = await browser.context.newPage();
        await page.emulateMedia({ colorScheme });
        await page.goto(server.url);
        await ready(page);
        for (const pane of ["A", "B"]) {
            await page.locator(`#pane-${pane} .file`).setInputFiles(astronaut);
            await page.waitForSelector(`#pane-${pane}[data-state=picture]`);
        }
        const rows = await page.evaluate(contrasts);
        assert.deepEqual([rows[0].share, rows[50].share, rows[100].share], ["0%", "50%", "100%"]);
        const least = rows.reduce((a, b) => (b.contrast < a.contrast ? b : a));
        t.diagnostic(`least contrast ${least.contrast.toFixed(2)} at a share of ${least.share}`);
        assert.ok(least.contrast >= 4.5, JSON.stringify(rows.filter(({ contrast }) => contrast < 4.5)));
        await page.close();
    });
}
