//! Comparison of every kernel with a simple reference in double precision, on all instruction sets of the CPU.

use crate::kernels::activation::{Activation, SmoothActivation, SmoothRow};
use crate::kernels::conv::Conv;
use crate::kernels::conv::deconv::Deconv;
use crate::kernels::conv::first::FirstConv;
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::dense::Dense;
use crate::kernels::table::kernels;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::PackCache;
use crate::simd::Isa;

/// Generator of reproducible random numbers.
pub(crate) struct Noise(pub u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Numbers from -1 to 1.
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() % 20_001) as f32 / 10_000.0 - 1.0).collect()
    }
}

/// A dense `[n][c][h][w]` tensor.
#[derive(Clone)]
struct Planes {
    shape: [usize; 4],
    data: Vec<f32>,
}

impl Planes {
    fn noise(noise: &mut Noise, shape: [usize; 4]) -> Planes {
        Planes { shape, data: noise.values(shape.iter().product()) }
    }

    fn at(&self, n: usize, c: usize, y: isize, x: isize) -> Option<f32> {
        let [_, channels, h, w] = self.shape;
        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
        inside.then(|| self.data[((n * channels + c) * h + y as usize) * w + x as usize])
    }

    /// The tensor in the blocked layout, with `fill` in the halo of each channel and arbitrary values beyond the
    /// channels.
    fn blocked(&self, layout: &Blocked, fill: &[f32]) -> Vec<f32> {
        let mut out = vec![0.5; layout.len()];
        let halo = layout.halo;
        for n in 0..layout.n {
            for (c, &fill) in fill.iter().enumerate().take(layout.c) {
                for y in -(halo.top as isize)..(layout.h + halo.bottom) as isize {
                    for x in -(halo.left as isize)..(layout.w + halo.right) as isize {
                        let at = layout.offset(n, c / layout.lanes, y, x) + c % layout.lanes;
                        out[at] = self.at(n, c, y, x).unwrap_or(fill);
                    }
                }
            }
        }
        out
    }
}

fn activate(v: f64, activation: Option<&Activation>, channel: usize) -> f64 {
    let slope = |s: f32| v.max(0.0) + f64::from(s) * v.min(0.0);
    let Some(activation) = activation else { return v };
    match activation {
        Activation::Clip { min, max } => v.max(f64::from(*min)).min(f64::from(*max)),
        Activation::Leaky(s) => slope(*s),
        Activation::PRelu(s) => slope(s[channel]),
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::Silu => v / (1.0 + (-v).exp()),
    }
}

/// A convolution to test.
struct ConvCase {
    spec: ConvSpec,
    batch: usize,
    in_hw: [usize; 2],
    out_hw: [usize; 2],
    activation: Option<Activation>,
    residual: bool,
    shift: bool,
}

fn random_case(noise: &mut Noise, round: usize) -> ConvCase {
    let channels = [1, 2, 3, 16, 20, 24, 28, 33, 56, 64, 80, 88];
    let (mut inputs, mut outputs) = (noise.pick(&channels), noise.pick(&channels));
    let mut groups = 1;
    let kind = round % 8;
    if kind == 0 {
        (outputs, groups) = (inputs, inputs);
    } else if kind == 1 {
        groups = noise.pick(&[2, 4]);
        (inputs, outputs) = (groups * noise.pick(&[3, 8, 16]), groups * noise.pick(&[1, 5, 16]));
    }
    let size = match kind {
        2 | 3 => [3, 3],
        4 => [1, 1],
        _ => noise.pick(&[[1, 1], [3, 3], [3, 3], [5, 5], [2, 3], [7, 7], [1, 3]]),
    };
    let plain = kind == 2 || kind == 3;
    if plain {
        (inputs, outputs) = (noise.pick(&channels[3..]), noise.pick(&channels[4..]));
    }
    let stride = if plain { [1, 1] } else { noise.pick(&[[1, 1], [2, 2], [2, 1], [3, 3]]) };
    let dilation = if plain { [1, 1] } else { noise.pick(&[[1, 1], [1, 1], [1, 1], [2, 2]]) };
    let pad = |noise: &mut Noise, k: usize| noise.below(k.min(4) + 1).min(k * 2 - 1);
    let pad = Halo {
        top: pad(noise, size[0]),
        left: pad(noise, size[1]),
        bottom: pad(noise, size[0]),
        right: pad(noise, size[1]),
    };
    let maps = if plain { &[4, 7, 8, 14, 17, 20, 21, 33][..] } else { &[1, 2, 4, 7, 8, 13, 14, 17, 20, 28, 33] };
    let mut in_hw = [noise.pick(maps), noise.pick(maps)];
    if round % 97 == 5 {
        in_hw = [161, 97];
    }
    let reach = |a: usize| (size[a] - 1) * dilation[a] + 1;
    let pads = [pad.top + pad.bottom, pad.left + pad.right];
    for a in 0..2 {
        in_hw[a] = in_hw[a].max(reach(a).saturating_sub(pads[a]).max(1));
    }
    let out_hw = [0, 1].map(|a| (in_hw[a] + pads[a] - reach(a)) / stride[a] + 1);
    let activation = match noise.below(7) {
        0 => None,
        1 => Some(Activation::RELU),
        2 => Some(Activation::Clip { min: 0.0, max: 0.4 }),
        3 => Some(Activation::Leaky(0.1)),
        4 => Some(Activation::PRelu(noise.values(outputs))),
        5 => Some(Activation::Sigmoid),
        _ => Some(Activation::Silu),
    };
    ConvCase {
        spec: ConvSpec { in_channels: inputs, out_channels: outputs, groups, kernel: size, stride, dilation, pad },
        batch: noise.pick(&[1, 1, 2, 5]),
        in_hw,
        out_hw,
        activation,
        residual: noise.below(3) == 0,
        shift: noise.below(4) == 0,
    }
}

fn reference(
    case: &ConvCase,
    input: &Planes,
    weights: &[f32],
    bias: &[f32],
    shift: &[f32],
    residual: &Planes,
) -> Vec<f64> {
    let spec = &case.spec;
    let [kh, kw] = spec.kernel;
    let (per_in, per_out) = (spec.in_channels / spec.groups, spec.out_channels / spec.groups);
    let mut out = vec![];
    for n in 0..case.batch {
        for o in 0..spec.out_channels {
            for y in 0..case.out_hw[0] {
                for x in 0..case.out_hw[1] {
                    let mut sum = f64::from(bias[o]);
                    for i in 0..per_in {
                        let c = o / per_out * per_in + i;
                        for ky in 0..kh {
                            for kx in 0..kw {
                                let iy = (y * spec.stride[0] + ky * spec.dilation[0]) as isize - spec.pad.top as isize;
                                let ix = (x * spec.stride[1] + kx * spec.dilation[1]) as isize - spec.pad.left as isize;
                                if let Some(v) = input.at(n, c, iy, ix) {
                                    sum += f64::from(weights[((o * per_in + i) * kh + ky) * kw + kx])
                                        * (f64::from(v) + f64::from(shift[c]));
                                }
                            }
                        }
                    }
                    if case.residual {
                        sum += f64::from(residual.at(n, o, y as isize, x as isize).unwrap());
                    }
                    out.push(activate(sum, case.activation.as_ref(), o));
                }
            }
        }
    }
    out
}

/// A halo that is at least as large as `halo`.
fn extra(noise: &mut Noise, halo: Halo) -> Halo {
    halo.union(Halo { top: noise.below(3), left: noise.below(3), bottom: noise.below(3), right: noise.below(3) })
}

/// Compares a convolution with the reference. Returns the algorithm.
fn check(case: &ConvCase, isa: Isa, noise: &mut Noise, name: &str) -> &'static str {
    let spec = &case.spec;
    let lanes = isa.lanes();
    let input = Planes::noise(noise, [case.batch, spec.in_channels, case.in_hw[0], case.in_hw[1]]);
    let out_shape = [case.batch, spec.out_channels, case.out_hw[0], case.out_hw[1]];
    let residual = Planes::noise(noise, out_shape);
    let weights = noise.values(spec.out_channels * spec.in_channels / spec.groups * spec.kernel[0] * spec.kernel[1]);
    let bias = noise.values(spec.out_channels);
    let shift = if case.shift { noise.values(spec.in_channels) } else { vec![0.0; spec.in_channels] };
    let expected = reference(case, &input, &weights, &bias, &shift, &residual);

    let bare = Conv::source_halo(spec, case.batch, case.in_hw, case.out_hw) == Halo::default() && noise.below(2) == 0;
    let halo = |noise: &mut Noise| if bare { Halo::default() } else { extra(noise, Halo::default()) };
    let source_halo =
        if bare { Halo::default() } else { extra(noise, Conv::source_halo(spec, case.batch, case.in_hw, case.out_hw)) };
    let layout = |c: usize, hw: [usize; 2], halo: Halo| Blocked::new(case.batch, c, hw[0], hw[1], halo, lanes);
    let source_layout = layout(spec.in_channels, case.in_hw, source_halo);
    let target_layout = layout(spec.out_channels, case.out_hw, halo(noise));
    let residual_layout = layout(spec.out_channels, case.out_hw, halo(noise));
    let params = ConvParams {
        layer: name,
        weights: &weights,
        bias: &bias,
        input_shift: case.shift.then_some(&shift[..]),
        activation: case.activation.as_ref(),
    };
    let cache = PackCache::default();
    let conv =
        Conv::new(isa, spec, &params, source_layout, case.residual.then_some(residual_layout), target_layout, &cache);
    let fill = match params.input_shift {
        Some(shift) => shift.iter().map(|s| -s).collect(),
        None => vec![0.0; spec.in_channels],
    };
    let source = input.blocked(&source_layout, &fill);
    let residual = residual.blocked(&residual_layout, &vec![9.0; spec.out_channels]);
    let mut target = vec![123.0; target_layout.len()];
    conv.run(&source, case.residual.then_some(&residual[..]), &mut target);
    let depth = (spec.in_channels / spec.groups * spec.kernel[0] * spec.kernel[1]) as f64;
    // Winograd's larger tiles lose up to two decimal digits.
    let tolerance = if conv.algorithm().starts_with("winograd") { 4e-5 } else { 5e-6 } * (1.0 + depth.sqrt());
    compare(&target, &target_layout, &expected, tolerance, &format!("{name} {isa:?} {spec:?} {:?}", case.activation));
    conv.algorithm()
}

/// Compares the values inside the map and checks that the halo was not written.
fn compare(target: &[f32], layout: &Blocked, expected: &[f64], tolerance: f64, what: &str) {
    let halo = layout.halo;
    for n in 0..layout.n {
        for c in 0..layout.c {
            for y in -(halo.top as isize)..(layout.h + halo.bottom) as isize {
                for x in -(halo.left as isize)..(layout.w + halo.right) as isize {
                    let got = f64::from(target[layout.offset(n, c / layout.lanes, y, x) + c % layout.lanes]);
                    let inside = (0..layout.h as isize).contains(&y) && (0..layout.w as isize).contains(&x);
                    if inside {
                        let want = expected[((n * layout.c + c) * layout.h + y as usize) * layout.w + x as usize];
                        assert!((got - want).abs() <= tolerance, "{what} at {n},{c},{y},{x}: {got} for {want}");
                    } else {
                        assert_eq!(got, 123.0, "{what}: halo at {n},{c},{y},{x}");
                    }
                }
            }
        }
    }
}

fn pools() -> [rayon::ThreadPool; 2] {
    [1, 2].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap())
}

#[test]
fn conv_agrees_with_the_reference() {
    let pools = pools();
    let mut seen = std::collections::BTreeSet::new();
    for isa in Isa::available() {
        let mut noise = Noise(7);
        for round in 0..if cfg!(miri) { 8 } else { 160 } {
            let case = random_case(&mut noise, round);
            let mut noise = Noise(round as u64);
            seen.insert(pools[round % 2].install(|| check(&case, isa, &mut noise, &format!("round {round}"))));
        }
    }
    if !cfg!(miri) {
        for algorithm in
            ["winograd f2x2", "winograd f3x3", "winograd f4x4", "direct", "direct 1x1", "direct 3x3", "depthwise"]
        {
            assert!(seen.contains(algorithm), "no case ran {algorithm}");
        }
    }
}

#[test]
fn conv_with_streamed_weights_agrees_with_the_reference() {
    let pools = pools();
    let mut seen = std::collections::BTreeSet::new();
    for isa in Isa::available() {
        let mut noise = Noise(17);
        for (round, side) in [4, 5, 7, 7, 14, 20, 21].into_iter().enumerate().skip(if cfg!(miri) { 7 } else { 0 }) {
            let mut case = random_case(&mut noise, 2);
            let (inputs, outputs) = (noise.pick(&[130, 152, 200]), noise.pick(&[120, 136, 150]));
            case.spec = ConvSpec { in_channels: inputs, out_channels: outputs, ..case.spec };
            case.batch = if round == 2 { 1 } else { case.batch.min(2) };
            case.in_hw = [side, side + 1];
            let pad = case.spec.pad;
            case.out_hw = [side + pad.top + pad.bottom - 2, side + 1 + pad.left + pad.right - 2];
            case.activation = Some(Activation::PRelu(noise.values(outputs)));
            seen.insert(pools[round % 2].install(|| check(&case, isa, &mut noise, &format!("deep {round}"))));
        }
    }
    if !cfg!(miri) {
        for tile in ["winograd f2x2 streamed", "winograd f3x3 streamed", "winograd f4x4 streamed"] {
            assert!(seen.contains(tile), "no case ran {tile}");
        }
    }
}

#[test]
fn first_conv_agrees_with_the_reference() {
    let pools = pools();
    for isa in Isa::available() {
        let mut noise = Noise(11);
        for round in 0..if cfg!(miri) { 2 } else { 40 } {
            let mut case = random_case(&mut noise, round);
            case.residual = false;
            let spec = &mut case.spec;
            (spec.in_channels, spec.groups, spec.dilation) = (noise.pick(&[1, 3, 4]), 1, [1, 1]);
            if let Some(Activation::PRelu(_)) = case.activation {
                case.activation = Some(Activation::PRelu(noise.values(spec.out_channels)));
            }
            let reach = |a: usize| case.spec.kernel[a];
            let pads = [case.spec.pad.top + case.spec.pad.bottom, case.spec.pad.left + case.spec.pad.right];
            case.out_hw = [0, 1].map(|a| (case.in_hw[a] + pads[a] - reach(a)) / case.spec.stride[a] + 1);
            let spec = &case.spec;
            let input = Planes::noise(&mut noise, [case.batch, spec.in_channels, case.in_hw[0], case.in_hw[1]]);
            let weights = noise.values(spec.out_channels * spec.in_channels * spec.kernel[0] * spec.kernel[1]);
            let (bias, shift) = (noise.values(spec.out_channels), noise.values(spec.in_channels));
            let expected = reference(&case, &input, &weights, &bias, &shift, &input);
            let layout = Blocked::new(
                case.batch,
                spec.out_channels,
                case.out_hw[0],
                case.out_hw[1],
                extra(&mut noise, Halo::default()),
                isa.lanes(),
            );
            let params = ConvParams {
                layer: "first",
                weights: &weights,
                bias: &bias,
                input_shift: Some(&shift),
                activation: case.activation.as_ref(),
            };
            let conv = FirstConv::new(isa, spec, &params, case.in_hw, layout, &PackCache::default()).unwrap();
            let mut target = vec![123.0; layout.len()];
            pools[round % 2].install(|| conv.run(&input.data, &mut target));
            compare(&target, &layout, &expected, 5e-5, &format!("first {round} {isa:?} {spec:?}"));
        }
    }
}

#[test]
fn deconv_agrees_with_the_reference() {
    let pools = pools();
    for isa in Isa::available() {
        let mut noise = Noise(13);
        for round in 0..if cfg!(miri) { 2 } else { 40 } {
            let size = noise.pick(&[[2, 2], [4, 4], [3, 3], [3, 2], [1, 1]]);
            let stride = noise.pick(&[[2, 2], [1, 1], [2, 3]]);
            let pad = Halo { top: noise.below(2), left: noise.below(2), ..Halo::default() };
            let (inputs, outputs, batch) =
                (noise.pick(&[1, 5, 24, 40]), noise.pick(&[1, 12, 24, 33]), noise.pick(&[1, 2]));
            let in_hw = [noise.below(9) + 2, noise.below(20) + 2];
            let out_hw =
                [(in_hw[0] - 1) * stride[0] + size[0] - pad.top, (in_hw[1] - 1) * stride[1] + size[1] - pad.left];
            let spec = ConvSpec {
                in_channels: inputs,
                out_channels: outputs,
                groups: 1,
                kernel: size,
                stride,
                dilation: [1, 1],
                pad,
            };
            let input = Planes::noise(&mut noise, [batch, inputs, in_hw[0], in_hw[1]]);
            let weights = noise.values(inputs * outputs * size[0] * size[1]);
            let bias = noise.values(outputs);
            let mut expected = vec![0f64; batch * outputs * out_hw[0] * out_hw[1]];
            for (i, e) in expected.iter_mut().enumerate() {
                *e = f64::from(bias[i / (out_hw[0] * out_hw[1]) % outputs]);
            }
            for n in 0..batch {
                for c in 0..inputs {
                    for (y, x) in (0..in_hw[0]).flat_map(|y| (0..in_hw[1]).map(move |x| (y, x))) {
                        let v = f64::from(input.at(n, c, y as isize, x as isize).unwrap());
                        for o in 0..outputs {
                            for (ky, kx) in (0..size[0]).flat_map(|ky| (0..size[1]).map(move |kx| (ky, kx))) {
                                let (oy, ox) = (y * stride[0] + ky, x * stride[1] + kx);
                                if oy >= pad.top
                                    && ox >= pad.left
                                    && oy - pad.top < out_hw[0]
                                    && ox - pad.left < out_hw[1]
                                {
                                    expected
                                        [((n * outputs + o) * out_hw[0] + oy - pad.top) * out_hw[1] + ox - pad.left] +=
                                        v * f64::from(weights[((c * outputs + o) * size[0] + ky) * size[1] + kx]);
                                }
                            }
                        }
                    }
                }
            }
            let lanes = isa.lanes();
            let source_layout = Blocked::new(
                batch,
                inputs,
                in_hw[0],
                in_hw[1],
                extra(&mut noise, Deconv::source_halo(&spec, in_hw, out_hw)),
                lanes,
            );
            let layout = Blocked::new(batch, outputs, out_hw[0], out_hw[1], extra(&mut noise, Halo::default()), lanes);
            let params =
                ConvParams { layer: "deconv", weights: &weights, bias: &bias, input_shift: None, activation: None };
            let deconv = Deconv::new(isa, &spec, &params, source_layout, layout, &PackCache::default()).unwrap();
            let mut target = vec![123.0; layout.len()];
            let source = input.blocked(&source_layout, &vec![0.0; inputs]);
            pools[round % 2].install(|| deconv.run(&source, &mut target));
            compare(&target, &layout, &expected, 5e-5, &format!("deconv {round} {isa:?} {spec:?} {in_hw:?}"));
        }
    }
}

#[test]
fn dense_agrees_with_the_reference() {
    let pools = pools();
    for isa in Isa::available() {
        let mut noise = Noise(17);
        for round in 0..if cfg!(miri) { 2 } else { 30 } {
            let (inputs, outputs, rows) =
                (noise.pick(&[1, 7, 128, 600]), noise.pick(&[1, 3, 64, 128, 130]), noise.pick(&[1, 2, 8, 33]));
            let (weights, bias, source) =
                (noise.values(inputs * outputs), noise.values(outputs), noise.values(rows * inputs));
            let weight = |o: usize, i: usize| weights[o * inputs + i];
            let activation = noise.pick(&[None, Some(Activation::RELU), Some(Activation::Sigmoid)]);
            let dense =
                Dense::new(isa, "dense", inputs, outputs, weight, &bias, activation.as_ref(), &PackCache::default());
            let mut target = vec![0.0; rows * outputs];
            pools[round % 2].install(|| dense.run(&source, &mut target));
            for (i, &got) in target.iter().enumerate() {
                let (row, o) = (i / outputs, i % outputs);
                let sum: f64 = (0..inputs).map(|k| f64::from(weight(o, k)) * f64::from(source[row * inputs + k])).sum();
                let want = activate(sum + f64::from(bias[o]), activation.as_ref(), o);
                assert!((f64::from(got) - want).abs() < 1e-4, "{isa:?} {inputs}->{outputs} at {i}: {got} for {want}");
            }
        }
    }
}

#[test]
fn smooth_activations_have_a_small_relative_error() {
    for isa in Isa::available() {
        let inputs: Vec<f32> = (-12_800..12_800).map(|i| i as f32 / 100.0).collect();
        for activation in [SmoothActivation::Sigmoid, SmoothActivation::Silu] {
            let mut values = inputs.clone();
            let row = SmoothRow { values: values.as_mut_ptr(), len: values.len(), activation };
            // SAFETY: the CPU has the instruction set; the length is a multiple of every number of lanes.
            unsafe { (kernels(isa).smooth)(&row) };
            for (&x, &got) in inputs.iter().zip(&values) {
                let sigmoid = 1.0 / (1.0 + (-f64::from(x)).exp());
                let want = if activation == SmoothActivation::Silu { f64::from(x) * sigmoid } else { sigmoid };
                let error = (f64::from(got) - want).abs();
                assert!(error < 4e-7 * want.abs() + 1e-35, "{isa:?} {activation:?} of {x}: {got} for {want}");
            }
        }
    }
}
