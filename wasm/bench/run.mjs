// Compares ifr with onnxruntime-web (wasm backend, SIMD) in the same Chromium, on the same input, alternately: with one
// thread, and, with the build `threads`, with one thread per core.
//
//   node bench/run.mjs [--seconds 5] [--build simd|relaxed|threads] [--model FILE.onnx,1x3x640x640]... [--layers] [--write]
//
// Prints the median and minimum time of both in milliseconds, and their ratio. On a busy machine the minimum is more
// reliable.
// --layers adds the time of each layer of ifr. --write updates the section with the ratios in wasm/README.md; it
// requires the default networks and builds.

import { readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openBrowser, reference, root, serveFiles } from "../tests/support.mjs";

const { values } = parseArgs({
    options: {
        seconds: { type: "string", default: "5" },
        build: { type: "string", multiple: true },
        model: { type: "string", multiple: true },
        layers: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        write: { type: "boolean", default: false },
    },
});
if (values.write && (values.model || values.build)) throw new Error("--write requires the default networks and builds");
const pack = (name, shape) => ({ name, file: join(root, `models/onnx/${name}/${name}.onnx`), shape });
const extra = (name, shape) => ({ name, file: reference(`models/onnx/${name}/${name}.onnx`), shape });
const given = (text) => {
    const [file, shape] = text.split(",");
    return { name: file.split("/").pop(), file, shape: shape.split("x").map(Number) };
};
const models = values.model
    ? values.model.map(given)
    : [pack("centerface", [1, 3, 640, 640]), pack("mobilefacenet", [1, 3, 112, 112]), extra("scrfd_2.5g_bnkps", [1, 3, 640, 640])].filter((m) => m.file);

const routes = { "/pkg/": join(root, "wasm/pkg"), "/ort/": join(root, "wasm/node_modules/onnxruntime-web/dist"), "/bench/": join(root, "wasm/bench") };
for (const model of models) routes[`/models/${model.name}`] = model.file;
const server = await serveFiles(routes);
const rows = [];
let chromium;
for (const build of values.build ?? ["simd", "relaxed", "threads"]) {
    const browser = await openBrowser();
    const page = await browser.context.newPage();
    page.on("pageerror", (error) => console.error(String(error)));
    await page.goto(`${server.url}bench/index.html`);
    await page.evaluate(() => {
        const worker = new Worker("/bench/page.mjs", { type: "module" });
        window.measure = (wish) =>
            new Promise((resolve, reject) => {
                worker.onmessage = ({ data }) => (data.failed ? reject(new Error(data.failed)) : resolve(data));
                worker.onerror = (event) => reject(new Error(event.message));
                worker.postMessage(wish);
            });
    });
    const several = build === "threads";
    const threads = several ? await page.evaluate(() => navigator.hardwareConcurrency) : 1;
    for (const { name, shape } of models) {
        const wish = { build: several ? "relaxed" : build, threads, model: name, shape, seconds: Number(values.seconds), layers: values.layers };
        const { times, error, table } = await page.evaluate((wish) => window.measure(wish), wish);
        const sorted = (list) => list.toSorted((a, b) => a - b);
        const [ifr, ort] = [sorted(times.ifr), sorted(times.ort)];
        const median = (list) => list[list.length >> 1];
        const row = { build, model: name, shape: shape.join("x"), runs: ifr.length, error, ifr: { median: median(ifr), least: ifr[0] }, ort: { median: median(ort), least: ort[0] } };
        row.faster = { median: row.ort.median / row.ifr.median, least: row.ort.least / row.ifr.least };
        rows.push(row);
        if (!values.json) report(row);
        if (table) console.log(table);
    }
    chromium = browser.context.browser()?.version() ?? (await page.evaluate(() => navigator.userAgent.match(/Chrom\w*\/([\d.]+)/)?.[1]));
    await browser.close();
}
server.close();
if (values.write) await writeSection(section(JSON.parse(await readFile(join(root, "wasm/package.json"), "utf8"))));
if (values.json) console.log(JSON.stringify(rows, null, 1));

function report(row) {
    if (rows.length === 1) {
        console.log("build    network           shape         ifr ms median (least)   onnxruntime-web ms   ifr is faster by   difference");
    }
    const ms = ({ median, least }) => `${median.toFixed(1)} (${least.toFixed(1)})`.padStart(18);
    console.log(`${row.build.padEnd(8)} ${row.model.padEnd(17)} ${row.shape.padEnd(13)} ${ms(row.ifr)} ${ms(row.ort)}      x${row.faster.median.toFixed(2)} (${row.faster.least.toFixed(2)})       ${row.error.toExponential(0)}`);
}

/** The section of the README: machine and versions, and a table of the ratios of the medians. */
function section(tools) {
    const builds = [...new Set(rows.map(({ build }) => build))];
    const titles = { simd: "SIMD", relaxed: "relaxed SIMD", threads: "relaxed SIMD, all cores" };
    const line = (cells) => `| ${cells.join(" | ")} |`;
    const ratio = (model, build) => rows.find((row) => row.model === model && row.build === build)?.faster.median.toFixed(1) ?? "–";
    const table = [
        line(["network", ...builds.map((build) => titles[build])]),
        `|${"---|".repeat(builds.length + 1)}`,
        ...models.map(({ name, shape }) => line([`${name} ${shape[3]}x${shape[2]}`, ...builds.map((build) => ratio(name, build))])),
    ];
    const error = Math.max(...rows.map((row) => row.error)).toExponential(0);
    const version = tools.devDependencies["onnxruntime-web"];
    const where = `Chromium ${chromium.split(".")[0]} on ${cpus()[0].model.trim()} with ${cpus().length} cores, ${new Date().toISOString().slice(0, 10)}`;
    const text = `Speed relative to onnxruntime-web ${version} (wasm backend, SIMD, same number of threads); above 1, ifr is faster. Ratio of the medians of ${values.seconds} s; both take turns in the same ${where}. Outputs differ by at most ${error}.`;
    return `${wrap(text)}\n\n${table.join("\n")}`;
}

/** Lines of at most 120 characters. */
function wrap(text) {
    const lines = [""];
    for (const word of text.split(" ")) {
        if (`${lines.at(-1)} ${word}`.length > 120) lines.push(word);
        else lines[lines.length - 1] = `${lines.at(-1)} ${word}`.trim();
    }
    return lines.join("\n");
}

async function writeSection(text) {
    const path = join(root, "wasm/README.md");
    const page = await readFile(path, "utf8");
    const [begin, end] = ["<!-- bench: written by wasm/bench/run.mjs --write -->", "<!-- end of bench -->"];
    const [before, rest, ...more] = page.split(begin);
    if (rest === undefined || more.length || rest.split(end).length !== 2) throw new Error(`'${begin}' and '${end}' must each occur once in ${path}`);
    await writeFile(path, `${before}${begin}\n\n${text}\n\n${end}${rest.split(end)[1]}`);
    console.log(`wrote the section of ${path}`);
}
