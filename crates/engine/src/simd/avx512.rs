//! AVX-512 (F, VL, BW, DQ): 16 lanes, 32 registers.

use std::arch::x86_64::*;

use crate::compiled_for;
use crate::simd::vector::{ROUND, Simd, SimdFn};

/// Vectors of this instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY (all functions): callers are instantiated through `Avx512::call` and pass valid pointers.
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const PIXELS_1: usize = 28;
    const PIXELS_2: usize = 14;
    const PREFETCHES: bool = true;

    compiled_for! { Avx512,
        unsafe fn call<F: SimdFn>(args: F::Args<'_>) -> F::Output {
            // SAFETY: guaranteed by the caller.
            unsafe { F::run::<Self>(args) }
        }
    }
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn scale(a: __m512, shifted: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, _mm512_sub_ps(shifted, _mm512_set1_ps(ROUND))) }
    }
    #[inline(always)]
    unsafe fn splat_pair(from: *const f32) -> __m512 {
        // Both floats as one 64-bit value; its bits are only copied.
        unsafe { _mm512_castpd_ps(_mm512_set1_pd(from.cast::<f64>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn sum_pairs(pairs: __m512) -> __m512 {
        unsafe { _mm512_maskz_compress_ps(0x5555, _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs))) }
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
    unsafe fn permute(from: __m512, index: __m512) -> __m512 {
        unsafe {
            let index = _mm512_castps_si512(index);
            let some = _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
            _mm512_maskz_permutexvar_ps(some, index, from)
        }
    }
    #[inline(always)]
    unsafe fn or(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_or_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b))) }
    }
}
