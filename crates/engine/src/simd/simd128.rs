//! WebAssembly simd128: 4 lanes. Multiply-add is fused if relaxed-simd is enabled.

use std::arch::wasm32::*;

use crate::simd::vector::{Simd, SimdFn};

/// Vectors of this instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Simd128;

// SAFETY (all functions): the module is only compiled with simd128 enabled; callers pass valid pointers.
impl Simd for Simd128 {
    type V = v128;
    const LANES: usize = 4;
    const PIXELS_1: usize = 10;
    // Browsers on x86 provide 15 registers. Without a fused instruction each product takes an additional register, and
    // the spills of 6x2 would halve the speed.
    const PIXELS_2: usize = if cfg!(target_feature = "relaxed-simd") { 6 } else { 5 };

    unsafe fn call<F: SimdFn>(args: F::Args<'_>) -> F::Output {
        // SAFETY: guaranteed by the caller.
        unsafe { F::run::<Self>(args) }
    }
    #[inline(always)]
    unsafe fn zero() -> v128 {
        f32x4_splat(0.0)
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> v128 {
        f32x4_splat(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> v128 {
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: v128) {
        unsafe { v128_store(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn fma(a: v128, b: v128, c: v128) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        {
            f32x4_relaxed_madd(a, b, c)
        }
        #[cfg(not(target_feature = "relaxed-simd"))]
        {
            f32x4_add(f32x4_mul(a, b), c)
        }
    }
    #[inline(always)]
    unsafe fn add(a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn max(a: v128, b: v128) -> v128 {
        f32x4_pmax(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: v128, b: v128) -> v128 {
        f32x4_pmin(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }
    #[inline(always)]
    unsafe fn scale(a: v128, shifted: v128) -> v128 {
        f32x4_mul(a, i32x4_shl(i32x4_add(shifted, i32x4_splat(127)), 23))
    }
    #[inline(always)]
    fn lane_index(lane: usize) -> u32 {
        // Swizzles select bytes, and return zero for an index beyond the vector.
        0x0302_0100 + 0x0404_0404 * lane as u32
    }
    #[inline(always)]
    unsafe fn permute(from: v128, index: v128) -> v128 {
        i8x16_swizzle(from, index)
    }
    #[inline(always)]
    unsafe fn or(a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }
}
