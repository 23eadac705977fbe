// The npm package in Node: exports, results and errors.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { astronaut, root } from "./support.mjs";

const pkg = fileURLToPath(new URL("../pkg/", import.meta.url));
const model = (name) => readFile(join(root, `models/onnx/${name}/${name}.onnx`));
let ifr;
let analyzer;
let centerface;
let mobilefacenet;
let picture;

before(async () => {
    ifr = await import("../pkg/index.js");
    // Node's fetch does not support file URLs.
    const fetchFile = async (url) => new Response(await readFile(url), { headers: { "content-type": "application/wasm" } });
    await ifr.load({ build: "simd", threads: 4, fetch: fetchFile });
    [centerface, mobilefacenet, picture] = await Promise.all([model("centerface"), model("mobilefacenet"), readFile(astronaut)]);
    analyzer = ifr.FaceAnalyzer.create(centerface, mobilefacenet);
});

test("analyze: a file, its buffer and its pixels give the same face", () => {
    const fromFile = analyzer.analyze(picture).faces;
    const buffer = new Uint8Array(picture).buffer;
    const pixels = ifr.decode(picture);
    assert.deepEqual([pixels.width, pixels.height, pixels.data.length], [512, 512, 512 * 512 * 4]);
    assert.equal(fromFile.length, 1);
    assert.equal(fromFile[0].embedding.length, analyzer.dimension);
    for (const other of [analyzer.analyze(buffer), analyzer.analyze(pixels)]) {
        assert.deepEqual(other.faces, fromFile);
        assert.equal(other.width, 512);
    }
    assert.ok(ifr.similarity(fromFile[0].embedding, fromFile[0].embedding) > 0.9999);
});

test("threads: one thread outside of a cross-origin isolated page", async () => {
    assert.equal(ifr.threadsAvailable(), false);
    assert.equal(ifr.threads, 1);
    for (const threads of [0, 1.5, 65]) await assert.rejects(ifr.load({ threads }), /'threads' must be a whole number from 1 to 64/);
});

test("analyze: every option has its effect", () => {
    assert.equal(analyzer.analyze(picture, { threshold: 0.99 }).faces.length, 0);
    assert.equal(analyzer.analyze(picture, { minFaceSize: 200 }).faces.length, 0);
    assert.equal(analyzer.analyze(picture, { embedding: false }).faces[0].embedding, undefined);
    const { crop } = analyzer.analyze(picture, { crops: true, limitFaces: 1 }).faces[0];
    assert.deepEqual([crop.width, crop.height, crop.data.length, crop.data[3]], [112, 112, 112 * 112 * 4, 255]);
});

test("create: canvases up to the limit work", () => {
    const [{ bbox: usual }] = analyzer.analyze(picture, { embedding: false }).faces;
    for (const side of [1536, 2048, 4096]) {
        const detector = ifr.FaceAnalyzer.create(centerface, undefined, { canvas: [side, side] });
        const { faces } = detector.analyze(picture);
        detector.free();
        // The enlargement moves the edges of a face slightly.
        assert.equal(faces.length, 1, `${side}`);
        faces[0].bbox.forEach((v, i) => assert.ok(Math.abs(v - usual[i]) < 15, `${side}: ${faces[0].bbox} for ${usual}`));
    }
});

test("create: without a recognizer faces have no embeddings", () => {
    const detector = ifr.FaceAnalyzer.create(centerface, undefined, { canvas: [320, 320] });
    const { faces } = detector.analyze(picture);
    assert.equal(faces.length, 1);
    assert.equal(faces[0].embedding, undefined);
    assert.equal(detector.dimension, 0);
    assert.throws(() => detector.analyze(picture, { embedding: true }), /recognizer/);
    detector.free();
});

test("similarity: cosine of vectors of any length", () => {
    assert.equal(ifr.similarity(new Float32Array([2, 0]), new Float32Array([5, 0])), 1);
    assert.equal(ifr.similarity([3, 0], [0, 7]), 0);
    assert.ok(Math.abs(ifr.similarity([1, 1], [2, 0]) - Math.SQRT1_2) < 1e-6);
    assert.equal(ifr.similarity([1, 2], [-1, -2]), -1);
});

test("create: accepts ArrayBuffers; free can be called twice", () => {
    const buffer = (bytes) => new Uint8Array(bytes).buffer;
    const other = ifr.FaceAnalyzer.create(buffer(centerface), buffer(mobilefacenet));
    assert.equal(other.analyze(picture).faces.length, 1);
    other.free();
    other.free();
});

const refusals = [
    ["an empty file", () => analyzer.analyze(new Uint8Array()), /empty/],
    ["text", () => analyzer.analyze(Buffer.from("no picture")), /not a picture/],
    ["half a JPEG", () => analyzer.analyze(picture.subarray(0, 300)), /JPEG/],
    ["a number", () => analyzer.analyze(3), /Uint8Array, an ArrayBuffer or an ImageData, not 3/],
    ["nothing", () => analyzer.analyze(undefined), /not undefined/],
    ["pixels that are too few", () => analyzer.analyze({ width: 9, height: 9, data: new Uint8ClampedArray(9) }), /324 RGBA bytes, got 9/],
    ["pixels without a size", () => analyzer.analyze({ data: new Uint8ClampedArray(4) }), /width and height/],
    ["a misspelt option", () => analyzer.analyze(picture, { treshold: 0.5 }), /no option 'treshold'; it has: threshold/],
    ["a threshold of two", () => analyzer.analyze(picture, { threshold: 2 }), /'threshold' must be a number from 0 to 1, not 2/],
    ["a threshold that is no number", () => analyzer.analyze(picture, { threshold: NaN }), /'threshold' must be/],
    ["a word for a switch", () => analyzer.analyze(picture, { crops: "yes" }), /'crops' must be true or false, not 'yes'/],
    ["options that are a word", () => analyzer.analyze(picture, "fast"), /must be an object, not 'fast'/],
    ["a tiny canvas", () => ifr.FaceAnalyzer.create(centerface, undefined, { canvas: [16, 16] }), /'canvas' must be \[width, height\]/],
    ["a recognizer as detector", () => ifr.FaceAnalyzer.create(mobilefacenet), /not a face detector/],
    ["a detector as recognizer", () => ifr.FaceAnalyzer.create(centerface, centerface), /not a recognizer/],
    ["a network cut short", () => ifr.FaceAnalyzer.create(centerface.subarray(0, 1e6)), /not a readable ONNX file/],
    ["no network at all", () => ifr.FaceAnalyzer.create(new Uint8Array()), /empty/],
    ["a detector that is not there", () => ifr.FaceAnalyzer.create(undefined), /^the detector must be a Uint8Array or an ArrayBuffer, not undefined$/],
    ["a recognizer that is a word", () => ifr.FaceAnalyzer.create(centerface, "mobilefacenet"), /^the recognizer must be .*, not 'mobilefacenet'$/],
    ["nothing to decode", () => ifr.decode(undefined), /^the picture must be a Uint8Array or an ArrayBuffer, not undefined$/],
    // Its pages are never written, so they use no memory.
    ["a file larger than memory", () => analyzer.analyze(new ArrayBuffer(2.2e9)), /^the picture has 2200 MB, for which there is not enough memory$/],
    ["no embeddings", () => ifr.similarity(undefined, undefined), /^an embedding must be a Float32Array or an array of numbers, not undefined$/],
    ["embeddings of words", () => ifr.similarity(["a"], ["b"]), /an array of numbers/],
    ["empty embeddings", () => ifr.similarity(new Float32Array(), new Float32Array()), /finite numbers that are not all zero/],
    ["an embedding of zeros", () => ifr.similarity(new Float32Array(2), new Float32Array([1, 0])), /not all zero/],
    ["an embedding with a hole", () => ifr.similarity([NaN, 1], [1, 0]), /finite numbers/],
    ["a network that is not there", () => new ifr.Network(undefined), /^the network must be/],
    ["a run without a shape", () => network().run([], []), /^the shape must be an array of whole numbers from 1/],
    ["a run of nothing", () => network().run(undefined, undefined), /^the input must be/],
    ["a shape with a zero", () => network().run([1, 3, 0, 0], []), /^the shape must be/],
    ["a shape that overflows", () => network().run([1, 3, 4294967295, 4294967295], new Float32Array(5)), /cannot have 5 values/],
    ["an input of another length", () => network().run([1, 3, 64, 64], new Float32Array(5)), /^an input of shape 1x3x64x64 cannot have 5 values$/],
    ["a shape the network cannot take", () => network().run([1, 5, 64, 64], new Float32Array(5 * 64 * 64)), /./],
    ["no rounds", () => network().explain([1, 3, 64, 64], new Float32Array(3 * 64 * 64), 0), /'runs' must be a whole number from 1 to 1000, not 0/],
    ["an analyzer that was freed", () => freed().analyze(picture), /^This FaceAnalyzer was freed and can no longer be used\.$/],
    ["the size of an analyzer that was freed", () => freed().dimension, /^This FaceAnalyzer was freed/],
    ["embeddings of two networks", () => ifr.similarity(new Float32Array(2), new Float32Array(3)), /2 and 3 numbers/],
];
function freed() {
    const analyzer = ifr.FaceAnalyzer.create(centerface);
    analyzer.free();
    return analyzer;
}
let shared;
const network = () => (shared ??= new ifr.Network(centerface, "test"));

for (const [what, attempt, message] of refusals) {
    test(`refusal: ${what}`, () => {
        assert.throws(attempt, (error) => {
            assert.ok(error instanceof Error && !(error instanceof WebAssembly.RuntimeError) && !(error instanceof TypeError), error.stack);
            assert.match(error.message, message);
            assert.ok(error.message.length <= 301 && !error.message.includes("\n"), `one line, not ${error.message}`);
            return true;
        });
        assert.equal(analyzer.analyze(picture).faces.length, 1, "the analyzer stays usable");
    });
}

test("errors: decode and freed objects report codes", () => {
    const codeOf = (call) => {
        try {
            call();
        } catch (error) {
            return error.code;
        }
        return "no error";
    };
    assert.equal(codeOf(() => ifr.decode(Buffer.from("no picture"))), "unknown_format");
    assert.equal(codeOf(() => ifr.decode(picture.subarray(0, 300))), "bad_picture");
    assert.equal(codeOf(() => freed().analyze(picture)), "freed");
    assert.equal(codeOf(() => ifr.decode(undefined)), undefined);
});

test("types: TypeScript accepts correct calls and rejects wrong ones", async () => {
    const directory = await mkdtemp(join(root, "target/wasm/types-"));
    const lines = [
        `import { FaceAnalyzer, load, similarity, type Analysis } from "${join(pkg, "index.js")}";`,
        `export async function use(bytes: Uint8Array, pixels: ImageData): Promise<number> {`,
        `    await load({ build: "simd" });`,
        `    const analyzer = FaceAnalyzer.create(bytes, bytes, { canvas: [320, 320] });`,
        `    const found: Analysis = analyzer.analyze(pixels, { threshold: 0.5, limitFaces: 2 });`,
        `    const [a, b] = found.faces;`,
        `    return a?.embedding && b?.embedding ? similarity(a.embedding, b.embedding) : found.timings.detect;`,
        `}`,
    ];
    const check = async (text) => {
        await writeFile(join(directory, "use.ts"), text);
        await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions: { strict: true, noEmit: true, target: "ES2022", module: "ES2022", moduleResolution: "bundler", lib: ["ES2022", "DOM"], types: [] }, files: ["use.ts"] }));
        execFileSync(join(root, "wasm/node_modules/.bin/tsc"), ["-p", directory], { encoding: "utf8" });
    };
    try {
        await check(lines.join("\n"));
        await assert.rejects(check(lines.join("\n").replace("limitFaces: 2", "limitFaces: 'two'")));
    } finally {
        await rm(directory, { recursive: true });
    }
});
