//! The register kernel everything dense is made of: a few pixels times half a channel block, one or two, summed over input channels and taps.
//!
//! Convolutions of any kernel size, Winograd's products and fully connected layers differ only in where a pixel's inputs lie. That is
//! said by [`Segment`]s: runs of consecutive input values, whose weights follow each other in the packed array.

use crate::kernels::epilogue::{Bend, LINE, RELU, STRAIGHT, bend};
use crate::simd::vector::Simd;

/// A run of `len` consecutive input values, `offset` floats behind the pixel's base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub offset: usize,
    pub len: usize,
}

/// One call of the kernel. All pointers must be valid for what the counts and strides (in floats) say.
pub(crate) struct Tile<'a> {
    /// Base of the first pixel's input.
    pub input: *const f32,
    /// From one pixel's input to the next; used only by the kernels that do not know it at compile time.
    pub input_step: usize,
    pub segments: &'a [Segment],
    /// `[sum of segment lengths][blocks][LANES]`.
    pub weights: *const f32,
    /// `[blocks][LANES]`.
    pub bias: *const f32,
    /// Factor of negative values, `[blocks][LANES]`: 1 for no activation, 0 for ReLU.
    pub slope: *const f32,
    /// Upper bound of the result.
    pub limit: f32,
    pub bend: Bend,
    /// Added before the activation; laid out like the output.
    pub residual: *const f32,
    pub residual_step: usize,
    pub residual_block: usize,
    pub output: *mut f32,
    pub output_step: usize,
    /// From one channel block of the output to the next.
    pub output_block: usize,
    /// For [`Step::Ahead`]: what is fetched into the second-level cache meanwhile, and how far that goes on with each weight of a lane.
    pub ahead: *const f32,
    pub ahead_step: usize,
}

pub(crate) type TileFn = unsafe fn(&Tile);

/// What is known of the distance between the inputs of neighbouring pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `LANES`: neighbours in a blocked tensor.
    One,
    /// `2 * LANES`: every other pixel.
    Two,
    /// 1 and 2: neighbours, and every other pixel, of a plane.
    PlanarOne,
    PlanarTwo,
    /// As [`Step::One`] and [`Step::Two`], while [`Tile::ahead`] is fetched.
    Ahead,
    TwoAhead,
    /// `Tile::input_step`.
    Any,
}

/// Distance between the inputs of neighbouring pixels.
#[inline(always)]
fn input_step<S: Simd, const STEP: usize>(t: &Tile) -> usize {
    match STEP {
        1 | 5 => S::LANES,
        2 | 6 => 2 * S::LANES,
        3 => 1,
        4 => 2,
        _ => t.input_step,
    }
}

/// # Safety
/// The CPU has `S`, and the tile's pointers are valid.
#[inline(always)]
pub(crate) unsafe fn run<S: Simd, const P: usize, const NB: usize, const RESIDUAL: bool, const STEP: usize>(t: &Tile) {
    // SAFETY: reads and writes stay within what the caller vouches for.
    unsafe {
        let step = input_step::<S, STEP>(t);
        let bias: [S::V; NB] = std::array::from_fn(|b| S::load(t.bias.add(b * S::LANES)));
        let mut sums = [bias; P];
        let mut weights = t.weights;
        let mut ahead = t.ahead;
        for (i, segment) in t.segments.iter().enumerate() {
            let input = t.input.add(segment.offset);
            // Segments lie far apart in big maps, where no hardware prefetcher follows.
            if let Some(next) = t.segments.get(i + 2).filter(|_| matches!(STEP, 1 | 2 | 5 | 6)) {
                let ahead = t.input.wrapping_add(next.offset);
                (0..P).for_each(|p| S::prefetch(ahead.wrapping_add(p * step)));
            }
            for k in 0..segment.len {
                let w: [S::V; NB] = std::array::from_fn(|b| S::load(weights.add(b * S::LANES)));
                weights = weights.add(NB * S::LANES);
                S::prefetch(weights.wrapping_add(16 * NB * S::LANES));
                if matches!(STEP, 5 | 6) {
                    S::prefetch_far(ahead);
                    ahead = ahead.wrapping_add(t.ahead_step);
                }
                for (p, sum) in sums.iter_mut().enumerate() {
                    let x = S::splat(*input.add(p * step + k));
                    for (sum, w) in sum.iter_mut().zip(w) {
                        *sum = S::fma(x, w, *sum);
                    }
                }
            }
        }
        bent::<S, P, NB, RESIDUAL>(t, sums);
    }
}

/// A block that is at most half full. Two lanes belong to each channel, one for the inputs of even number and one for those of odd number,
/// so that half as many multiplications are left. All segments have an even length; weights are in pairs, `[inputs / 2][LANES / 2][2]`.
///
/// # Safety
/// The CPU has `S`, whose vectors are [`halved`](crate::layout::pack::halved), and the tile's pointers are valid.
#[inline(always)]
pub(crate) unsafe fn run_half<S: Simd, const P: usize, const RESIDUAL: bool, const STEP: usize>(t: &Tile) {
    // SAFETY: reads and writes stay within what the caller vouches for.
    unsafe {
        let step = input_step::<S, STEP>(t);
        let mut sums = [[S::zero()]; P];
        let mut weights = t.weights;
        for segment in t.segments {
            let input = t.input.add(segment.offset);
            for k in (0..segment.len).step_by(2) {
                let w = S::load(weights);
                weights = weights.add(S::LANES);
                S::prefetch(weights.wrapping_add(16 * S::LANES));
                for (p, sum) in sums.iter_mut().enumerate() {
                    sum[0] = S::fma(S::splat_pair(input.add(p * step + k)), w, sum[0]);
                }
            }
        }
        let bias = S::load(t.bias);
        for sum in &mut sums {
            sum[0] = S::add(S::fold(sum[0]), bias);
        }
        bent::<S, P, 1, RESIDUAL>(t, sums);
    }
}

#[inline(always)]
unsafe fn bent<S: Simd, const P: usize, const NB: usize, const RESIDUAL: bool>(t: &Tile, sums: [[S::V; NB]; P]) {
    // SAFETY: as above.
    unsafe {
        match t.bend {
            Bend::Straight => finish::<S, P, NB, RESIDUAL, STRAIGHT>(t, sums),
            Bend::Relu => finish::<S, P, NB, RESIDUAL, RELU>(t, sums),
            Bend::Line => finish::<S, P, NB, RESIDUAL, LINE>(t, sums),
        }
    }
}

/// Residual, bend and store.
#[inline(always)]
unsafe fn finish<S: Simd, const P: usize, const NB: usize, const RESIDUAL: bool, const BEND: u8>(
    t: &Tile,
    sums: [[S::V; NB]; P],
) {
    // SAFETY: as above.
    unsafe {
        let limit = S::splat(t.limit);
        let slope: [S::V; NB] = std::array::from_fn(|b| S::load(t.slope.add(b * S::LANES)));
        for (p, sum) in sums.iter().enumerate() {
            for b in 0..NB {
                let mut v = sum[b];
                if RESIDUAL {
                    v = S::add(v, S::load(t.residual.add(p * t.residual_step + b * t.residual_block)));
                }
                v = bend::<S, BEND>(v, slope[b], limit);
                S::store(t.output.add(p * t.output_step + b * t.output_block), v);
            }
        }
    }
}
