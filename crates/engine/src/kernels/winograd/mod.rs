//! Winograd's minimal filtering for 3x3 convolutions of stride 1: transform tiles, multiply by position, transform back.
//!
//! Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks".

mod maps;
mod pack;
mod resident;
mod streamed;
pub(crate) mod transform;

use std::ops::Range;

use self::maps::Maps;
use self::resident::Resident;
use self::streamed::Streamed;
use crate::kernels::conv::{ConvParams, ConvSpec};
use crate::kernels::epilogue::Activation;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::isa::Kernels;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{Group, PackCache, groups};
use crate::run::parallel;

/// Weights of at least so many bytes do not stay near the core from one run to the next: they are [`Streamed`].
const DEEP: usize = 512 << 10;

/// Transforming a weight costs about as much as multiplying it with so many tiles; with fewer tiles than the second number, the kernel
/// waits for its own sums.
const TRANSFORM: usize = 3;
const FEW: usize = 8;

/// A convolution by tiles of `m` x `m` outputs.
pub(crate) struct Winograd {
    tiling: Tiling,
    /// Tiles worked on together.
    together: usize,
    groups: Vec<Group>,
    /// What is done to products: nothing.
    neutral: Epilogue,
    weights: Weights,
}

enum Weights {
    Resident(Resident),
    Streamed(Streamed),
}

impl Winograd {
    /// The tile size that pays for this convolution of `batch` maps, or `None` when direct convolution is faster.
    ///
    /// Large tiles save most multiplications, but on small maps much of them lies outside. Resident weights are packed for one tile
    /// size: there the choice does not depend on the batch, so that all plans share one packing.
    pub fn tile(spec: &ConvSpec, batch: usize, out_hw: [usize; 2]) -> Option<usize> {
        let plain = spec.kernel == [3, 3] && spec.stride == [1, 1] && spec.dilation == [1, 1] && spec.groups == 1;
        if !plain || spec.in_channels < 12 || spec.out_channels < 8 {
            return None;
        }
        match out_hw[0].min(out_hw[1]) {
            0..4 => None,
            _ if is_deep(spec) => {
                let tiles = |m: usize| batch * out_hw[0].div_ceil(m) * out_hw[1].div_ceil(m);
                let cost = |m: &usize| (m + 2) * (m + 2) * (tiles(*m).max(FEW) + TRANSFORM);
                [4, 3, 2].into_iter().min_by_key(cost)
            }
            4..10 => Some(2),
            10..18 => Some(3),
            _ => Some(4),
        }
    }

    /// The border that whole tiles read.
    pub fn source_halo(spec: &ConvSpec, m: usize, in_hw: [usize; 2], out_hw: [usize; 2]) -> Halo {
        let reach = |out: usize, before: usize, input: usize| (out.div_ceil(m) * m + 2).saturating_sub(before + input);
        Halo {
            top: spec.pad.top,
            left: spec.pad.left,
            bottom: reach(out_hw[0], spec.pad.top, in_hw[0]),
            right: reach(out_hw[1], spec.pad.left, in_hw[1]),
        }
    }

    /// `m` is what [`Winograd::tile`] answered for maps like `target`.
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
        let (weights, most) = if is_deep(spec) {
            (Weights::Streamed(Streamed::new(spec, params, kernels, cache)), Streamed::together(inputs * block_bytes))
        } else {
            let most = Resident::together((inputs + outputs) * block_bytes);
            (Weights::Resident(Resident::new(m, spec, params, kernels, cache)), most)
        };
        Winograd {
            together: tiling.evenly(most),
            tiling,
            groups: groups(spec.out_channels, lanes, spec.in_channels.is_multiple_of(2)),
            neutral: Epilogue::new(&[], &Activation::None, 2 * lanes),
            weights,
        }
    }

    pub fn name(&self) -> &'static str {
        let names = match self.weights {
            Weights::Resident(_) => ["winograd f2x2", "winograd f3x3", "winograd f4x4"],
            Weights::Streamed(_) => ["winograd f2x2 streamed", "winograd f3x3 streamed", "winograd f4x4 streamed"],
        };
        names[self.tiling.m - 2]
    }

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
            residual: parallel::Shared(residual.cast_mut()),
            residual_layout: residual_layout.filter(|_| !residual.is_null()),
            target: parallel::Shared(target.as_mut_ptr()),
            target_layout,
        };
        let work = |tiles: Range<usize>, split: bool| match &self.weights {
            Weights::Resident(weights) => weights.run(&maps, tiles, split),
            Weights::Streamed(weights) => weights.run(&maps, tiles, split),
        };
        let (block, blocks, alone) = self.tiling.blocks(self.together, parallel::threads());
        let range = |b: usize| b * block..((b + 1) * block).min(self.tiling.tiles);
        if alone {
            parallel::each(blocks, |b| work(range(b), false));
        } else {
            (0..blocks).for_each(|b| work(range(b), true));
        }
    }
}

/// Whether the weights are too large to stay near the core.
fn is_deep(spec: &ConvSpec) -> bool {
    spec.in_channels * spec.out_channels * 9 * size_of::<f32>() >= DEEP
}

/// How maps are cut into tiles.
struct Tiling {
    /// Outputs of a tile, down and across.
    m: usize,
    /// Tiles of a map, down and across.
    grid: [usize; 2],
    /// Tiles of all images.
    tiles: usize,
}

impl Tiling {
    fn new(m: usize, target: &Blocked) -> Tiling {
        let grid = [target.h.div_ceil(m), target.w.div_ceil(m)];
        Tiling { m, grid, tiles: target.n * grid[0] * grid[1] }
    }

    /// Values of a tile, which are multiplied one by one: positions.
    fn positions(&self) -> usize {
        (self.m + 2) * (self.m + 2)
    }

    /// Image, row and column of a tile's first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [down, across] = self.grid;
        let (n, cell) = (tile / (down * across), tile % (down * across));
        (n, cell / across * self.m, cell % across * self.m)
    }

    /// As many tiles of at most `most` at once as make blocks of the same size.
    fn evenly(&self, most: usize) -> usize {
        self.tiles.div_ceil(self.tiles.div_ceil(most))
    }

    /// Tiles of a block, blocks, and whether each thread works on blocks of its own: with too few to go round, the threads share the
    /// steps of each.
    fn blocks(&self, together: usize, threads: usize) -> (usize, usize, bool) {
        let (mut block, mut blocks) = (together, self.tiles.div_ceil(together));
        if threads > 1 && blocks > 1 && blocks < 4 * threads {
            blocks = blocks.next_multiple_of(threads);
            block = self.tiles.div_ceil(blocks);
            blocks = self.tiles.div_ceil(block);
        }
        (block, blocks, blocks >= threads)
    }
}
