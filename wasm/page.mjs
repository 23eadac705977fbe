// Bundles the page into dist/, compressed: what `ifr serve` has at /demo. Run by build.sh.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { brotliCompressSync, constants } from "node:zlib";

const here = new URL("./", import.meta.url);
const file = (path) => new URL(path, here);
const pictures = ["page/index.html", "page/style.css", "page/icon.svg", "page/app.webmanifest"];
/** Bytes a module may have, compressed as it is sent; a test of the service holds what is committed to the same. */
const BUDGET = 2_000_000;
const binaries = ["pkg/ifr_simd.wasm", "pkg/ifr_relaxed.wasm"];
// Where it could not be compiled, the one in dist/ stays: on a page it does not fit, the package goes on with one thread.
const threads = "pkg/ifr_threads.wasm";
const kept = existsSync(file(threads)) ? undefined : await readFile(file("dist/ifr_threads.wasm.br"));
if (!kept) binaries.push(threads);

async function bundle(entry, version) {
    const result = await build({
        entryPoints: [file(entry).pathname],
        bundle: true,
        minify: true,
        format: "esm",
        target: "es2022",
        define: { __VERSION__: JSON.stringify(version) },
        legalComments: "none",
        write: false,
    });
    return Buffer.from(result.outputFiles[0].contents);
}

const scripts = { app: "page/src/app.ts", worker: "page/src/worker.ts", sw: "page/src/sw.ts", thread: "pkg/thread.js" };
const files = new Map();
for (const path of [...pictures, ...binaries]) files.set(path.split("/").pop(), await readFile(file(path)));

// The version names the browser's cache: it changes when anything the page loads does, the networks included.
const hash = createHash("sha256");
for (const entry of Object.values(scripts)) hash.update(await bundle(entry, ""));
for (const bytes of files.values()) hash.update(bytes);
hash.update(await readFile(file("../models/models.json")));
const version = hash.digest("hex").slice(0, 12);
for (const [name, entry] of Object.entries(scripts)) files.set(`${name}.js`, await bundle(entry, version));

await rm(file("dist/"), { recursive: true, force: true });
await mkdir(file("dist/"));
if (kept) await writeFile(file("dist/ifr_threads.wasm.br"), kept);
let total = 0;
const large = [];
const quality = Number(process.env.BROTLI ?? 11);
for (const [name, bytes] of files) {
    const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    const small = brotliCompressSync(bytes, { params });
    await writeFile(file(`dist/${name}.br`), small);
    total += small.length;
    // With less effort than what is committed gets, the size says nothing.
    if (quality === 11 && name.endsWith(".wasm") && small.length > BUDGET) large.push(name);
    console.log(`${name.padEnd(20)} ${String(bytes.length).padStart(9)} bytes, ${String(small.length).padStart(8)} compressed`);
}
console.log(`page ${version}, ${(await readdir(file("dist/"))).length} files, ${total} bytes compressed`);
if (large.length) {
    console.error(`over the budget of ${BUDGET} bytes compressed: ${large.join(", ")}`);
    process.exitCode = 1;
}
