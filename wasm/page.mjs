// Bundles and compresses the page into dist/, which `ifr serve` serves at /demo. Run by build.sh.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { brotliCompressSync, constants } from "node:zlib";

const here = new URL("./", import.meta.url);
const file = (path) => new URL(path, here);
const pictures = ["page/index.html", "page/style.css", "page/icon.svg", "page/app.webmanifest"];
/**
 * Maximum size of a compressed module in bytes. A test of the service checks the committed modules against the same
 * limit.
 */
const MAX_MODULE_BYTES = 2_000_000;
const binaries = ["pkg/ifr_simd.wasm", "pkg/ifr_relaxed.wasm"];
// If it could not be compiled, dist/ keeps its old module. A page that cannot use that module continues with one
// thread.
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

// The version is part of the name of the browser's cache. It changes with every file that the page loads, including the
// networks.
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
    // The limit applies to the compression quality of the committed files.
    if (quality === 11 && name.endsWith(".wasm") && small.length > MAX_MODULE_BYTES) large.push(name);
    console.log(`${name.padEnd(20)} ${String(bytes.length).padStart(9)} bytes, ${String(small.length).padStart(8)} compressed`);
}
console.log(`page ${version}, ${(await readdir(file("dist/"))).length} files, ${total} bytes compressed`);
if (large.length) {
    console.error(`larger than ${MAX_MODULE_BYTES} bytes compressed: ${large.join(", ")}`);
    process.exitCode = 1;
}
