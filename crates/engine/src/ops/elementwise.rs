//! Element-wise operations on rows of values: the innermost loops of all operations except convolutions.
//!
//! Each function is plain slice code that is compiled once for every instruction set, see
//! [`vectorized!`](crate::simd::vectorized). `L` is the number of lanes; constants of a channel block repeat after `L`
//! values.

use crate::graph::{BinaryKind, UnaryKind};
use crate::kernels::activation::{Activation, SmoothActivation};
use crate::ops::Lanes;
use crate::simd::exp::exp;
use crate::simd::{Isa, vectorized};

/// Coefficients of one channel block: scale, shift and activation of each lane.
#[derive(Clone, Debug)]
pub(crate) struct LaneMap {
    pub scale: Lanes,
    pub shift: Lanes,
    pub act: BlockActivation,
}

/// [`Activation`] with the slopes of one channel block.
#[derive(Clone, Debug)]
pub(crate) enum BlockActivation {
    Identity,
    Clip { min: f32, max: f32 },
    Slope(Lanes),
    Smooth(SmoothActivation),
}

impl BlockActivation {
    /// `activation` for block `block` of `lanes` channels; lanes beyond the last channel get slope 1.
    pub fn new(activation: Option<&Activation>, block: usize, lanes: usize) -> BlockActivation {
        match activation {
            None => BlockActivation::Identity,
            Some(Activation::Clip { min, max }) => BlockActivation::Clip { min: *min, max: *max },
            Some(Activation::Leaky(slope)) => BlockActivation::Slope(Lanes::from_elem(*slope, lanes)),
            Some(Activation::PRelu(slopes)) => BlockActivation::Slope(lane_values(slopes, block, lanes, 1.0)),
            Some(Activation::Sigmoid) => BlockActivation::Smooth(SmoothActivation::Sigmoid),
            Some(Activation::Silu) => BlockActivation::Smooth(SmoothActivation::Silu),
        }
    }
}

/// Values of the channels of one block, with `fill` beyond the last channel.
pub(crate) fn lane_values(values: &[f32], block: usize, lanes: usize, fill: f32) -> Lanes {
    (block * lanes..(block + 1) * lanes).map(|c| values.get(c).copied().unwrap_or(fill)).collect()
}

/// The larger value; `b` if one of them is NaN. Takes one instruction on every CPU; [`f32::max`] takes three
/// instructions, and in WebAssembly a call for every value.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller value; `b` if one of them is NaN. See [`larger`].
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn activate<const L: usize>(v: [f32; L], act: &BlockActivation) -> [f32; L] {
    let mut v = v;
    match act {
        BlockActivation::Identity => {}
        BlockActivation::Clip { min, max } => v.iter_mut().for_each(|v| *v = smaller(larger(*v, *min), *max)),
        BlockActivation::Slope(slopes) => {
            for (v, s) in v.iter_mut().zip(slopes) {
                *v = larger(*v, 0.0) + s * smaller(*v, 0.0);
            }
        }
        BlockActivation::Smooth(SmoothActivation::Sigmoid) => v.iter_mut().for_each(|v| *v = sigmoid(*v)),
        BlockActivation::Smooth(SmoothActivation::Silu) => v.iter_mut().for_each(|v| *v *= sigmoid(*v)),
    }
    v
}

#[inline(always)]
/// The first `L` values, with zeros after the end of a shorter slice.
fn fixed<const L: usize>(values: &[f32]) -> [f32; L] {
    if let Some(whole) = values.first_chunk() {
        return *whole;
    }
    let mut out = [0.0; L];
    for (o, v) in out.iter_mut().zip(values) {
        *o = *v;
    }
    out
}

/// `dst = act(value(i))` for each channel block `i`. Each activation has its own loop, so that the loop has no branch.
#[inline(always)]
fn map_lanes<const L: usize>(dst: &mut [f32], act: &BlockActivation, mut value: impl FnMut(usize) -> [f32; L]) {
    macro_rules! each {
        ($act:expr) => {
            for (i, out) in dst.chunks_exact_mut(L).enumerate() {
                out.copy_from_slice(&activate::<L>(value(i), $act));
            }
        };
    }
    match act {
        BlockActivation::Identity => each!(&BlockActivation::Identity),
        BlockActivation::Clip { min, max } => each!(&BlockActivation::Clip { min: *min, max: *max }),
        BlockActivation::Slope(slopes) => {
            let slopes = fixed::<L>(slopes);
            for (i, out) in dst.chunks_exact_mut(L).enumerate() {
                for (o, (v, s)) in out.iter_mut().zip(value(i).iter().zip(&slopes)) {
                    *o = larger(*v, 0.0) + s * smaller(*v, 0.0);
                }
            }
        }
        BlockActivation::Smooth(SmoothActivation::Sigmoid) => {
            each!(&BlockActivation::Smooth(SmoothActivation::Sigmoid))
        }
        BlockActivation::Smooth(SmoothActivation::Silu) => each!(&BlockActivation::Smooth(SmoothActivation::Silu)),
    }
}

#[inline(always)]
/// Channel block `i` of a row.
fn chunk<const L: usize>(row: &[f32], i: usize) -> [f32; L] {
    fixed(&row[i * L..(i + 1) * L])
}

vectorized! {
    /// `dst = act(src * scale + shift)`; both hold whole channel blocks.
    pub(crate) fn affine[L](src: &[f32], dst: &mut [f32], map: &LaneMap) {
        let (scale, shift) = (fixed::<L>(&map.scale), fixed::<L>(&map.shift));
        map_lanes::<L>(dst, &map.act, |i| {
            let mut v = chunk::<L>(src, i);
            for (v, (s, t)) in v.iter_mut().zip(scale.iter().zip(&shift)) {
                *v = *v * s + t;
            }
            v
        });
    }
}

vectorized! {
    /// `dst = act(a op b)` on whole channel blocks.
    pub(crate) fn binary[L](kind: BinaryKind, a: &[f32], b: &[f32], dst: &mut [f32], act: &BlockActivation) {
        macro_rules! with {
            ($f:expr) => {
                map_lanes::<L>(dst, act, |i| {
                    let mut v = chunk::<L>(a, i);
                    for (v, w) in v.iter_mut().zip(chunk::<L>(b, i)) {
                        *v = $f(*v, w);
                    }
                    v
                })
            };
        }
        match kind {
            BinaryKind::Add => with!(|x: f32, y: f32| x + y),
            BinaryKind::Sub => with!(|x: f32, y: f32| x - y),
            BinaryKind::Mul => with!(|x: f32, y: f32| x * y),
            BinaryKind::Div => with!(|x: f32, y: f32| x / y),
            BinaryKind::Max => with!(larger),
            BinaryKind::Min => with!(smaller),
        }
    }
}

vectorized! {
    /// `dst = act(a * b)` with one channel block `b` for all of `a`.
    pub(crate) fn scale_by_block[L](a: &[f32], b: &[f32], dst: &mut [f32], act: &BlockActivation) {
        let b = fixed::<L>(b);
        map_lanes::<L>(dst, act, |i| {
            let mut v = chunk::<L>(a, i);
            for (v, w) in v.iter_mut().zip(&b) {
                *v *= w;
            }
            v
        });
    }
}

vectorized! {
    /// `dst = f(src)`; slices of equal length, in any layout.
    pub(crate) fn unary[L](kind: UnaryKind, src: &[f32], dst: &mut [f32]) {
        macro_rules! with {
            ($f:expr) => {
                for (d, &s) in dst.iter_mut().zip(src) {
                    *d = $f(s);
                }
            };
        }
        match kind {
            UnaryKind::Square => with!(|x: f32| x * x),
            UnaryKind::Sqrt => with!(|x: f32| x.sqrt()),
            UnaryKind::Rsqrt => with!(|x: f32| 1.0 / x.sqrt()),
            UnaryKind::Recip => with!(|x: f32| 1.0 / x),
            UnaryKind::Exp => with!(|x: f32| x.exp()),
            UnaryKind::Ln => with!(|x: f32| x.ln()),
            UnaryKind::Tanh => with!(|x: f32| x.tanh()),
            UnaryKind::Neg => with!(|x: f32| -x),
            UnaryKind::Abs => with!(|x: f32| x.abs()),
            UnaryKind::HardSwish => with!(|x: f32| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        }
    }
}

vectorized! {
    /// `dst = act(src * scale + shift)` with one scale, one shift and a uniform activation, on slices of any length.
    pub(crate) fn affine_uniform[L](src: &[f32], dst: &mut [f32], scale: f32, shift: f32, act: &BlockActivation) {
        macro_rules! with {
            ($f:expr) => {
                for (d, &s) in dst.iter_mut().zip(src) {
                    *d = $f(s * scale + shift);
                }
            };
        }
        match act {
            BlockActivation::Identity => with!(|x: f32| x),
            BlockActivation::Clip { min, max } => with!(|x: f32| smaller(larger(x, *min), *max)),
            BlockActivation::Slope(slopes) => {
                let slope = slopes.first().copied().unwrap_or(1.0);
                with!(|x: f32| larger(x, 0.0) + slope * smaller(x, 0.0))
            }
            BlockActivation::Smooth(SmoothActivation::Sigmoid) => with!(sigmoid),
            BlockActivation::Smooth(SmoothActivation::Silu) => with!(|x: f32| x * sigmoid(x)),
        }
    }
}

/// `values = act(values)` with a uniform activation, on a slice of any length.
pub(crate) fn activate_uniform(isa: Isa, values: &mut [f32], act: &BlockActivation) {
    if matches!(act, BlockActivation::Identity) {
        return;
    }
    const SPAN: usize = 256;
    let mut copy = [0.0; SPAN];
    for part in values.chunks_mut(SPAN) {
        let copy = &mut copy[..part.len()];
        copy.copy_from_slice(part);
        affine_uniform(isa, copy, part, 1.0, 0.0, act);
    }
}

vectorized! {
    /// Adds the values of a row to `sums`, which has one sum for each lane.
    pub(crate) fn add_up[L](row: &[f32], sums: &mut [f64]) {
        let mut sum = [0.0f32; L];
        for pixel in row.chunks_exact(L) {
            for (sum, &v) in sum.iter_mut().zip(pixel) {
                *sum += v;
            }
        }
        for (sums, sum) in sums.iter_mut().zip(sum) {
            *sums += f64::from(sum);
        }
    }
}

vectorized! {
    /// Adds the values of a row to `sums` and their squares to `squares`, which have one sum for each lane.
    pub(crate) fn moments[L](row: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        let (mut sum, mut square) = ([0.0f32; L], [0.0f32; L]);
        for pixel in row.chunks_exact(L) {
            for ((sum, square), &v) in sum.iter_mut().zip(&mut square).zip(pixel) {
                *sum += v;
                *square += v * v;
            }
        }
        for l in 0..L {
            sums[l] += f64::from(sum[l]);
            squares[l] += f64::from(square[l]);
        }
    }
}

vectorized! {
    /// Adds pixel `i * step` of `src` to pixel `i` of `dst`, or stores the maximum of both.
    pub(crate) fn gather_pixels[L](src: &[f32], dst: &mut [f32], step: usize, take_max: bool) {
        macro_rules! with {
            ($step:expr, $f:expr) => {
                for (out, pixel) in dst.chunks_exact_mut(L).zip(src.chunks(L * $step)) {
                    for (o, &v) in out.iter_mut().zip(&pixel[..L]) {
                        *o = $f(*o, v);
                    }
                }
            };
        }
        match (take_max, step) {
            (true, 1) => with!(1, larger),
            (true, 2) => with!(2, larger),
            (true, _) => with!(step, larger),
            (false, 1) => with!(1, |a: f32, b: f32| a + b),
            (false, 2) => with!(2, |a: f32, b: f32| a + b),
            (false, _) => with!(step, |a: f32, b: f32| a + b),
        }
    }
}

vectorized! {
    /// Repeats each pixel of `src` `factor` times.
    pub(crate) fn repeat_pixels[L](src: &[f32], dst: &mut [f32], factor: usize) {
        for (out, pixel) in dst.chunks_exact_mut(L * factor).zip(src.chunks_exact(L)) {
            let pixel = fixed::<L>(pixel);
            for copy in out.chunks_exact_mut(L) {
                copy.copy_from_slice(&pixel);
            }
        }
    }
}

vectorized! {
    /// Softmax over the first axis of `[count][stride]`.
    pub(crate) fn softmax[L](src: &[f32], dst: &mut [f32], count: usize, stride: usize) {
        const SPAN: usize = 64;
        for start in (0..stride).step_by(SPAN) {
            let span = SPAN.min(stride - start);
            let (mut top, mut sum) = ([f32::NEG_INFINITY; SPAN], [0.0f32; SPAN]);
            for i in 0..count {
                let row = &src[i * stride + start..][..span];
                for (t, &v) in top.iter_mut().zip(row) {
                    *t = larger(v, *t);
                }
            }
            for i in 0..count {
                let at = i * stride + start;
                let row = dst[at..][..span].iter_mut().zip(&src[at..][..span]);
                for ((d, &v), (t, s)) in row.zip(top.iter().zip(&mut sum)) {
                    *d = exp(v - t);
                    *s += *d;
                }
            }
            for i in 0..count {
                for (d, s) in dst[i * stride + start..][..span].iter_mut().zip(&sum) {
                    *d /= s;
                }
            }
        }
    }
}
