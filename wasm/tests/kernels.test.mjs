// The engine's kernels in WebAssembly: small networks compared with double precision, in both builds for one thread, in
// Chromium.
//
// The native tests of crates/engine check the kernels of the machine's instruction sets, which do not include
// WebAssembly's.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Graph } from "./onnx.mjs";
import { openBrowser, root, serveFiles } from "./support.mjs";

function noise(seed) {
    let state = seed;
    return () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return (state >>> 8) / (1 << 23) - 1;
    };
}

const same = (k) => [k >> 1, k >> 1, k >> 1, k >> 1];
const square = (outputs, k, more = {}) => ({ outputs, kernel: [k, k], pads: same(k), ...more });
/** The start of most networks: a convolution from three planes to the blocked layout, which has its own kernel. */
const start = (size, channels, random) => new Graph([3, ...size], random).conv(square(channels, 3)).relu();

const cases = {
    "first layer, stride 2": (r) => new Graph([3, 33, 29], r).conv(square(20, 3, { stride: [2, 2] })).prelu(),
    "1x1, whole blocks": (r) => start([17, 19], 16, r).conv(square(32, 1)).relu(),
    "1x1, odd channels": (r) => start([13, 7], 10, r).conv(square(15, 1)),
    "1x1, one channel": (r) => start([9, 9], 24, r).conv(square(1, 1)).sigmoid(),
    "3x3, few channels": (r) => start([20, 22], 8, r).conv(square(7, 3)).leaky(),
    "3x3, stride 2": (r) => start([21, 23], 24, r).conv(square(33, 3, { stride: [2, 2] })).relu(),
    "3x3, dilated": (r) => start([16, 18], 12, r).conv({ outputs: 12, kernel: [3, 3], dilation: [2, 2], pads: [2, 2, 2, 2] }).relu(),
    "5x5, grouped": (r) => start([12, 12], 16, r).conv(square(24, 5, { group: 4 })),
    "7x1": (r) => start([14, 14], 16, r).conv({ outputs: 16, kernel: [7, 1], pads: [3, 0, 3, 0] }),
    "winograd, tiles of 2": (r) => start([7, 7], 32, r).conv(square(48, 3)).prelu(),
    "winograd, tiles of 3": (r) => start([14, 13], 20, r).conv(square(28, 3)).relu(),
    "winograd, tiles of 4": (r) => start([37, 41], 24, r).conv(square(24, 3)).relu(),
    "depthwise": (r) => start([19, 23], 30, r).conv(square(30, 3, { group: 30 })).prelu(),
    "depthwise, stride 2": (r) => start([28, 28], 32, r).conv(square(32, 3, { group: 32, stride: [2, 2] })).relu(),
    "depthwise over all": (r) => start([7, 7], 20, r).conv({ outputs: 20, kernel: [7, 7], group: 20 }).conv(square(12, 1)),
    "depthwise and 1x1 with a residual": (r) => {
        const graph = start([20, 20], 24, r);
        const before = graph.last;
        return graph.conv(square(96, 1)).relu().conv(square(96, 3, { group: 96 })).relu().conv(square(24, 1)).add(before);
    },
    "3x3 with a residual": (r) => {
        const graph = start([24, 20], 16, r);
        const before = graph.last;
        return graph.conv(square(16, 3)).relu().conv(square(16, 3)).add(before).relu();
    },
    "silu": (r) => start([15, 16], 16, r).conv(square(20, 3)).silu().conv(square(16, 1)).silu(),
    "transposed": (r) => start([10, 11], 24, r).deconv({ outputs: 24, size: 2 }).relu(),
    "max pool": (r) => start([22, 26], 20, r).maxPool().conv(square(16, 1)),
};

let server;
before(async () => {
    server = await serveFiles({ "/pkg/": join(root, "wasm/pkg"), "/bench/": join(root, "wasm/bench") });
});
after(() => server?.close());

for (const build of ["simd", "relaxed"]) {
    test(`kernels: the ${build} build agrees with double precision`, async (t) => {
        const browser = await openBrowser();
        t.after(() => browser.close());
        const page = await browser.context.newPage();
        await page.goto(`${server.url}bench/index.html`);
        const loaded = await page.evaluate(async (build) => (await import("/pkg/index.js")).load({ build }), build);
        assert.equal(loaded, build);
        for (const [seed, [name, make]] of Object.entries(cases).entries()) {
            await t.test(name, async () => {
                const graph = make(noise(seed + 1));
                const model = [...graph.encode()];
                const run = { model, shape: [1, ...graph.shape], input: [...graph.input] };
                const [output] = await page.evaluate(async ({ model, shape, input }) => {
                    const { Network } = await import("/pkg/index.js");
                    const network = new Network(Uint8Array.from(model), "test");
                    // The second run reuses the buffers of the first run.
                    network.run(Uint32Array.from(shape), Float32Array.from(input));
                    const outputs = network.run(Uint32Array.from(shape), Float32Array.from(input));
                    const table = network.explain(Uint32Array.from(shape), Float32Array.from(input), 1);
                    network.free();
                    return outputs.map((o) => ({ shape: o.shape, data: [...o.data], table }));
                }, run);
                const { shape, data } = graph.last;
                assert.deepEqual([...output.shape], [1, ...shape]);
                const scale = Math.max(...data.map(Math.abs));
                const off = Math.max(...output.data.map((v, i) => Math.abs(v - data[i])));
                assert.ok(off < 2e-5 * scale, `off by ${off} where values reach ${scale}`);
                assert.match(output.table, /simd128/, "the vector kernels ran, not the scalar ones");
                assert.doesNotMatch(output.table, /whole network/);
            });
        }
    });
}
