//! Winograd's minimal filtering for 3x3 convolutions of stride 1: transform tiles, multiply by position, transform back.

use std::sync::Arc;

use super::conv::{ConvSpec, group_start};
use super::direct::even;
use super::epilogue::Epilogue;
use super::isa::Kernels;
use super::pack::{Group, block_segments, groups, singles};
use super::parallel::{self, Shared};
use super::tile::{Segment, Step, Tile};
use super::transform::{InputTile, OutputTile};
use super::{Activation, Aligned, Blocked, Halo};
use crate::simd::compiled_for_avx2;

/// Transformed tiles and products of one block of tiles should stay in the second-level cache.
const BLOCK_BYTES: usize = 640 << 10;
/// Weights beyond this come from further away for every block of tiles, so blocks are made larger.
const NEAR_WEIGHTS: usize = 1 << 20;
const FAR_BLOCK_BYTES: usize = 4 << 20;

/// Weights of a position above which they are used up as they arrive, each for all tiles at once, if the registers hold so many:
/// then the next come while these are multiplied.
const STREAMED_WEIGHTS: usize = 128 << 10;
/// As many tiles as the maps with such weights have.
const STREAMED_TILES: usize = 25;

/// How output channel blocks are worked on.
fn channel_groups(kernels: &Kernels, inputs: usize, outputs: usize) -> Vec<Group> {
    let blocks = outputs.div_ceil(kernels.lanes);
    let streamed = inputs * blocks * kernels.lanes * 4 >= STREAMED_WEIGHTS && kernels.pixels[0] >= STREAMED_TILES;
    if streamed { singles(blocks).collect() } else { groups(blocks).collect() }
}

/// A convolution by tiles of `m` x `m` outputs.
pub(super) struct Winograd {
    m: usize,
    weights: Arc<Aligned>,
    /// Tiles down, across, and of all images.
    grid: [usize; 2],
    tiles: usize,
    /// Tiles worked on together.
    block: usize,
    groups: Vec<Group>,
    neutral: Epilogue,
}

impl Winograd {
    /// The tile size that pays for this convolution, or `None` when direct convolution is faster.
    ///
    /// Large tiles save most multiplications, but on small maps much of them lies outside, and their weights take up to four times the
    /// memory. The choice does not depend on the batch, so that all plans share one packing.
    pub fn tile(spec: &ConvSpec, out_hw: [usize; 2]) -> Option<usize> {
        let plain = spec.kernel == [3, 3] && spec.stride == [1, 1] && spec.dilation == [1, 1] && spec.groups == 1;
        if !plain || spec.in_channels < 12 || spec.out_channels < 8 {
            return None;
        }
        match out_hw[0].min(out_hw[1]) {
            0..4 => None,
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

    pub fn new(m: usize, weights: Arc<Aligned>, source: &Blocked, target: &Blocked, kernels: &Kernels) -> Winograd {
        let lanes = kernels.lanes;
        let grid = [target.h.div_ceil(m), target.w.div_ceil(m)];
        let tiles = target.n * grid[0] * grid[1];
        let positions = (m + 2) * (m + 2);
        let tile_bytes = positions * (source.blocks() + target.blocks()) * lanes * 4;
        let budget = if weights.len() * 4 > NEAR_WEIGHTS { FAR_BLOCK_BYTES } else { BLOCK_BYTES };
        let most = (budget / tile_bytes).clamp(12, 512);
        let block = tiles.div_ceil(tiles.div_ceil(most));
        let neutral = Epilogue::new(&[], &Activation::None, 2 * lanes);
        Winograd { m, weights, grid, tiles, block, groups: channel_groups(kernels, source.c, target.c), neutral }
    }

    pub fn name(&self) -> &'static str {
        ["winograd f2x2", "winograd f3x3", "winograd f4x4"][self.m - 2]
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
        let work = Work {
            plan: self,
            kernels,
            epilogue,
            pad: spec.pad,
            source,
            source_layout,
            residual: Shared(residual.cast_mut()),
            residual_layout: residual_layout.filter(|_| !residual.is_null()),
            target: Shared(target.as_mut_ptr()),
            target_layout,
            positions: (self.m + 2) * (self.m + 2),
        };
        let threads = parallel::threads();
        // With too few blocks to go round, the threads share the steps of each block.
        let mut block = self.block;
        let mut blocks = self.tiles.div_ceil(block);
        if threads > 1 && blocks > 1 && blocks < 4 * threads {
            blocks = blocks.next_multiple_of(threads);
            block = self.tiles.div_ceil(blocks);
            blocks = self.tiles.div_ceil(block);
        }
        let range = |b: usize| b * block..((b + 1) * block).min(self.tiles);
        if blocks >= threads {
            parallel::each(blocks, |b| work.block(range(b), false));
        } else {
            (0..blocks).for_each(|b| work.block(range(b), true));
        }
    }
}

/// One run: the plan and everything it reads and writes.
struct Work<'a> {
    plan: &'a Winograd,
    kernels: &'a Kernels,
    epilogue: &'a Epilogue,
    pad: Halo,
    source: &'a [f32],
    source_layout: &'a Blocked,
    residual: Shared,
    residual_layout: Option<Blocked>,
    target: Shared,
    target_layout: &'a Blocked,
    positions: usize,
}

impl Work<'_> {
    fn block(&self, tiles: std::ops::Range<usize>, split: bool) {
        let lanes = self.kernels.lanes;
        let count = tiles.len();
        let (inputs, outputs) = (self.source_layout.blocks(), self.target_layout.blocks());
        // Planes a power of two apart would fall into the same cache lines.
        let input_plane = inputs * count * lanes + 16;
        let output_plane = outputs * count * lanes + 16;
        let each = |count: usize, task: &(dyn Fn(usize) + Sync + Send)| {
            if split { parallel::each(count, task) } else { (0..count).for_each(task) }
        };
        parallel::with_scratch(self.positions * (input_plane + output_plane), |scratch| {
            let (transformed, products) = scratch.split_at_mut(self.positions * input_plane);
            let (transformed, products) = (Shared(transformed.as_mut_ptr()), Shared(products.as_mut_ptr()));
            each(inputs, &|b| self.transform_inputs(b, tiles.clone(), transformed.at(b * count * lanes), input_plane));
            let segments = block_segments(self.source_layout.c, lanes, count * lanes, &[0]);
            each(self.positions, &|position| {
                let (from, to) = (transformed.at(position * input_plane), products.at(position * output_plane));
                self.multiply(position, count, &segments, from, to);
            });
            each(outputs, &|b| self.transform_outputs(b, tiles.clone(), products.at(b * count * lanes), output_plane));
        });
    }

    /// Image, row and column of a tile's first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [down, across] = self.plan.grid;
        let (n, cell) = (tile / (down * across), tile % (down * across));
        (n, cell / across * self.plan.m, cell % across * self.plan.m)
    }

    fn transform_inputs(&self, block: usize, tiles: std::ops::Range<usize>, to: *mut f32, position_step: usize) {
        let kernel = self.kernels.input[self.plan.m - 2];
        for (i, tile) in tiles.enumerate() {
            let (n, y, x) = self.place(tile);
            let (top, left) = (y as isize - self.pad.top as isize, x as isize - self.pad.left as isize);
            let tile = InputTile {
                input: self.source[self.source_layout.offset(n, block, top, left)..].as_ptr(),
                row_step: self.source_layout.row_stride(),
                output: to.wrapping_add(i * self.kernels.lanes),
                position_step,
            };
            // SAFETY: the source's halo covers whole tiles (source_halo); tasks write different blocks.
            unsafe { kernel(&tile) };
        }
    }

    fn multiply(&self, position: usize, count: usize, segments: &[Segment], from: *const f32, to: *mut f32) {
        let lanes = self.kernels.lanes;
        let depth = self.source_layout.c;
        let of_position = self.target_layout.blocks() * lanes * depth;
        let neutral = &self.plan.neutral;
        for &group in &self.plan.groups {
            let start = position * of_position + group_start(group, depth, lanes);
            let weights = self.plan.weights[start..].as_ptr();
            for (first, pixels) in even(count, self.kernels.pixels[group.blocks - 1]) {
                let tile = Tile {
                    input: from.wrapping_add(first * lanes),
                    input_step: lanes,
                    segments,
                    weights,
                    bias: neutral.bias.as_ptr(),
                    slope: neutral.slope.as_ptr(),
                    limit: neutral.limit,
                    bend: neutral.bend,
                    residual: std::ptr::null(),
                    residual_step: 0,
                    residual_block: 0,
                    output: to.wrapping_add((group.first * count + first) * lanes),
                    output_step: lanes,
                    output_block: count * lanes,
                };
                // SAFETY: both planes hold all blocks of `count` tiles; positions write different planes.
                unsafe { (self.kernels.tile)(pixels, group.blocks, false, Step::One)(&tile) };
            }
        }
    }

    fn transform_outputs(&self, block: usize, tiles: std::ops::Range<usize>, from: *const f32, position_step: usize) {
        let (lanes, m) = (self.kernels.lanes, self.plan.m);
        let kernel = self.kernels.output[m - 2];
        let layout = self.target_layout;
        for (i, tile) in tiles.enumerate() {
            let (n, y, x) = self.place(tile);
            let at = layout.offset(n, block, y as isize, x as isize);
            let (rows, columns) = ((layout.h - y).min(m), (layout.w - x).min(m));
            let tile = OutputTile {
                products: from.wrapping_add(i * lanes),
                position_step,
                bias: self.epilogue.bias[block * lanes..].as_ptr(),
                slope: self.epilogue.slope[block * lanes..].as_ptr(),
                limit: self.epilogue.limit,
                residual: self.residual_layout.map_or(std::ptr::null(), |r| {
                    self.residual.at(r.offset(n, block, y as isize, x as isize)).cast_const()
                }),
                residual_row: self.residual_layout.map_or(0, |r| r.row_stride()),
                residual_step: lanes,
                output: self.target.at(at),
                output_row: layout.row_stride(),
                output_step: lanes,
                rows,
                columns,
            };
            // SAFETY: only the rows and columns inside the map are written; tasks write different blocks or tiles.
            unsafe { kernel(&tile) };
            if let Some(curve) = self.epilogue.curve {
                for row in 0..rows {
                    // SAFETY: pixels just written.
                    unsafe {
                        (self.kernels.curve)(self.target.at(at + row * layout.row_stride()), columns * lanes, curve)
                    };
                }
            }
        }
    }
}

/// Transformed weights, `[position][group][in channel][lanes of the group]`.
pub(super) fn pack(weights: &[f32], inputs: usize, outputs: usize, m: usize, kernels: &Kernels) -> Aligned {
    let lanes = kernels.lanes;
    let of_position = outputs.div_ceil(lanes) * lanes * inputs;
    let mut packed = Aligned::zeros((m + 2) * (m + 2) * of_position);
    pack_into(weights, [inputs, outputs], m, lanes, &channel_groups(kernels, inputs, outputs), &mut packed);
    packed
}

/// Input channels transformed together: what they become fits the first-level cache.
const SPAN: usize = 8;
/// Output channels transformed together: a vector of double precision.
const QUAD: usize = 4;

compiled_for_avx2! {
    /// Fills `packed`. The positions lie at distances that fall on the same cache lines, so runs for each are collected first.
    fn pack_into(weights: &[f32], size: [usize; 2], m: usize, lanes: usize, groups: &[Group], packed: &mut [f32]) {
        let [inputs, outputs] = size;
        let positions = (m + 2) * (m + 2);
        let of_position = packed.len() / positions;
        let mut stage = vec![0f32; positions * SPAN * 2 * lanes];
        for &group in groups {
            let (width, first) = (group.blocks * lanes, group.first * lanes);
            for span in (0..inputs).step_by(SPAN) {
                let len = SPAN.min(inputs - span);
                for (k, quad) in (0..len).flat_map(|k| (0..width).step_by(QUAD).map(move |quad| (k, quad))) {
                    let mut kernels = [[0f64; QUAD]; 9];
                    for channel in (first + quad..(first + quad + QUAD).min(outputs)).enumerate() {
                        let at = (channel.1 * inputs + span + k) * 9;
                        for (tap, value) in kernels.iter_mut().zip(&weights[at..at + 9]) {
                            tap[channel.0] = f64::from(*value);
                        }
                    }
                    let to = &mut stage[k * width + quad..];
                    match m {
                        2 => transform_kernels(&F2, &kernels, to, SPAN * width),
                        3 => transform_kernels(&F3, &kernels, to, SPAN * width),
                        _ => transform_kernels(&F4, &kernels, to, SPAN * width),
                    }
                }
                let start = group_start(group, inputs, lanes) + span * width;
                for (run, to) in stage.chunks_exact(SPAN * width).zip(packed.chunks_exact_mut(of_position)) {
                    to[start..start + len * width].copy_from_slice(&run[..len * width]);
                }
            }
        }
    }
}

/// The matrices `G` of the transforms, a row for each position.
const F2: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
const F3: [[f64; 3]; 5] = [
    [0.5, 0.0, 0.0],
    [-0.5, -0.5, -0.5],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 6.0, 1.0 / 3.0, 2.0 / 3.0],
    [0.0, 0.0, 1.0],
];
const F4: [[f64; 3]; 6] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `G g G^T` of neighbouring output channels, position after position `step` floats apart.
#[inline(always)]
fn transform_kernels<const T: usize>(g: &[[f64; 3]; T], kernels: &[[f64; QUAD]; 9], to: &mut [f32], step: usize) {
    let weighted = |row: &[f64; 3], taps: [&[f64; QUAD]; 3]| -> [f64; QUAD] {
        std::array::from_fn(|i| row[0] * taps[0][i] + row[1] * taps[1][i] + row[2] * taps[2][i])
    };
    for (y, down) in g.iter().enumerate() {
        let half: [[f64; QUAD]; 3] =
            std::array::from_fn(|x| weighted(down, [&kernels[x], &kernels[3 + x], &kernels[6 + x]]));
        for (x, across) in g.iter().enumerate() {
            let sums = weighted(across, [&half[0], &half[1], &half[2]]).map(|v| v as f32);
            to[(y * T + x) * step..][..QUAD].copy_from_slice(&sums);
        }
    }
}
