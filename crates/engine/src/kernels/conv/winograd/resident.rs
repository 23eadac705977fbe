//! Weights transformed when they are packed: they stay in the cache while all tiles of a map are multiplied by them.

use std::ops::Range;
use std::sync::Arc;

use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::conv::winograd::maps::{Maps, Products};
use crate::kernels::conv::winograd::pack::pack;
use crate::kernels::table::Kernels;
use crate::layout::aligned::Aligned;
use crate::layout::pack::{PackCache, group_start, with_segments};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;

/// Transformed tiles and products of one block of tiles should stay in the second-level cache.
const BLOCK_BYTES: usize = 640 << 10;

pub(crate) struct Resident {
    weights: Arc<Aligned>,
}

impl Resident {
    pub fn new(m: usize, spec: &ConvSpec, params: &ConvParams, kernels: &Kernels, cache: &PackCache) -> Resident {
        let weights = cache.get(params.layer, ["f2", "f3", "f4"][m - 2], || {
            pack(params.weights, spec.in_channels, spec.out_channels, m, kernels)
        });
        Resident { weights }
    }

    /// Maximum number of tiles of a block; inputs and products of each take `tile_bytes`.
    pub fn max_tiles(tile_bytes: usize) -> usize {
        (BLOCK_BYTES / tile_bytes).clamp(12, 512)
    }

    /// Computes `tiles`; `split` shares the steps with all threads.
    pub fn run(&self, maps: &Maps, tiles: Range<usize>, split: bool) {
        let lanes = maps.kernels.lanes;
        let (count, positions) = (tiles.len(), maps.tiling.positions());
        let depth = maps.source_layout.c;
        let (inputs, outputs) = (maps.source_layout.blocks(), maps.target_layout.blocks());
        // Planes a power of two apart would fall into the same cache lines.
        let input_plane = inputs * count * lanes + 16;
        let output_plane = outputs * count * lanes + 16;
        let for_each = |count: usize, task: &(dyn Fn(usize) + Sync + Send)| {
            if split { parallel::parallel_for(count, task) } else { (0..count).for_each(task) }
        };
        parallel::with_scratch(positions * (input_plane + output_plane), |scratch| {
            let (transformed, products) = scratch.split_at_mut(positions * input_plane);
            let (transformed, products) = (SharedPtr(transformed.as_mut_ptr()), SharedPtr(products.as_mut_ptr()));
            for_each(inputs, &|b| {
                maps.transform_inputs(b, tiles.clone(), transformed.at(b * count * lanes), input_plane, false);
            });
            with_segments(depth, lanes, count * lanes, |segments| {
                for_each(positions, &|position| {
                    let start = position * outputs * lanes * depth;
                    for &group in maps.groups {
                        let product = Products {
                            maps,
                            group,
                            count,
                            segments,
                            from: transformed.at(position * input_plane),
                            weights: self.weights[start + group_start(group, depth, lanes)..].as_ptr(),
                            to: products.at(position * output_plane + group.first * count * lanes),
                            add: false,
                            ahead: None,
                        };
                        // SAFETY: both planes hold all blocks of `count` tiles; positions write different planes.
                        unsafe { product.compute() };
                    }
                });
            });
            for_each(outputs, &|b| {
                maps.transform_outputs(b, tiles.clone(), products.at(b * count * lanes), output_plane);
            });
        });
    }
}
