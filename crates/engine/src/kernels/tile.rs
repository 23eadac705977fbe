//! The register kernel of all dense operations: the sums over input channels and taps for a few pixels times half a
//! channel block, one block or two blocks.
//!
//! Convolutions of any kernel size, Winograd's products and fully connected layers differ only in the positions of a
//! pixel's inputs. [`Segment`]s describe these: runs of consecutive input values, whose weights follow each other in
//! the packed array.

use crate::kernels::epilogue::{Rectifier, rectify};
use crate::layout::pack::Segment;
use crate::simd::vector::{Simd, SimdFn};

/// Arguments of one call of the kernel. All pointers must be valid for the counts and strides, which are in floats.
pub(crate) struct Tile<'a> {
    /// Base of the first pixel's input.
    pub input: *const f32,
    /// Floats from one pixel's input to the next; used only with [`PixelStep::Runtime`].
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
    pub rectifier: Rectifier,
    /// Added before the activation; laid out like the output.
    pub residual: *const f32,
    /// Floats from one pixel of the residual to the next.
    pub residual_step: usize,
    /// Floats from one channel block of the residual to the next.
    pub residual_block: usize,
    pub output: *mut f32,
    /// Floats from one pixel of the output to the next.
    pub output_step: usize,
    /// Floats from one channel block of the output to the next.
    pub output_block: usize,
    /// For [`PixelStep::BlockAhead`]: data to fetch into the second-level cache, and floats to advance with each vector
    /// of weights.
    pub ahead: *const f32,
    pub ahead_step: usize,
}

/// A compiled tile kernel.
pub(crate) type TileFn = for<'a> unsafe fn(&'a Tile<'a>);

/// Distance between the inputs of neighboring pixels, as far as it is known when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PixelStep {
    /// `Tile::input_step` floats.
    Runtime,
    /// `LANES`: neighbors in a blocked tensor.
    Block,
    /// `2 * LANES`: every second pixel of a blocked tensor.
    TwoBlocks,
    /// 1: neighbors in a plane.
    PlanarOne,
    /// 2: every second pixel of a plane.
    PlanarTwo,
    /// As [`PixelStep::Block`], and [`Tile::ahead`] is fetched.
    BlockAhead,
    /// As [`PixelStep::TwoBlocks`], and [`Tile::ahead`] is fetched.
    TwoBlocksAhead,
}

impl PixelStep {
    /// The step with the number `number`, for kernels with the step as a constant.
    const fn of(number: u8) -> PixelStep {
        use PixelStep::*;
        [Runtime, Block, TwoBlocks, PlanarOne, PlanarTwo, BlockAhead, TwoBlocksAhead][number as usize]
    }

    const fn fetches_ahead(self) -> bool {
        matches!(self, PixelStep::BlockAhead | PixelStep::TwoBlocksAhead)
    }

    const fn is_blocked(self) -> bool {
        matches!(self, PixelStep::Block | PixelStep::TwoBlocks) || self.fetches_ahead()
    }
}

/// Distance between the inputs of neighboring pixels, in floats.
#[inline(always)]
fn input_step<S: Simd, const STEP: u8>(t: &Tile) -> usize {
    match const { PixelStep::of(STEP) } {
        PixelStep::Block | PixelStep::BlockAhead => S::LANES,
        PixelStep::TwoBlocks | PixelStep::TwoBlocksAhead => 2 * S::LANES,
        PixelStep::PlanarOne => 1,
        PixelStep::PlanarTwo => 2,
        PixelStep::Runtime => t.input_step,
    }
}

/// `P` pixels times `NB` channel blocks.
pub(crate) struct TileKernel<const P: usize, const NB: usize, const RESIDUAL: bool, const STEP: u8>;

impl<const P: usize, const NB: usize, const RESIDUAL: bool, const STEP: u8> SimdFn
    for TileKernel<P, NB, RESIDUAL, STEP>
{
    type Args<'a> = &'a Tile<'a>;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, and the tile's pointers are valid.
    #[inline(always)]
    unsafe fn run<S: Simd>(t: &Tile) {
        // SAFETY: reads and writes stay within the memory whose validity the caller guarantees.
        unsafe {
            let step = input_step::<S, STEP>(t);
            let bias: [S::V; NB] = std::array::from_fn(|b| S::load(t.bias.add(b * S::LANES)));
            let mut sums = [bias; P];
            let mut weights = t.weights;
            let mut ahead = t.ahead;
            for (i, segment) in t.segments.iter().enumerate() {
                let input = t.input.add(segment.offset);
                // Segments lie far apart in large maps, where hardware prefetchers do not follow.
                if let Some(next) = t.segments.get(i + 2).filter(|_| const { PixelStep::of(STEP).is_blocked() }) {
                    let ahead = t.input.wrapping_add(next.offset);
                    (0..P).for_each(|p| S::prefetch(ahead.wrapping_add(p * step)));
                }
                for k in 0..segment.len {
                    let w: [S::V; NB] = std::array::from_fn(|b| S::load(weights.add(b * S::LANES)));
                    weights = weights.add(NB * S::LANES);
                    S::prefetch(weights.wrapping_add(16 * NB * S::LANES));
                    if const { PixelStep::of(STEP).fetches_ahead() } {
                        S::prefetch_l2(ahead);
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
            finish::<S, P, NB, RESIDUAL>(t, sums);
        }
    }
}

/// `P` pixels times a block that is at most half full. Each channel has two lanes, one for the inputs with even index
/// and one for the inputs with odd index, which halves the number of multiplications. All segments have an even length;
/// weights are in pairs, `[inputs / 2][LANES / 2][2]`.
pub(crate) struct HalfTileKernel<const P: usize, const RESIDUAL: bool, const STEP: u8>;

impl<const P: usize, const RESIDUAL: bool, const STEP: u8> SimdFn for HalfTileKernel<P, RESIDUAL, STEP> {
    type Args<'a> = &'a Tile<'a>;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, whose vectors support half blocks, and the tile's pointers are valid.
    #[inline(always)]
    unsafe fn run<S: Simd>(t: &Tile) {
        // SAFETY: reads and writes stay within the memory whose validity the caller guarantees.
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
                sum[0] = S::add(S::sum_pairs(sum[0]), bias);
            }
            finish::<S, P, 1, RESIDUAL>(t, sums);
        }
    }
}

/// Adds the residual, applies the rectifier and stores the result.
#[inline(always)]
unsafe fn finish<S: Simd, const P: usize, const NB: usize, const RESIDUAL: bool>(t: &Tile, sums: [[S::V; NB]; P]) {
    // SAFETY: as above.
    unsafe {
        match t.rectifier {
            Rectifier::Identity => store::<S, P, NB, RESIDUAL, { Rectifier::IDENTITY }>(t, sums),
            Rectifier::Relu => store::<S, P, NB, RESIDUAL, { Rectifier::RELU }>(t, sums),
            Rectifier::ClippedPRelu => store::<S, P, NB, RESIDUAL, { Rectifier::CLIPPED_PRELU }>(t, sums),
        }
    }
}

#[inline(always)]
unsafe fn store<S: Simd, const P: usize, const NB: usize, const RESIDUAL: bool, const RECTIFIER: u8>(
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
                v = rectify::<S, RECTIFIER>(v, slope[b], limit);
                S::store(t.output.add(p * t.output_step + b * t.output_block), v);
            }
        }
    }
}

/// Splits `length` into as few pieces of at most `max` as possible, of nearly the same size: (first, length).
pub(crate) fn split_evenly(length: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = length.div_ceil(max).max(1);
    // Not as `i * length / pieces`: the product of two sizes may exceed 32 bits.
    let (shorter, longer) = (length / pieces, length % pieces);
    (0..pieces).map(move |i| (i * shorter + i.min(longer), shorter + usize::from(i < longer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_evenly_returns_adjacent_pieces_of_similar_size() {
        for (length, max) in [(0, 5), (1, 5), (80, 14), (13, 14), (320, 28), (147_456, 6), (u32::MAX as usize, 1 << 20)]
        {
            let pieces: Vec<_> = split_evenly(length, max).collect();
            assert_eq!(pieces.len(), length.div_ceil(max).max(1));
            assert!(pieces.windows(2).all(|p| p[1].0 == p[0].0 + p[0].1));
            assert_eq!(pieces.last().map(|p| p.0 + p.1), Some(length));
            let (short, long) = pieces.iter().fold((usize::MAX, 0), |(s, l), p| (s.min(p.1), l.max(p.1)));
            assert!(long - short <= 1 && long <= max);
        }
    }

    #[test]
    fn pixel_step_of_a_number_has_that_number() {
        for number in 0..=PixelStep::TwoBlocksAhead as u8 {
            assert_eq!(PixelStep::of(number) as u8, number);
        }
    }
}
