//! Activations that need an exponential, applied to finished rows while they are in the cache.

use crate::simd::vector::{ROUND, Simd};

/// The activations of [`Activation`](crate::kernels::epilogue::Activation) that are no piecewise line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    Sigmoid,
    Silu,
}

pub(crate) type CurveFn = unsafe fn(*mut f32, usize, Curve);

/// Applies `curve` to `len` floats at `values`; `len` is a multiple of the lanes.
///
/// # Safety
/// The CPU has `S`, and the pointer is valid.
#[inline(always)]
pub(crate) unsafe fn apply<S: Simd>(values: *mut f32, len: usize, curve: Curve) {
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

/// e to the power of `-x` to within 3e-7 of it, for `x` cut to -88 and 87.
///
/// `x = r - n log 2` with the integer `n` that leaves the smallest `r`; the polynomial is the minimax one of degree 5 for the relative error
/// of `exp(-r)`, 7.5e-8.
#[inline(always)]
unsafe fn exp_minus<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the CPU has `S`.
    unsafe {
        let s = |value| S::splat(value);
        let x = S::max(S::min(x, s(87.0)), s(-88.0));
        let shifted = S::fma(x, s(-std::f32::consts::LOG2_E), s(ROUND));
        let n = S::sub(shifted, s(ROUND));
        // Log 2 in two pieces, of which the first times `n` is exact where nothing is fused.
        let r = S::fma(n, s(-2.121_944_4e-4), S::fma(n, s(0.693_359_4), x));
        let p = S::fma(s(-8.297_619e-3), r, s(4.191_563e-2));
        let p = S::fma(p, r, s(-1.666_757_6e-1));
        let p = S::fma(p, r, s(4.999_889e-1));
        let p = S::fma(p, r, s(-9.999_997e-1));
        let p = S::fma(p, r, s(1.000_000_1));
        S::scale(p, shifted)
    }
}
