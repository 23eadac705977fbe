// Small ONNX graphs for the tests: a writer for the format, and reference results in double precision.

const bytes = (number) => {
    const out = [];
    for (let rest = BigInt(number); ; rest >>= 7n) {
        out.push(Number(rest & 127n) | (rest > 127n ? 128 : 0));
        if (rest <= 127n) return out;
    }
};
const number = (field, value) => Buffer.from([...bytes(field << 3), ...bytes(value)]);
const part = (field, content) => Buffer.concat([Buffer.from([...bytes((field << 3) | 2), ...bytes(Buffer.byteLength(content))]), Buffer.from(content)]);
const float = (field, value) => {
    const out = Buffer.alloc(4);
    out.writeFloatLE(value);
    return Buffer.concat([Buffer.from(bytes((field << 3) | 5)), out]);
};
const all = (list) => Buffer.concat(list);

function attribute(name, value) {
    if (Array.isArray(value)) return part(5, all([part(1, name), ...value.map((v) => number(8, v)), number(20, 7)]));
    if (Number.isInteger(value)) return part(5, all([part(1, name), number(3, value), number(20, 2)]));
    return part(5, all([part(1, name), float(2, value), number(20, 1)]));
}

const node = (op, inputs, output, attributes = {}) =>
    part(1, all([...inputs.map((name) => part(1, name)), part(2, output), part(3, output), part(4, op), ...Object.entries(attributes).map(([k, v]) => attribute(k, v))]));

const value = (field, name, shape) =>
    part(field, all([part(1, name), part(2, part(1, all([number(1, 1), part(2, all(shape.map((d) => part(1, number(1, d)))))])))]));

/** Dense planes of one picture: `shape` is [channels, height, width]. */
const planes = (shape) => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b)) });

/** A graph that is built layer by layer, with each layer's result for `input`. `random` gives the weights, -1 to 1. */
export class Graph {
    #nodes = [];
    #weights = [];
    #count = 0;

    constructor(shape, random) {
        this.random = random;
        this.shape = shape;
        this.input = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, random);
        this.last = { name: "input", shape, data: Float64Array.from(this.input) };
    }

    #weight(shape, scale) {
        const name = `w${this.#count++}`;
        const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => this.random() * scale);
        this.#weights.push(part(5, all([...shape.map((d) => number(1, d)), number(2, 1), part(8, name), part(9, new Uint8Array(data.buffer))])));
        return { name, data };
    }

    #add(op, inputs, attributes, { shape, data }) {
        const name = `${op}${this.#count++}`;
        this.#nodes.push(node(op, inputs, name, attributes));
        this.last = { name, shape, data };
        return this;
    }

    conv({ outputs, kernel = [1, 1], stride = [1, 1], dilation = [1, 1], pads = [0, 0, 0, 0], group = 1 }) {
        const from = this.last;
        const [channels, height, width] = from.shape;
        const [kh, kw] = kernel;
        const depth = channels / group;
        const weight = this.#weight([outputs, depth, kh, kw], 1.7 / Math.sqrt(depth * kh * kw));
        const bias = this.#weight([outputs], 0.5);
        const size = (axis, length) => Math.floor((length + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis]) + 1;
        const to = planes([outputs, size(0, height), size(1, width)]);
        const [, h, w] = to.shape;
        for (let o = 0; o < outputs; o++) {
            const first = Math.floor(o / (outputs / group)) * depth;
            for (let y = 0; y < h; y++) {
                for (let x = 0; x < w; x++) {
                    let sum = bias.data[o];
                    for (let c = 0; c < depth; c++) {
                        for (let ky = 0; ky < kh; ky++) {
                            const row = y * stride[0] + ky * dilation[0] - pads[0];
                            if (row < 0 || row >= height) continue;
                            for (let kx = 0; kx < kw; kx++) {
                                const column = x * stride[1] + kx * dilation[1] - pads[1];
                                if (column < 0 || column >= width) continue;
                                sum += from.data[((first + c) * height + row) * width + column] * weight.data[((o * depth + c) * kh + ky) * kw + kx];
                            }
                        }
                    }
                    to.data[(o * h + y) * w + x] = sum;
                }
            }
        }
        return this.#add("Conv", [from.name, weight.name, bias.name], { kernel_shape: kernel, strides: stride, dilations: dilation, pads, group }, to);
    }

    /** A transposed convolution of `size` x `size` with stride `size`. */
    deconv({ outputs, size }) {
        const from = this.last;
        const [channels, height, width] = from.shape;
        const weight = this.#weight([channels, outputs, size, size], 1.7 / Math.sqrt(channels));
        const bias = this.#weight([outputs], 0.5);
        const to = planes([outputs, height * size, width * size]);
        for (let o = 0; o < outputs; o++) {
            for (let y = 0; y < height * size; y++) {
                for (let x = 0; x < width * size; x++) {
                    let sum = bias.data[o];
                    for (let c = 0; c < channels; c++) {
                        const tap = ((c * outputs + o) * size + (y % size)) * size + (x % size);
                        sum += from.data[(c * height + Math.floor(y / size)) * width + Math.floor(x / size)] * weight.data[tap];
                    }
                    to.data[(o * height * size + y) * width * size + x] = sum;
                }
            }
        }
        return this.#add("ConvTranspose", [from.name, weight.name, bias.name], { kernel_shape: [size, size], strides: [size, size] }, to);
    }

    #map(op, f, inputs = [], attributes = {}) {
        const { name, shape, data } = this.last;
        const plane = shape[1] * shape[2];
        return this.#add(op, [name, ...inputs], attributes, { shape, data: data.map((v, i) => f(v, Math.floor(i / plane), i)) });
    }

    relu() {
        return this.#map("Relu", (v) => Math.max(v, 0));
    }

    leaky() {
        return this.#map("LeakyRelu", (v) => (v < 0 ? v * 0.125 : v), [], { alpha: 0.125 });
    }

    prelu() {
        const slope = this.#weight([this.last.shape[0], 1, 1], 0.5);
        return this.#map("PRelu", (v, channel) => (v < 0 ? v * slope.data[channel] : v), [slope.name]);
    }

    sigmoid() {
        return this.#map("Sigmoid", (v) => 1 / (1 + Math.exp(-v)));
    }

    /** SiLU: x * sigmoid(x). */
    silu() {
        const before = this.last;
        this.sigmoid();
        return this.#map("Mul", (v, _, i) => v * before.data[i], [before.name]);
    }

    add(other) {
        return this.#map("Add", (v, _, i) => v + other.data[i], [other.name]);
    }

    maxPool() {
        const from = this.last;
        const [channels, height, width] = from.shape;
        const to = planes([channels, Math.floor(height / 2), Math.floor(width / 2)]);
        const [, h, w] = to.shape;
        to.data.forEach((_, i) => {
            const [c, y, x] = [Math.floor(i / (h * w)), Math.floor(i / w) % h, i % w];
            const at = (dy, dx) => from.data[(c * height + 2 * y + dy) * width + 2 * x + dx];
            to.data[i] = Math.max(at(0, 0), at(0, 1), at(1, 0), at(1, 1));
        });
        return this.#add("MaxPool", [from.name], { kernel_shape: [2, 2], strides: [2, 2] }, to);
    }

    /** The bytes of the ONNX file. */
    encode() {
        const graph = all([...this.#nodes, part(2, "test"), ...this.#weights, value(11, "input", [1, ...this.shape]), value(12, this.last.name, [1, ...this.last.shape])]);
        return all([number(1, 8), part(7, graph), part(8, number(2, 13))]);
    }
}
