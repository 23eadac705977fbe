//! AVX2 and FMA: 8 lanes, 16 registers.

use std::arch::x86_64::*;

use crate::compiled_for;
use crate::simd::vector::{Simd, SimdFn};

/// Vectors of this instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

// SAFETY (all functions): callers are instantiated through `Avx2::call` and pass valid pointers.
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const PIXELS_1: usize = 12;
    const PIXELS_2: usize = 6;
    const PREFETCHES: bool = true;

    compiled_for! { Avx2,
        unsafe fn call<F: SimdFn>(args: F::Args<'_>) -> F::Output {
            // SAFETY: guaranteed by the caller.
            unsafe { F::run::<Self>(args) }
        }
    }
    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn scale(a: __m256, shifted: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_l2(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    fn lane_index(lane: usize) -> u32 {
        lane as u32
    }
    #[inline(always)]
    unsafe fn permute(from: __m256, index: __m256) -> __m256 {
        unsafe {
            let index = _mm256_castps_si256(index);
            let none = _mm256_castsi256_ps(_mm256_srai_epi32::<31>(index));
            _mm256_andnot_ps(none, _mm256_permutevar8x32_ps(from, index))
        }
    }
    #[inline(always)]
    unsafe fn or(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_or_ps(a, b) }
    }
}
