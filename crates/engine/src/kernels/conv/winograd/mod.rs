//! Winograd's minimal filtering for 3x3 convolutions of stride 1: transform tiles, multiply position by position,
//! transform back.
//!
//! Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks".

mod maps;
mod pack;
mod resident;
mod streamed;
mod tiling;
pub(crate) mod transform;

use std::ops::Range;

use self::maps::Maps;
use self::resident::Resident;
use self::streamed::Streamed;
use self::tiling::Tiling;
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::Kernels;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{ChannelGroup, PackCache, channel_groups};
use crate::run::parallel;

/// Minimum size of [`Streamed`] weights in bytes. Larger weights do not stay in the caches from one run to the next.
const MIN_STREAMED_BYTES: usize = 512 << 10;

/// Approximate cost to transform a weight, in multiplications with a tile.
const TRANSFORM_COST: usize = 3;
/// Minimum number of tiles in the cost: with fewer tiles, the kernel waits for its own sums.
const MIN_COST_TILES: usize = 8;

/// A convolution in tiles of `m` x `m` outputs.
pub(crate) struct Winograd {
    tiling: Tiling,
    /// Number of tiles that are computed together.
    tiles_per_block: usize,
    groups: Vec<ChannelGroup>,
    /// The epilogue of products: no bias, no activation.
    neutral: Epilogue,
    weights: TransformedWeights,
}

/// Weights, transformed in advance or at run time.
enum TransformedWeights {
    Resident(Resident),
    Streamed(Streamed),
}

impl Winograd {
    /// The fastest tile size for this convolution of `batch` maps; `None` if direct convolution is faster.
    ///
    /// Large tiles save the most multiplications, but on small maps much of their area is outside of the map. Resident
    /// weights are packed for one tile size, which must not depend on the batch, because all plans share these weights.
    pub fn tile(spec: &ConvSpec, batch: usize, out_hw: [usize; 2]) -> Option<usize> {
        let plain = spec.kernel == [3, 3] && spec.stride == [1, 1] && spec.dilation == [1, 1] && spec.groups == 1;
        if !plain || spec.in_channels < 12 || spec.out_channels < 8 {
            return None;
        }
        match out_hw[0].min(out_hw[1]) {
            0..4 => None,
            _ if is_streamed(spec) => {
                let tiles = |m: usize| batch * out_hw[0].div_ceil(m) * out_hw[1].div_ceil(m);
                let cost = |m: &usize| (m + 2) * (m + 2) * (tiles(*m).max(MIN_COST_TILES) + TRANSFORM_COST);
                [4, 3, 2].into_iter().min_by_key(cost)
            }
            4..10 => Some(2),
            10..18 => Some(3),
            _ => Some(4),
        }
    }

    /// The border that the tiles read, including tiles that are partly outside of the map.
    pub fn source_halo(spec: &ConvSpec, m: usize, in_hw: [usize; 2], out_hw: [usize; 2]) -> Halo {
        let reach = |out: usize, before: usize, input: usize| (out.div_ceil(m) * m + 2).saturating_sub(before + input);
        Halo {
            top: spec.pad.top,
            left: spec.pad.left,
            bottom: reach(out_hw[0], spec.pad.top, in_hw[0]),
            right: reach(out_hw[1], spec.pad.left, in_hw[1]),
        }
    }

    /// Packs the weights. `m` is the result of [`Winograd::tile`] for maps of the size of `target`.
    pub fn new(
        m: usize,
        spec: &ConvSpec,
        params: &ConvParams,
        target: &Blocked,
        kernels: &Kernels,
        cache: &PackCache,
    ) -> Winograd {
        let lanes = kernels.lanes;
        let tiling = Tiling::new(m, target);
        let [inputs, outputs] = [spec.in_channels, spec.out_channels].map(|c| c.div_ceil(lanes));
        let block_bytes = tiling.positions() * lanes * size_of::<f32>();
        let (weights, max_tiles) = if is_streamed(spec) {
            let max_tiles = Streamed::max_tiles(inputs * block_bytes);
            (TransformedWeights::Streamed(Streamed::new(spec, params, kernels, cache)), max_tiles)
        } else {
            let max_tiles = Resident::max_tiles((inputs + outputs) * block_bytes);
            (TransformedWeights::Resident(Resident::new(m, spec, params, kernels, cache)), max_tiles)
        };
        Winograd {
            tiles_per_block: tiling.tiles_per_block(max_tiles),
            tiling,
            groups: channel_groups(spec.out_channels, lanes, spec.in_channels.is_multiple_of(2)),
            neutral: Epilogue::new(&[], None, 2 * lanes),
            weights,
        }
    }

    /// Name of the algorithm, for reports.
    pub fn name(&self) -> &'static str {
        let names = match self.weights {
            TransformedWeights::Resident(_) => ["winograd f2x2", "winograd f3x3", "winograd f4x4"],
            TransformedWeights::Streamed(_) => {
                ["winograd f2x2 streamed", "winograd f3x3 streamed", "winograd f4x4 streamed"]
            }
        };
        names[self.tiling.m - 2]
    }

    /// Runs on all members of the team. `residual` may be null.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        spec: &ConvSpec,
        source: &[f32],
        source_layout: &Blocked,
        residual: *const f32,
        residual_layout: Option<Blocked>,
        target: &mut [f32],
        target_layout: &Blocked,
    ) {
        let maps = Maps {
            tiling: &self.tiling,
            groups: &self.groups,
            neutral: &self.neutral,
            kernels,
            epilogue,
            pad: spec.pad,
            source,
            source_layout,
            residual: parallel::SharedPtr(residual.cast_mut()),
            residual_layout: residual_layout.filter(|_| !residual.is_null()),
            target: parallel::SharedPtr(target.as_mut_ptr()),
            target_layout,
        };
        let work = |tiles: Range<usize>, split: bool| match &self.weights {
            TransformedWeights::Resident(weights) => weights.run(&maps, tiles, split),
            TransformedWeights::Streamed(weights) => weights.run(&maps, tiles, split),
        };
        let blocks = self.tiling.blocks(self.tiles_per_block, parallel::threads());
        let tiles = |b: usize| b * blocks.len..((b + 1) * blocks.len).min(self.tiling.tiles);
        if blocks.independent {
            parallel::parallel_for(blocks.count, |b| work(tiles(b), false));
        } else {
            (0..blocks.count).for_each(|b| work(tiles(b), true));
        }
    }
}

/// Whether the weights are at least [`MIN_STREAMED_BYTES`].
fn is_streamed(spec: &ConvSpec) -> bool {
    spec.in_channels * spec.out_channels * 9 * size_of::<f32>() >= MIN_STREAMED_BYTES
}
