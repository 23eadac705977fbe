//! Depthwise convolution: each channel has its own filter, so inputs and weights are vectors of channels.

use crate::kernels::epilogue::{Rectifier, rectify};
use crate::simd::vector::{Simd, SimdFn};

/// Arguments for one row of one channel block. Pointers must be valid for the counts and strides, which are in floats.
pub(crate) struct DepthwiseRow {
    /// Top left tap of the first pixel.
    pub input: *const f32,
    pub row_step: usize,
    pub tap_step: usize,
    pub pixel_step: usize,
    pub kernel: [usize; 2],
    /// `[kernel h][kernel w][LANES]`.
    pub weights: *const f32,
    pub bias: *const f32,
    pub slope: *const f32,
    pub limit: f32,
    pub rectifier: Rectifier,
    /// Values to add before the activation, or null.
    pub residual: *const f32,
    pub output: *mut f32,
    pub output_step: usize,
    pub residual_step: usize,
    pub pixels: usize,
}

/// Height and width of the filter for which strides are compiled as constants.
const SIDE: usize = 3;

/// Computes a row of one channel block.
pub(crate) struct DepthwiseKernel;

impl SimdFn for DepthwiseKernel {
    type Args<'a> = &'a DepthwiseRow;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, and the row's pointers are valid.
    #[inline(always)]
    unsafe fn run<S: Simd>(r: &DepthwiseRow) {
        let known = r.kernel == [SIDE; 2] && r.tap_step == S::LANES && r.residual.is_null();
        // SAFETY: reads and writes stay within the memory whose validity the caller guarantees.
        unsafe {
            match r.pixel_step / S::LANES {
                1 if known => known_stride::<S, 1>(r),
                2 if known => known_stride::<S, 2>(r),
                _ => pixels::<S, 0, { Rectifier::CLIPPED_PRELU }>(r),
            }
        }
    }
}

#[inline(always)]
unsafe fn known_stride<S: Simd, const STRIDE: usize>(r: &DepthwiseRow) {
    // SAFETY: as above.
    unsafe {
        match r.rectifier {
            Rectifier::Identity => pixels::<S, STRIDE, { Rectifier::IDENTITY }>(r),
            Rectifier::Relu => pixels::<S, STRIDE, { Rectifier::RELU }>(r),
            Rectifier::ClippedPRelu => pixels::<S, STRIDE, { Rectifier::CLIPPED_PRELU }>(r),
        }
    }
}

/// Computes a row. With `STRIDE` 0, stride and filter size are run-time values. Otherwise the filter is 3x3 and the row
/// has no residual.
#[inline(always)]
unsafe fn pixels<S: Simd, const STRIDE: usize, const RECTIFIER: u8>(r: &DepthwiseRow) {
    // SAFETY: as above.
    unsafe {
        match r.pixels {
            0..4 => groups::<S, STRIDE, RECTIFIER, 1>(r),
            4..8 => groups::<S, STRIDE, RECTIFIER, 4>(r),
            _ => groups::<S, STRIDE, RECTIFIER, 8>(r),
        }
    }
}

/// Computes all pixels, at least `P`, in groups of `P`. The last group overlaps the group before, because single pixels
/// would wait for their own sums.
#[inline(always)]
unsafe fn groups<S: Simd, const STRIDE: usize, const RECTIFIER: u8, const P: usize>(r: &DepthwiseRow) {
    // SAFETY: as above.
    unsafe {
        let mut at = 0;
        while at < r.pixels {
            group::<S, STRIDE, RECTIFIER, P>(r, at.min(r.pixels - P));
            at += P;
        }
    }
}

#[inline(always)]
unsafe fn group<S: Simd, const STRIDE: usize, const RECTIFIER: u8, const P: usize>(r: &DepthwiseRow, at: usize) {
    // SAFETY: as above.
    unsafe {
        let known = STRIDE > 0;
        let pixel_step = if known { STRIDE * S::LANES } else { r.pixel_step };
        let tap_step = if known { S::LANES } else { r.tap_step };
        let [kh, kw] = if known { [SIDE; 2] } else { r.kernel };
        let input = r.input.add(at * pixel_step);
        let mut sums = [S::load(r.bias); P];
        for ky in 0..kh {
            for kx in 0..kw {
                let w = S::load(r.weights.add((ky * kw + kx) * S::LANES));
                let tap = input.add(ky * r.row_step + kx * tap_step);
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = S::fma(S::load(tap.add(p * pixel_step)), w, *sum);
                }
            }
        }
        let (slope, limit) = (S::load(r.slope), S::splat(r.limit));
        for (p, sum) in sums.iter().enumerate() {
            let mut v = *sum;
            if !known && !r.residual.is_null() {
                v = S::add(v, S::load(r.residual.add((at + p) * r.residual_step)));
            }
            v = rectify::<S, RECTIFIER>(v, slope, limit);
            S::store(r.output.add((at + p) * r.output_step), v);
        }
    }
}
