//! NEON: 4 lanes, 32 registers.

use std::arch::aarch64::*;

use crate::simd::vector::{Simd, SimdFn};

/// Vectors of this instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

// SAFETY (all functions): NEON is part of the aarch64 baseline; callers pass valid pointers.
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const PIXELS_1: usize = 14;
    const PIXELS_2: usize = 12;

    unsafe fn call<F: SimdFn>(args: F::Args<'_>) -> F::Output {
        // SAFETY: guaranteed by the caller.
        unsafe { F::run::<Self>(args) }
    }
    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        unsafe { vdupq_n_f32(0.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn scale(a: float32x4_t, shifted: float32x4_t) -> float32x4_t {
        unsafe {
            let exponent = vaddq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }
    }
    #[inline(always)]
    fn lane_index(lane: usize) -> u32 {
        // Table lookups select bytes, and return zero for an index beyond the table.
        0x0302_0100 + 0x0404_0404 * lane as u32
    }
    #[inline(always)]
    unsafe fn permute(from: float32x4_t, index: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(from), vreinterpretq_u8_f32(index))) }
    }
    #[inline(always)]
    unsafe fn or(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b))) }
    }
}
