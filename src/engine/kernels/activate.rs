//! Activations that need an exponential, applied to finished rows while they are in the cache.

use super::simd::Simd;

/// The activations of [`Activation`](super::Activation) that are no piecewise line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    Sigmoid,
    Silu,
}

pub(super) type CurveFn = unsafe fn(*mut f32, usize, Curve);

/// Applies `curve` to `len` floats at `values`; `len` is a multiple of the lanes.
///
/// # Safety
/// The CPU has `S`, and the pointer is valid.
#[inline(always)]
pub(super) unsafe fn apply<S: Simd>(values: *mut f32, len: usize, curve: Curve) {
    // SAFETY: the values the caller vouches for.
    let values = unsafe { std::slice::from_raw_parts_mut(values, len) };
    // Plain loops, which vectorise with the instructions of the function this is inlined into.
    match curve {
        Curve::Sigmoid => values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + exp(-*v))),
        Curve::Silu => values.iter_mut().for_each(|v| *v /= 1.0 + exp(-*v)),
    }
}

/// e to the power of `x` to within 2 units in the last place, without branches, so that loops over it vectorise.
///
/// Cody-Waite reduction and the minimax polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = n.mul_add_fast(-0.693_359_4, x);
    let r = n.mul_add_fast(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add_fast(r, 1.398_199_9e-3);
    let p = p.mul_add_fast(r, 8.333_452e-3);
    let p = p.mul_add_fast(r, 4.166_579_6e-2);
    let p = p.mul_add_fast(r, 1.666_666_5e-1);
    let p = p.mul_add_fast(r, 0.5);
    let y = p.mul_add_fast(r * r, r) + 1.0;
    y * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

trait MulAddFast {
    fn mul_add_fast(self, a: f32, b: f32) -> f32;
}

impl MulAddFast for f32 {
    /// Separate roundings: a fused one would be a library call on CPUs without it.
    #[inline(always)]
    fn mul_add_fast(self, a: f32, b: f32) -> f32 {
        self * a + b
    }
}
