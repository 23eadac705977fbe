//! Weights that are transformed at run time. The weights of deep layers are read from main memory in every run, and
//! transformed weights are up to four times as large.
//!
//! For a few input channels at a time, the weights of a group of output channels are transformed into the second-level
//! cache and multiplied by all tiles, while the next weights are prefetched.

use std::ops::Range;
use std::sync::Arc;

use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::conv::weights::pack_direct;
use crate::kernels::conv::winograd::maps::{Maps, Products};
use crate::kernels::conv::winograd::transform::WeightRun;
use crate::kernels::table::Kernels;
use crate::layout::aligned::Aligned;
use crate::layout::pack::{ChannelGroup, PackCache, group_start, with_segments};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;

/// Taps of a filter.
const TAPS: usize = 9;
/// Number of input channels whose weights are transformed together.
const SPAN: usize = 64;
/// Preferred size of the transformed inputs of a block of tiles, in bytes. They are read once for each group of output
/// channels.
const BLOCK_BYTES: usize = 1 << 20;
/// Minimum number of tiles of a block: with fewer tiles, the transform of the weights dominates the time.
const MIN_TILES_PER_BLOCK: usize = 48;

/// Weights that are transformed at run time.
pub(crate) struct Streamed {
    /// Weights in the order of direct convolution: [`pack_direct`].
    weights: Arc<Aligned>,
}

impl Streamed {
    pub fn new(spec: &ConvSpec, params: &ConvParams, kernels: &Kernels, cache: &PackCache) -> Streamed {
        let (inputs, outputs) = (spec.in_channels, spec.out_channels);
        let pack = || pack_direct(params.weights, inputs, outputs, TAPS, kernels.lanes);
        Streamed { weights: cache.get(params.layer, "direct", pack) }
    }

    /// Maximum number of tiles of a block; the inputs of a tile take `tile_bytes`.
    pub fn max_tiles(tile_bytes: usize) -> usize {
        (BLOCK_BYTES / tile_bytes).max(MIN_TILES_PER_BLOCK)
    }

    /// Computes `tiles`, with `split` on all members of the team.
    pub fn run(&self, maps: &Maps, tiles: Range<usize>, split: bool) {
        let lanes = maps.kernels.lanes;
        let (count, positions) = (tiles.len(), maps.tiling.positions());
        let inputs = maps.source_layout.blocks();
        // Planes at a distance of a power of two would map to the same cache lines.
        let plane = inputs * count * lanes + 16;
        let for_each = |count: usize, task: &(dyn Fn(usize) + Sync + Send)| {
            if split { parallel::parallel_for(count, task) } else { (0..count).for_each(task) }
        };
        parallel::with_scratch(positions * plane, |transformed| {
            let transformed = SharedPtr(transformed.as_mut_ptr());
            for_each(inputs, &|b| {
                maps.transform_inputs(b, tiles.clone(), transformed.at(b * count * lanes), plane, true);
            });
            // With fewer groups than threads, several threads transform the same weights, each for a part of the tiles.
            let parts = if split { parallel::threads().div_ceil(maps.groups.len()).min(count) } else { 1 };
            for_each(maps.groups.len() * parts, &|task| {
                let (group, part) = (maps.groups[task / parts], task % parts);
                let range = part * count / parts..(part + 1) * count / parts;
                let first = transformed.at(range.start * lanes);
                let range = tiles.start + range.start..tiles.start + range.end;
                self.group(maps, group, range, first, [plane, count * lanes]);
            });
        });
    }

    /// Computes the output channels of `group` for `tiles`, whose transformed inputs start at `transformed`. `steps`
    /// are the numbers of floats from one position to the next and from one channel block to the next.
    fn group(&self, maps: &Maps, group: ChannelGroup, tiles: Range<usize>, transformed: *const f32, steps: [usize; 2]) {
        let (kernels, lanes) = (maps.kernels, maps.kernels.lanes);
        let (count, positions) = (tiles.len(), maps.tiling.positions());
        let channels = maps.source_layout.c;
        let width = group.width.weights(lanes);
        let weights_plane = SPAN * width + 16;
        let products_plane = group.width.blocks() * count * lanes + 16;
        let pieces = count.div_ceil(kernels.max_pixels(group.width));
        // Prefetches are spread over the computation of a span.
        let ahead_step = (TAPS * width).div_ceil(positions * pieces);
        parallel::with_scratch(positions * (weights_plane + products_plane), |scratch| {
            let (transformed_weights, products) = scratch.split_at_mut(positions * weights_plane);
            let (transformed_weights, products) = (transformed_weights.as_mut_ptr(), products.as_mut_ptr());
            for first in (0..channels).step_by(SPAN) {
                let span = SPAN.min(channels - first);
                let start = group_start(group, channels * TAPS, lanes) + first * TAPS * width;
                self.transform_weights(maps, start, span, width, transformed_weights, weights_plane);
                with_segments(span, lanes, steps[1], |segments| {
                    let mut ahead = self.weights.as_ptr().wrapping_add(start + span * TAPS * width);
                    for position in 0..positions {
                        let product = Products {
                            maps,
                            group,
                            count,
                            segments,
                            from: transformed.wrapping_add(position * steps[0] + first / lanes * steps[1]),
                            weights: transformed_weights.wrapping_add(position * weights_plane),
                            to: products.wrapping_add(position * products_plane),
                            add: first > 0,
                            ahead: Some((ahead, ahead_step)),
                        };
                        // SAFETY: planes contain all values that are read; only this thread uses the products.
                        unsafe { product.compute() };
                        ahead = ahead.wrapping_add(span * pieces * ahead_step);
                    }
                });
            }
            for block in 0..group.width.blocks() {
                let from = products.wrapping_add(block * count * lanes);
                maps.transform_outputs(group.first + block, tiles.clone(), from, products_plane);
            }
        });
    }

    /// Transforms the packed weights of `span` input channels, which start at index `start`.
    fn transform_weights(&self, maps: &Maps, start: usize, span: usize, width: usize, to: *mut f32, plane: usize) {
        let lanes = maps.kernels.lanes;
        let kernel = maps.kernels.weights[maps.tiling.m - 2];
        for first in (0..span).step_by(lanes) {
            let channels = lanes.min(span - first);
            let run = WeightRun {
                weights: self.weights[start + first * TAPS * width..][..channels * TAPS * width].as_ptr(),
                tap_step: channels * width,
                vectors: channels * width / lanes,
                output: to.wrapping_add(first * width),
                position_step: plane,
            };
            // SAFETY: the slice has nine taps of `vectors`, and the planes have memory for a whole span.
            unsafe { kernel(&run) };
        }
    }
}
