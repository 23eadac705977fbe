//! Weights transformed as they arrive: those of deep layers come from main memory at every run, and take up to four times as much of
//! it when they are transformed in advance.
//!
//! A few input channels at a time, the weights of a group of output channels are transformed into the second-level cache and
//! multiplied with all tiles, while those that follow are fetched.

use std::ops::Range;
use std::sync::Arc;

use crate::kernels::conv::{ConvParams, ConvSpec, pack_direct};
use crate::kernels::isa::Kernels;
use crate::kernels::winograd::maps::{Maps, Products};
use crate::kernels::winograd::transform::WeightLine;
use crate::layout::aligned::Aligned;
use crate::layout::pack::{Group, PackCache, group_start, with_segments};
use crate::run::parallel;
use crate::run::parallel::Shared;

const TAPS: usize = 9;
/// Input channels whose weights are transformed together.
const SPAN: usize = 64;
/// Transformed tiles that are worked on together: they are read once for each group of output channels.
const BLOCK_BYTES: usize = 1 << 20;
/// With fewer tiles, transforming the weights takes too large a part.
const FEWEST_TILES: usize = 48;

pub(crate) struct Streamed {
    /// As direct convolution packs them: [`pack_direct`].
    weights: Arc<Aligned>,
}

impl Streamed {
    pub fn new(spec: &ConvSpec, params: &ConvParams, kernels: &Kernels, cache: &PackCache) -> Streamed {
        let (inputs, outputs) = (spec.in_channels, spec.out_channels);
        let pack = || pack_direct(params.weights, inputs, outputs, TAPS, kernels.lanes);
        Streamed { weights: cache.get(params.layer, "direct", pack) }
    }

    /// Tiles to work on together, of which each takes so many bytes: inputs.
    pub fn together(tile_bytes: usize) -> usize {
        (BLOCK_BYTES / tile_bytes).max(FEWEST_TILES)
    }

    /// Computes `tiles`; `split` shares the steps with all threads.
    pub fn run(&self, maps: &Maps, tiles: Range<usize>, split: bool) {
        let lanes = maps.kernels.lanes;
        let (count, positions) = (tiles.len(), maps.tiling.positions());
        let inputs = maps.source_layout.blocks();
        // Planes a power of two apart would fall into the same cache lines.
        let plane = inputs * count * lanes + 16;
        let each = |count: usize, task: &(dyn Fn(usize) + Sync + Send)| {
            if split { parallel::each(count, task) } else { (0..count).for_each(task) }
        };
        parallel::with_scratch(positions * plane, |transformed| {
            let transformed = Shared(transformed.as_mut_ptr());
            each(inputs, &|b| {
                maps.transform_inputs(b, tiles.clone(), transformed.at(b * count * lanes), plane, true);
            });
            // With fewer groups than threads, each transforms the same weights for some of the tiles.
            let parts = if split { parallel::threads().div_ceil(maps.groups.len()).min(count) } else { 1 };
            each(maps.groups.len() * parts, &|task| {
                let (group, part) = (maps.groups[task / parts], task % parts);
                let some = part * count / parts..(part + 1) * count / parts;
                let first = transformed.at(some.start * lanes);
                let some = tiles.start + some.start..tiles.start + some.end;
                self.group(maps, group, some, first, [plane, count * lanes]);
            });
        });
    }

    /// Computes the output channels of `group` of `tiles`, whose transformed inputs start at `transformed`; `steps` are the floats from
    /// one position and from one channel block to the next.
    fn group(&self, maps: &Maps, group: Group, tiles: Range<usize>, transformed: *const f32, steps: [usize; 2]) {
        let (kernels, lanes) = (maps.kernels, maps.kernels.lanes);
        let (count, positions) = (tiles.len(), maps.tiling.positions());
        let channels = maps.source_layout.c;
        let width = group.width.weights(lanes);
        let weights_plane = SPAN * width + 16;
        let products_plane = group.width.blocks() * count * lanes + 16;
        let pieces = count.div_ceil(kernels.pixels(group.width));
        // Spread over the work on a span.
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
                        // SAFETY: planes hold all they are read for; the products are this thread's own.
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

    /// Transforms the weights of `span` input channels, packed from `start` on.
    fn transform_weights(&self, maps: &Maps, start: usize, span: usize, width: usize, to: *mut f32, plane: usize) {
        let lanes = maps.kernels.lanes;
        let kernel = maps.kernels.weights[maps.tiling.m - 2];
        for first in (0..span).step_by(lanes) {
            let channels = lanes.min(span - first);
            let line = WeightLine {
                weights: self.weights[start + first * TAPS * width..][..channels * TAPS * width].as_ptr(),
                tap_step: channels * width,
                vectors: channels * width / lanes,
                output: to.wrapping_add(first * width),
                position_step: plane,
            };
            // SAFETY: nine taps of so many vectors were just sliced; the planes hold a whole span.
            unsafe { kernel(&line) };
        }
    }
}
