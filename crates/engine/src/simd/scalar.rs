//! Plain Rust for every CPU: arrays of four floats, which the compiler turns into the vectors of the target's baseline.

use crate::simd::vector::{Simd, SimdFn};

/// Vectors of this instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map2(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

// SAFETY (load, store): callers pass pointers that are valid for four floats.
impl Simd for Scalar {
    type V = [f32; 4];
    const LANES: usize = 4;
    const PIXELS_1: usize = 6;
    const PIXELS_2: usize = 4;

    unsafe fn call<F: SimdFn>(args: F::Args<'_>) -> F::Output {
        // SAFETY: guaranteed by the caller.
        unsafe { F::run::<Self>(args) }
    }
    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; 4]) {
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        map2(map2(a, b, |x, y| x * y), c, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn scale(a: [f32; 4], shifted: [f32; 4]) -> [f32; 4] {
        map2(a, shifted, |x, s| x * f32::from_bits(s.to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn lane_index(lane: usize) -> u32 {
        lane as u32
    }
    #[inline(always)]
    unsafe fn permute(from: [f32; 4], index: [f32; 4]) -> [f32; 4] {
        index.map(|i| from.get(i.to_bits() as usize).copied().unwrap_or(0.0))
    }
    #[inline(always)]
    unsafe fn or(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        map2(a, b, |x, y| f32::from_bits(x.to_bits() | y.to_bits()))
    }
}
