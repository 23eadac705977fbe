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
    // SAFETY: within the values the caller vouches for.
    unsafe {
        for i in (0..len).step_by(S::LANES) {
            let mut lanes = [0f32; 16];
            S::store(lanes.as_mut_ptr(), S::load(values.add(i)));
            for v in lanes.iter_mut().take(S::LANES) {
                let sigmoid = 1.0 / (1.0 + exp(-*v));
                *v = if curve == Curve::Silu { *v * sigmoid } else { sigmoid };
            }
            S::store(values.add(i), S::load(lanes.as_ptr()));
        }
    }
}

/// e to the power of `x` to within 2 units in the last place, without branches, so that loops over it vectorise.
///
/// Cody-Waite reduction and the minimax polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = n.mul_add_fast(-0.693_359_4, x);
    let r = n.mul_add_fast(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add_fast(r, 1.398_199_9e-3);
    let p = p.mul_add_fast(r, 8.333_452e-3);
    let p = p.mul_add_fast(r, 4.166_579_6e-2);
    let p = p.mul_add_fast(r, 1.666_666_5e-1);
    let p = p.mul_add_fast(r, 0.5);
    let y = p.mul_add_fast(r * r, r) + 1.0;
    y * f32::from_bits((((n as i32) + 127) << 23) as u32)
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
