//! Weights that are transformed when they are packed. They stay in the cache for all tiles of a map.

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

/// Maximum size of the transformed inputs and the products of a block of tiles, in bytes: a part of the second-level
/// cache.
const MAX_BLOCK_BYTES: usize = 640 << 10;

/// Transformed weights.
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

    /// Maximum number of tiles of a block; the inputs and products of a tile take `tile_bytes`.
    pub fn max_tiles(tile_bytes: usize) -> usize {
        (MAX_BLOCK_BYTES / tile_bytes).clamp(12, 512)
    }

    /// Computes `tiles`, with `split` on all members of the team.
    pub fn run(&self, maps: &Maps, tiles: Range<usize>, split: bool) {
        let lanes = maps.kernels.lanes;
        let (count, positions) = (tiles.len(), maps.tiling.positions());
        let depth = maps.source_layout.c;
        let (inputs, outputs) = (maps.source_layout.blocks(), maps.target_layout.blocks());
        // Planes at a distance of a power of two would map to the same cache lines.
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
                        // SAFETY: both planes contain all blocks of `count` tiles; positions write different planes.
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
