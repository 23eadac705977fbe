//! Element by element, on rows of values: the innermost loops of everything that is no convolution.
//!
//! Each function is plain slice code that is compiled once for every instruction set, see [`vectorized`](crate::ops::vectorized).
//! `L` is the number of values a constant repeats after: the channel block of blocked tensors.

use crate::graph::{Act, BinaryKind, UnaryKind};
use crate::kernels::isa::Isa;
use crate::ops::{Lanes, vectorized};

/// Coefficients of one channel block: scale, shift and activation of each lane.
#[derive(Clone, Debug)]
pub(crate) struct LaneMap {
    pub scale: Lanes,
    pub shift: Lanes,
    pub act: LaneAct,
}

/// [`Act`] with the slopes of one channel block.
#[derive(Clone, Debug)]
pub(crate) enum LaneAct {
    None,
    Clip { min: f32, max: f32 },
    Slope(Lanes),
    Sigmoid,
    Silu,
}

impl LaneAct {
    /// The part of `act` that block `block` of `lanes` channels needs; missing channels get slope 1.
    pub fn of(act: Option<&Act>, block: usize, lanes: usize) -> LaneAct {
        match act {
            None => LaneAct::None,
            Some(Act::Clip { min, max }) => LaneAct::Clip { min: *min, max: *max },
            Some(Act::Leaky(slope)) => LaneAct::Slope(Lanes::from_elem(*slope, lanes)),
            Some(Act::PRelu(slopes)) => LaneAct::Slope(lane_values(slopes, block, lanes, 1.0)),
            Some(Act::Sigmoid) => LaneAct::Sigmoid,
            Some(Act::Silu) => LaneAct::Silu,
        }
    }
}

/// Values of the channels of one block, `fill` beyond the last.
pub(crate) fn lane_values(values: &[f32], block: usize, lanes: usize, fill: f32) -> Lanes {
    (block * lanes..(block + 1) * lanes).map(|c| values.get(c).copied().unwrap_or(fill)).collect()
}

/// e^x to within 2 units of the last place, 0 below -87; branch-free so that it vectorises (Cephes' expf).
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer and leaves that in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// The larger of two; the second when one is no number. One instruction everywhere, where [`f32::max`] takes three, and in WebAssembly a
/// call for every value.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller of two, likewise.
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn activate<const L: usize>(v: [f32; L], act: &LaneAct) -> [f32; L] {
    let mut v = v;
    match act {
        LaneAct::None => {}
        LaneAct::Clip { min, max } => v.iter_mut().for_each(|v| *v = smaller(larger(*v, *min), *max)),
        LaneAct::Slope(slopes) => {
            for (v, s) in v.iter_mut().zip(slopes) {
                *v = larger(*v, 0.0) + s * smaller(*v, 0.0);
            }
        }
        LaneAct::Sigmoid => v.iter_mut().for_each(|v| *v = sigmoid(*v)),
        LaneAct::Silu => v.iter_mut().for_each(|v| *v *= sigmoid(*v)),
    }
    v
}

#[inline(always)]
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

/// One loop for each activation, so that its choice stays outside.
#[inline(always)]
fn map_lanes<const L: usize>(dst: &mut [f32], act: &LaneAct, mut value: impl FnMut(usize) -> [f32; L]) {
    macro_rules! each {
        ($act:expr) => {
            for (i, out) in dst.chunks_exact_mut(L).enumerate() {
                out.copy_from_slice(&activate::<L>(value(i), $act));
            }
        };
    }
    match act {
        LaneAct::None => each!(&LaneAct::None),
        LaneAct::Clip { min, max } => each!(&LaneAct::Clip { min: *min, max: *max }),
        LaneAct::Slope(slopes) => {
            let slopes = fixed::<L>(slopes);
            for (i, out) in dst.chunks_exact_mut(L).enumerate() {
                for (o, (v, s)) in out.iter_mut().zip(value(i).iter().zip(&slopes)) {
                    *o = larger(*v, 0.0) + s * smaller(*v, 0.0);
                }
            }
        }
        LaneAct::Sigmoid => each!(&LaneAct::Sigmoid),
        LaneAct::Silu => each!(&LaneAct::Silu),
    }
}

#[inline(always)]
fn chunk<const L: usize>(row: &[f32], i: usize) -> [f32; L] {
    fixed(&row[i * L..(i + 1) * L])
}

vectorized! {
    /// `dst = act(src * scale + shift)`; both hold whole channel blocks.
    pub(in crate) fn affine<L>(src: &[f32], dst: &mut [f32], map: &LaneMap) {
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
    pub(in crate) fn binary<L>(kind: BinaryKind, a: &[f32], b: &[f32], dst: &mut [f32], act: &LaneAct) {
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
    pub(in crate) fn scale_by_block<L>(a: &[f32], b: &[f32], dst: &mut [f32], act: &LaneAct) {
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
    /// `dst = f(src)`; slices of equal length, no channel blocks needed.
    pub(in crate) fn unary<L>(kind: UnaryKind, src: &[f32], dst: &mut [f32]) {
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
    pub(in crate) fn affine_uniform<L>(src: &[f32], dst: &mut [f32], scale: f32, shift: f32, act: &LaneAct) {
        macro_rules! with {
            ($f:expr) => {
                for (d, &s) in dst.iter_mut().zip(src) {
                    *d = $f(s * scale + shift);
                }
            };
        }
        match act {
            LaneAct::None => with!(|x: f32| x),
            LaneAct::Clip { min, max } => with!(|x: f32| smaller(larger(x, *min), *max)),
            LaneAct::Slope(slopes) => {
                let slope = slopes.first().copied().unwrap_or(1.0);
                with!(|x: f32| larger(x, 0.0) + slope * smaller(x, 0.0))
            }
            LaneAct::Sigmoid => with!(sigmoid),
            LaneAct::Silu => with!(|x: f32| x * sigmoid(x)),
        }
    }
}

/// `values = act(values)` with a uniform activation.
pub(crate) fn activate_uniform(isa: Isa, values: &mut [f32], act: &LaneAct) {
    if matches!(act, LaneAct::None) {
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
    /// Adds the values of a row, lane by lane, to `sums`.
    pub(in crate) fn add_up<L>(row: &[f32], sums: &mut [f64]) {
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
    /// Adds the values of a row and their squares, lane by lane, to `sums` and `squares`.
    pub(in crate) fn moments<L>(row: &[f32], sums: &mut [f64], squares: &mut [f64]) {
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
    /// Adds each pixel of `src` to `dst`, `step` pixels apart, or takes the larger of both.
    pub(in crate) fn gather_pixels<L>(src: &[f32], dst: &mut [f32], step: usize, take_max: bool) {
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
    pub(in crate) fn repeat_pixels<L>(src: &[f32], dst: &mut [f32], factor: usize) {
        for (out, pixel) in dst.chunks_exact_mut(L * factor).zip(src.chunks_exact(L)) {
            let pixel = fixed::<L>(pixel);
            for copy in out.chunks_exact_mut(L) {
                copy.copy_from_slice(&pixel);
            }
        }
    }
}

vectorized! {
    /// Softmax over `count` values `stride` apart, for `stride` neighbours at once: `[count][stride]` in, the same out.
    pub(in crate) fn softmax<L>(src: &[f32], dst: &mut [f32], count: usize, stride: usize) {
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
                for ((d, &v), (t, s)) in dst[at..][..span].iter_mut().zip(&src[at..][..span]).zip(top.iter().zip(&mut sum)) {
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
