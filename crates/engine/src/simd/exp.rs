//! e^x in two forms. They differ in rounding, and results must not change, so both are necessary.
//!
//! [`exp_minus`] works on vectors with fused multiply-add and serves the activations of convolutions; [`exp`] is plain
//! Rust for loops that the compiler vectorizes, gives the same bits on every CPU, and serves softmax and the
//! activations of all other layers.

use crate::simd::vector::{ROUND, Simd};

/// e^-x with a relative error of at most 3e-7, for `x` clamped to -88..=87.
///
/// `x = r - n log 2` with the integer `n` that gives the smallest `r`; the polynomial is the minimax polynomial of
/// degree 5 for the relative error of `exp(-r)`, 7.5e-8.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
pub(crate) unsafe fn exp_minus<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the CPU has `S`.
    unsafe {
        let s = |value| S::splat(value);
        let x = S::max(S::min(x, s(87.0)), s(-88.0));
        let shifted = S::fma(x, s(-std::f32::consts::LOG2_E), s(ROUND));
        let n = S::sub(shifted, s(ROUND));
        // Log 2 in two parts; the product of the first part and `n` is exact without fusing.
        let r = S::fma(n, s(-2.121_944_4e-4), S::fma(n, s(0.693_359_4), x));
        let p = S::fma(s(-8.297_619e-3), r, s(4.191_563e-2));
        let p = S::fma(p, r, s(-1.666_757_6e-1));
        let p = S::fma(p, r, s(4.999_889e-1));
        let p = S::fma(p, r, s(-9.999_997e-1));
        let p = S::fma(p, r, s(1.000_000_1));
        S::scale(p, shifted)
    }
}

/// e^x with an error of at most 2 units in the last place, for `x` clamped to -87..=88. Free of branches, so that loops
/// vectorize.
///
/// Source: expf of the Cephes library.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
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
