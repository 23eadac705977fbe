//! Activations that need an exponential, applied to finished rows while they are in the cache.

use super::simd::{ROUND, Simd};

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
    // SAFETY: within the values the caller vouches for.
    unsafe {
        let one = S::splat(1.0);
        let ends = (0..len).step_by(S::LANES).map(|i| values.add(i));
        match curve {
            Curve::Sigmoid => ends.for_each(|p| S::store(p, S::div(one, S::add(one, exp_minus::<S>(S::load(p)))))),
            Curve::Silu => ends.for_each(|p| {
                let v = S::load(p);
                S::store(p, S::div(v, S::add(one, exp_minus::<S>(v))));
            }),
        }
    }
}

/// e to the power of `-x` to within 2 units in the last place, for `x` cut to -88 and 87.
///
/// Cody-Waite reduction and the minimax polynomial of Cephes' `expf`.
#[inline(always)]
unsafe fn exp_minus<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the CPU has `S`.
    unsafe {
        let s = |value| S::splat(value);
        let x = S::max(S::min(x, s(87.0)), s(-88.0));
        let shifted = S::fma(x, s(-std::f32::consts::LOG2_E), s(ROUND));
        let n = S::sub(s(ROUND), shifted);
        // -x = r + n' log 2, where n' = -n and log 2 is split in two so that the first product is exact.
        let r = S::fma(n, s(0.693_359_4), S::sub(S::zero(), x));
        let r = S::fma(n, s(-2.121_944_4e-4), r);
        let p = S::fma(s(1.987_569_1e-4), r, s(1.398_199_9e-3));
        let p = S::fma(p, r, s(8.333_452e-3));
        let p = S::fma(p, r, s(4.166_579_6e-2));
        let p = S::fma(p, r, s(1.666_666_5e-1));
        let p = S::fma(p, r, s(0.5));
        let p = S::fma(p, S::mul(r, r), S::add(r, s(1.0)));
        S::scale(p, shifted)
    }
}
