//! Comparison of every operation with a plain loop over row-major tensors, on all instruction sets and various shapes.

use crate::graph::{Activation, Affine, BinaryKind, GroupNormOp, PoolKind, PoolOp, UnaryKind};
use crate::kernels::activation::SmoothActivation;
use crate::layout::blocked::{Blocked, Halo};
use crate::ops::blocked;
use crate::ops::blocked::{BlockedView, lane_maps};
use crate::ops::channels;
use crate::ops::elementwise::BlockActivation;
use crate::ops::layout;
use crate::ops::normalize;
use crate::ops::row_major;
use crate::simd::Isa;

const SHAPES: [[usize; 4]; 7] =
    [[1, 1, 1, 1], [1, 3, 5, 7], [2, 16, 8, 8], [1, 20, 13, 6], [3, 33, 4, 9], [1, 80, 20, 20], [2, 24, 33, 17]];

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn halo(seed: usize) -> Halo {
    Halo { top: seed % 3, left: seed / 3 % 2, bottom: seed / 2 % 2, right: seed % 2 }
}

/// A blocked tensor with a conspicuous number in its halo.
fn blocked(isa: Isa, data: &[f32], [n, c, h, w]: [usize; 4], seed: usize) -> (Vec<f32>, Blocked) {
    let shape = Blocked::new(n, c, h, w, halo(seed), isa.lanes());
    let mut out = vec![777.0; shape.len()];
    layout::block(data, &mut out, &shape);
    (out, shape)
}

fn plain(isa: Isa, data: &[f32], shape: Blocked) -> Vec<f32> {
    let mut out = vec![0.0; shape.n * shape.c * shape.h * shape.w];
    layout::to_planes(isa, BlockedView { data, shape }, 0, shape.c, &mut out, &BlockActivation::Identity);
    out
}

fn close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{what}: value {i} is {a}, expected {b}");
    }
}

/// Runs `test` for all instruction sets, all shapes and several halos.
fn for_all_shapes(test: impl Fn(Isa, [usize; 4], usize)) {
    for isa in Isa::available() {
        for (seed, shape) in SHAPES.into_iter().enumerate() {
            test(isa, shape, seed);
            test(isa, shape, seed + 4);
        }
    }
}

fn act_value(act: Option<&Activation>, v: f32, c: usize) -> f32 {
    match act {
        None => v,
        Some(Activation::Clip { min, max }) => v.clamp(*min, *max),
        Some(Activation::PRelu(s)) => {
            if v < 0.0 {
                v * s[c]
            } else {
                v
            }
        }
        Some(Activation::Leaky(s)) => {
            if v < 0.0 {
                v * s
            } else {
                v
            }
        }
        Some(Activation::Sigmoid) => (1.0 / (1.0 + (-f64::from(v)).exp())) as f32,
        Some(Activation::Silu) => (f64::from(v) / (1.0 + (-f64::from(v)).exp())) as f32,
    }
}

fn acts(channels: usize) -> Vec<Option<Activation>> {
    vec![
        None,
        Some(Activation::Clip { min: 0.0, max: f32::INFINITY }),
        Some(Activation::Clip { min: -0.25, max: 0.5 }),
        Some(Activation::PRelu(noise(channels, 3))),
        Some(Activation::Leaky(0.1)),
        Some(Activation::Sigmoid),
        Some(Activation::Silu),
    ]
}

#[test]
fn layout_conversions_round_trip() {
    for_all_shapes(|isa, shape, seed| {
        let data = noise(shape.iter().product(), 1);
        let (b, geometry) = blocked(isa, &data, shape, seed);
        assert_eq!(plain(isa, &b, geometry), data);
        // A range of channels, as planes and as pixels.
        let [n, c, h, w] = shape;
        let (first, count) = (c / 3, c - c / 3);
        let mut planes = vec![0.0; n * count * h * w];
        layout::to_planes(
            isa,
            BlockedView { data: &b, shape: geometry },
            first,
            count,
            &mut planes,
            &BlockActivation::Identity,
        );
        let groups = if count % 2 == 0 { 2 } else { 1 };
        let mut pixels = vec![0.0; planes.len()];
        let act = BlockActivation::Smooth(SmoothActivation::Sigmoid);
        layout::to_pixels(
            isa,
            BlockedView { data: &b, shape: geometry },
            first,
            [groups, count / groups],
            &mut pixels,
            &act,
        );
        let per = count / groups;
        for i in 0..n {
            for k in 0..count {
                for p in 0..h * w {
                    let expected = data[(i * c + first + k) * h * w + p];
                    assert_eq!(planes[(i * count + k) * h * w + p], expected);
                    let got = pixels[((i * groups + k / per) * h * w + p) * per + k % per];
                    close(&[got], &[act_value(Some(&Activation::Sigmoid), expected, 0)], "sigmoid");
                }
            }
        }
    });
}

#[test]
fn fill_halo_writes_the_halo_only() {
    for_all_shapes(|isa, shape, seed| {
        let data = noise(shape.iter().product(), 1);
        let (mut b, geometry) = blocked(isa, &data, shape, seed);
        blocked::fill_halo(&mut b, &geometry, None);
        assert_eq!(plain(isa, &b, geometry), data);
        assert!(b.iter().all(|&v| v != 777.0));
        let fill: Vec<f32> = (0..geometry.blocks() * geometry.lanes).map(|c| c as f32).collect();
        blocked::fill_halo(&mut b, &geometry, Some(&fill));
        assert_eq!(plain(isa, &b, geometry), data);
        let halo = geometry.halo;
        for c in 0..shape[1] {
            let (block, lane) = (c / geometry.lanes, c % geometry.lanes);
            for (y, x) in
                [(-(halo.top as isize), 0), (0, -(halo.left as isize)), ((shape[2] + halo.bottom) as isize - 1, 0)]
            {
                if y < 0 || x < 0 || y >= shape[2] as isize {
                    assert_eq!(b[geometry.offset(0, block, y, x) + lane], c as f32);
                }
            }
        }
    });
}

#[test]
fn affine_agrees_with_the_reference() {
    for_all_shapes(|isa, shape, seed| {
        let [_, c, h, w] = shape;
        let data: Vec<f32> = noise(shape.iter().product(), 2).iter().map(|v| v * 4.0).collect();
        let map = Affine { scale: noise(c, 5), shift: noise(c, 6) };
        for act in acts(c) {
            let expected: Vec<f32> = (0..data.len())
                .map(|i| {
                    let channel = i / (h * w) % c;
                    act_value(act.as_ref(), data[i] * map.scale[channel] + map.shift[channel], channel)
                })
                .collect();
            let (b, geometry) = blocked(isa, &data, shape, seed);
            let (mut out, target) = blocked(isa, &data, shape, seed + 1);
            let maps = lane_maps(&map, act.as_ref(), isa.lanes());
            blocked::affine(isa, BlockedView { data: &b, shape: geometry }, &mut out, &target, &maps);
            close(&plain(isa, &out, target), &expected, &format!("{isa:?} {shape:?} {act:?}"));
            let mut out = vec![0.0; data.len()];
            row_major::affine(isa, &data, &mut out, &shape, &map, act.as_ref());
            close(&out, &expected, &format!("row-major {isa:?} {shape:?} {act:?}"));
        }
    });
}

fn binary_value(kind: BinaryKind, a: f32, b: f32) -> f32 {
    match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => a / b,
        BinaryKind::Max => a.max(b),
        BinaryKind::Min => a.min(b),
    }
}

#[test]
fn binary_agrees_with_the_reference() {
    use BinaryKind::{Add, Div, Max, Min, Mul, Sub};
    for_all_shapes(|isa, shape, seed| {
        let [n, c, h, w] = shape;
        let a = noise(shape.iter().product(), 2);
        let b: Vec<f32> = noise(a.len(), 3).iter().map(|v| v + 2.0).collect();
        let act = Activation::PRelu(noise(c, 9));
        for kind in [Add, Sub, Mul, Div, Max, Min] {
            let expected: Vec<f32> =
                (0..a.len()).map(|i| act_value(Some(&act), binary_value(kind, a[i], b[i]), i / (h * w) % c)).collect();
            let (x, sx) = blocked(isa, &a, shape, seed);
            let (y, sy) = blocked(isa, &b, shape, seed + 2);
            let (mut out, target) = blocked(isa, &a, shape, seed + 1);
            let acts: Vec<BlockActivation> =
                (0..target.blocks()).map(|block| BlockActivation::new(Some(&act), block, isa.lanes())).collect();
            let views = [BlockedView { data: &x, shape: sx }, BlockedView { data: &y, shape: sy }];
            blocked::binary(isa, kind, views, &mut out, &target, &acts);
            close(&plain(isa, &out, target), &expected, &format!("{kind:?} {isa:?} {shape:?}"));
            let mut out = vec![0.0; a.len()];
            row_major::binary(isa, kind, [(&a, &shape), (&b, &shape)], &mut out, &shape, Some(&act));
            close(&out, &expected, &format!("row-major {kind:?} {shape:?}"));
        }
        // One value for each channel.
        let gate = noise(n * c, 8);
        let expected: Vec<f32> = (0..a.len()).map(|i| a[i] * gate[i / (h * w)]).collect();
        let (x, sx) = blocked(isa, &a, shape, seed);
        let (y, sy) = blocked(isa, &gate, [n, c, 1, 1], seed);
        let (mut out, target) = blocked(isa, &a, shape, seed);
        let views = [BlockedView { data: &x, shape: sx }, BlockedView { data: &y, shape: sy }];
        blocked::binary(isa, Mul, views, &mut out, &target, &[BlockActivation::Identity]);
        close(&plain(isa, &out, target), &expected, "gate");
    });
}

#[test]
fn binary_broadcasts_row_major_operands() {
    for (a, b) in [
        ([2, 3, 4, 5], [1, 3, 1, 1]),
        ([2, 3, 4, 5], [2, 1, 4, 1]),
        ([1, 1, 4, 5], [2, 3, 1, 1]),
        ([2, 3, 1, 40], [1, 1, 4, 40]),
        ([2, 3, 40, 1], [2, 3, 1, 1]),
    ] {
        let shape: Vec<usize> = (0..4).map(|i| a[i].max(b[i])).collect();
        let (x, y) = (noise(a.iter().product(), 1), noise(b.iter().product(), 2));
        let mut out = vec![0.0; shape.iter().product()];
        row_major::binary(Isa::detect(), BinaryKind::Sub, [(&x, &a), (&y, &b)], &mut out, &shape, None);
        let at = |dims: &[usize; 4], p: [usize; 4]| {
            (0..4).fold(0, |i, axis| i * dims[axis] + if dims[axis] == 1 { 0 } else { p[axis] })
        };
        let mut i = 0;
        for n in 0..shape[0] {
            for c in 0..shape[1] {
                for h in 0..shape[2] {
                    for w in 0..shape[3] {
                        assert_eq!(out[i], x[at(&a, [n, c, h, w])] - y[at(&b, [n, c, h, w])], "{a:?} {b:?}");
                        i += 1;
                    }
                }
            }
        }
    }
}

#[test]
fn unary_agrees_with_the_reference() {
    use UnaryKind::*;
    for_all_shapes(|isa, shape, seed| {
        let data: Vec<f32> = noise(shape.iter().product(), 4).iter().map(|v| v.abs() + 0.1).collect();
        for kind in [Square, Sqrt, Rsqrt, Recip, Exp, Ln, Tanh, Neg, Abs, HardSwish] {
            let f = |v: f32| match kind {
                Square => v * v,
                Sqrt => v.sqrt(),
                Rsqrt => v.sqrt().recip(),
                Recip => v.recip(),
                Exp => v.exp(),
                Ln => v.ln(),
                Tanh => v.tanh(),
                Neg => -v,
                Abs => v.abs(),
                HardSwish => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
            };
            let expected: Vec<f32> = data.iter().map(|&v| f(v)).collect();
            let (b, geometry) = blocked(isa, &data, shape, seed);
            let (mut out, target) = blocked(isa, &data, shape, seed + 1);
            blocked::unary(isa, kind, BlockedView { data: &b, shape: geometry }, &mut out, &target);
            close(&plain(isa, &out, target), &expected, &format!("{kind:?}"));
        }
    });
}

#[test]
fn pool_agrees_with_the_reference() {
    let average = |counts_padding| PoolKind::Average { counts_padding };
    for_all_shapes(|isa, shape, seed| {
        let [n, c, h, w] = shape;
        let data: Vec<f32> = noise(shape.iter().product(), 4).iter().map(|v| v - 2.0).collect();
        for kind in [PoolKind::Max, PoolKind::Sum, average(false), average(true)] {
            for (k, s, pad) in [([2, 2], [2, 2], 0), ([3, 3], [2, 2], 1), ([3, 2], [1, 3], 1), ([1, 1], [1, 1], 0)] {
                // Rounded up, so that some windows exceed the map.
                let out_size = |size: usize, k: usize, s: usize| {
                    let out = (size + 2 * pad).saturating_sub(k).div_ceil(s) + 1;
                    if (out - 1) * s >= size + pad { out - 1 } else { out }
                };
                let (oh, ow) = (out_size(h, k[0], s[0]), out_size(w, k[1], s[1]));
                let op = PoolOp { kind, kernel_size: k, stride: s, pad: [pad, pad] };
                let mut expected = vec![];
                for plane in data.chunks(h * w) {
                    for y in 0..oh {
                        for x in 0..ow {
                            let mut seen = vec![];
                            for ky in 0..k[0] {
                                for kx in 0..k[1] {
                                    let (iy, ix) =
                                        ((y * s[0] + ky).wrapping_sub(pad), (x * s[1] + kx).wrapping_sub(pad));
                                    if iy < h && ix < w {
                                        seen.push(plane[iy * w + ix]);
                                    }
                                }
                            }
                            let sum = seen.iter().sum::<f32>();
                            expected.push(match kind {
                                PoolKind::Max => seen.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                                PoolKind::Sum => sum,
                                PoolKind::Average { counts_padding: true } => sum / (k[0] * k[1]) as f32,
                                PoolKind::Average { .. } => sum / seen.len() as f32,
                            });
                        }
                    }
                }
                let (b, geometry) = blocked(isa, &data, shape, seed);
                let target = Blocked::new(n, c, oh, ow, halo(seed + 1), isa.lanes());
                let mut out = vec![0.0; target.len()];
                blocked::pool(isa, &op, BlockedView { data: &b, shape: geometry }, &mut out, &target);
                close(&plain(isa, &out, target), &expected, &format!("{op:?} {shape:?} {isa:?}"));
            }
        }
        let (b, geometry) = blocked(isa, &data, shape, seed);
        let target = Blocked::new(n, c, 1, 1, halo(seed), isa.lanes());
        let mut out = vec![0.0; target.len()];
        blocked::global_sum(isa, BlockedView { data: &b, shape: geometry }, &mut out, &target);
        let expected: Vec<f32> = data.chunks(h * w).map(|p| p.iter().sum()).collect();
        close(&plain(isa, &out, target), &expected, "global sum");
    });
}

#[test]
fn upsample_repeats_pixels() {
    for_all_shapes(|isa, shape, seed| {
        let [n, c, h, w] = shape;
        let data = noise(shape.iter().product(), 4);
        for [fy, fx] in [[2, 2], [1, 3], [3, 1]] {
            let (b, geometry) = blocked(isa, &data, shape, seed);
            let target = Blocked::new(n, c, h * fy, w * fx, halo(seed + 1), isa.lanes());
            let mut out = vec![0.0; target.len()];
            blocked::upsample(isa, BlockedView { data: &b, shape: geometry }, &mut out, &target, [fy, fx]);
            let mut expected = vec![];
            for plane in data.chunks(h * w) {
                for y in 0..h * fy {
                    expected.extend((0..w * fx).map(|x| plane[y / fy * w + x / fx]));
                }
            }
            assert_eq!(plain(isa, &out, target), expected);
        }
    });
}

#[test]
fn gather_selects_channels() {
    for_all_shapes(|isa, shape, seed| {
        let [n, c, h, w] = shape;
        let other = [n, c + 5, h, w];
        let (a, b) = (noise(shape.iter().product(), 1), noise(other.iter().product(), 2));
        // Ranges, single channels, and one channel twice.
        let map: Vec<(usize, usize)> = (0..c + 5)
            .map(|i| (1, i))
            .chain((0..c).map(|i| (0, i)))
            .chain((0..c).map(|i| (0, (i * 7 + 3) % c)))
            .chain([(1, c + 4), (1, c + 4)])
            .collect();
        let (x, sx) = blocked(isa, &a, shape, seed);
        let (y, sy) = blocked(isa, &b, other, seed + 3);
        let target = Blocked::new(n, map.len(), h, w, halo(seed + 1), isa.lanes());
        let mut out = vec![777.0; target.len()];
        let sources = [BlockedView { data: &x, shape: sx }, BlockedView { data: &y, shape: sy }];
        channels::gather(isa, &sources, &mut out, &target, &channels::picks(isa, &map));
        let mut expected = vec![];
        for i in 0..n {
            for &(source, channel) in &map {
                let (data, channels) = if source == 0 { (&a, c) } else { (&b, c + 5) };
                expected.extend_from_slice(&data[(i * channels + channel) * h * w..][..h * w]);
            }
        }
        assert_eq!(plain(isa, &out, target), expected);
    });
}

#[test]
fn group_norm_normalizes_each_group() {
    for_all_shapes(|isa, shape, seed| {
        let [n, c, h, w] = shape;
        let data: Vec<f32> = noise(shape.iter().product(), 4).iter().map(|v| v * 3.0 + 1.5).collect();
        for groups in [1, 2, 3, 4, 16, c] {
            if c % groups != 0 {
                continue;
            }
            let affine = Affine { scale: noise(c, 5), shift: noise(c, 6) };
            let act = Some(Activation::Clip { min: 0.0, max: f32::INFINITY });
            let op = GroupNormOp { groups, epsilon: 1e-5, affine: affine.clone(), act: act.clone() };
            let mut expected = vec![];
            let size = c / groups * h * w;
            for (g, group) in data.chunks(size).enumerate() {
                let mean = group.iter().map(|&v| f64::from(v)).sum::<f64>() / size as f64;
                let variance = group.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / size as f64;
                for (i, &v) in group.iter().enumerate() {
                    let channel = (g % groups) * (c / groups) + i / (h * w);
                    let normal = ((f64::from(v) - mean) / (variance + 1e-5).sqrt()) as f32;
                    let value = normal * affine.scale[channel] + affine.shift[channel];
                    expected.push(act_value(act.as_ref(), value, channel));
                }
            }
            let (b, geometry) = blocked(isa, &data, shape, seed);
            let target = Blocked::new(n, c, h, w, halo(seed + 1), isa.lanes());
            let mut out = vec![0.0; target.len()];
            normalize::group_norm(isa, &op, BlockedView { data: &b, shape: geometry }, &mut out, &target);
            // A group of one value has variance 0, so its result is a rounding error times 1 / sqrt(epsilon).
            if size > 1 {
                for (a, b) in plain(isa, &out, target).iter().zip(&expected) {
                    assert!((a - b).abs() < 5e-4, "{isa:?} {shape:?} {groups}: {a} {b}");
                }
            }
        }
    });
}

#[test]
fn softmax_and_transpose_agree_with_the_reference() {
    for isa in Isa::available() {
        for shape in [[1, 2, 3, 1], [2, 2, 160, 7], [1, 10, 1, 100]] {
            let data: Vec<f32> = noise(shape.iter().product(), 4).iter().map(|v| v * 30.0).collect();
            let mut out = vec![0.0; data.len()];
            row_major::softmax(isa, &data, &mut out, &shape, 1..2);
            let inner = shape[2] * shape[3];
            let mut expected = vec![0.0; data.len()];
            for n in 0..shape[0] {
                for p in 0..inner {
                    let at = |c: usize| (n * shape[1] + c) * inner + p;
                    let top = (0..shape[1]).map(|c| data[at(c)]).fold(f32::MIN, f32::max);
                    let sum: f64 = (0..shape[1]).map(|c| f64::from(data[at(c)] - top).exp()).sum();
                    (0..shape[1]).for_each(|c| expected[at(c)] = (f64::from(data[at(c)] - top).exp() / sum) as f32);
                }
            }
            close(&out, &expected, &format!("{isa:?} {shape:?}"));
        }
    }
    let data = noise(2 * 3 * 4 * 5, 1);
    let mut out = vec![0.0; data.len()];
    row_major::transpose(&data, &[2, 3, 4, 5], &[3, 0, 2, 1], &mut out);
    for (i, v) in out.iter().enumerate() {
        let [d, a, c, b] = [i / 24, i / 12 % 2, i / 3 % 4, i % 3];
        assert_eq!(*v, data[((a * 3 + b) * 4 + c) * 5 + d]);
    }
}
