//! Tensors of one run, and the transforms between tensors and tiles.

use std::ops::Range;

use crate::kernels::activation::SmoothRow;
use crate::kernels::conv::winograd::tiling::Tiling;
use crate::kernels::conv::winograd::transform::{InputTile, OutputTile};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::Kernels;
use crate::kernels::tile::split_evenly;
use crate::kernels::tile::{PixelStep, Tile};
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{ChannelGroup, Segment};
use crate::run::parallel::SharedPtr;

/// All tensors that a run reads and writes.
pub(crate) struct Maps<'a> {
    pub tiling: &'a Tiling,
    /// The groups of output channel blocks.
    pub groups: &'a [ChannelGroup],
    /// Epilogue without bias and activation, for a group.
    pub neutral: &'a Epilogue,
    pub kernels: &'a Kernels,
    pub epilogue: &'a Epilogue,
    pub pad: Halo,
    pub source: &'a [f32],
    pub source_layout: &'a Blocked,
    pub residual: SharedPtr,
    pub residual_layout: Option<Blocked>,
    pub target: SharedPtr,
    pub target_layout: &'a Blocked,
}

impl Maps<'_> {
    /// Transforms channel block `block` of `tiles` to `to`: consecutive tiles for each position, positions at a
    /// distance of `position_step` floats. `scaled` must be set for weights that are transformed at run time.
    pub fn transform_inputs(
        &self,
        block: usize,
        tiles: Range<usize>,
        to: *mut f32,
        position_step: usize,
        scaled: bool,
    ) {
        let kernels = if scaled { &self.kernels.input_scaled } else { &self.kernels.input };
        let kernel = kernels[self.tiling.m - 2];
        for (i, tile) in tiles.enumerate() {
            let (n, y, x) = self.tiling.origin(tile);
            let (top, left) = (y as isize - self.pad.top as isize, x as isize - self.pad.left as isize);
            let tile = InputTile {
                input: self.source[self.source_layout.offset(n, block, top, left)..].as_ptr(),
                row_step: self.source_layout.row_stride(),
                output: to.wrapping_add(i * self.kernels.lanes),
                position_step,
            };
            // SAFETY: the halo of the source covers whole tiles (`source_halo`); tasks write different blocks.
            unsafe { kernel(&tile) };
        }
    }

    /// Transforms the products of channel block `block` of `tiles` and writes the outputs inside the map.
    pub fn transform_outputs(&self, block: usize, tiles: Range<usize>, from: *const f32, position_step: usize) {
        let (lanes, m) = (self.kernels.lanes, self.tiling.m);
        let kernel = self.kernels.output[m - 2];
        let layout = self.target_layout;
        for (i, tile) in tiles.enumerate() {
            let (n, y, x) = self.tiling.origin(tile);
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
            if let Some(activation) = self.epilogue.smooth {
                for row in 0..rows {
                    let values = self.target.at(at + row * layout.row_stride());
                    // SAFETY: pixels that were just written.
                    unsafe { (self.kernels.smooth)(&SmoothRow { values, len: columns * lanes, activation }) };
                }
            }
        }
    }
}

/// Products of one position: `count` tiles times the weights of a group of output channel blocks.
pub(crate) struct Products<'a> {
    pub maps: &'a Maps<'a>,
    pub group: ChannelGroup,
    pub count: usize,
    /// A tile's transformed inputs.
    pub segments: &'a [Segment],
    pub from: *const f32,
    pub weights: *const f32,
    /// All tiles of the first block of the group, then all tiles of its second block.
    pub to: *mut f32,
    /// Whether the products are added to the contents of `to`.
    pub add: bool,
    /// Weights for the next products, and the number of these weights to prefetch with each vector of weights: see
    /// [`PixelStep::BlockAhead`].
    pub ahead: Option<(*const f32, usize)>,
}

impl Products<'_> {
    /// Computes the products.
    ///
    /// # Safety
    /// The pointers are valid for all tiles and weights, and no other thread uses `to` during the call.
    pub unsafe fn compute(&self) {
        let (kernels, neutral) = (self.maps.kernels, self.maps.neutral);
        let lanes = kernels.lanes;
        let step = if self.ahead.is_some() { PixelStep::BlockAhead } else { PixelStep::Block };
        let (mut ahead, ahead_step) = self.ahead.unwrap_or((std::ptr::null(), 0));
        let depth: usize = self.segments.iter().map(|s| s.len).sum();
        for (first, pixels) in split_evenly(self.count, kernels.max_pixels(self.group.width)) {
            let to = self.to.wrapping_add(first * lanes);
            let tile = Tile {
                input: self.from.wrapping_add(first * lanes),
                input_step: lanes,
                segments: self.segments,
                weights: self.weights,
                bias: neutral.bias.as_ptr(),
                slope: neutral.slope.as_ptr(),
                limit: neutral.limit,
                rectifier: neutral.rectifier,
                residual: to.cast_const(),
                residual_step: lanes,
                residual_block: self.count * lanes,
                output: to,
                output_step: lanes,
                output_block: self.count * lanes,
                ahead,
                ahead_step,
            };
            // SAFETY: guaranteed by the caller.
            unsafe { (kernels.tile)(pixels, self.group.width, self.add, step)(&tile) };
            ahead = ahead.wrapping_add(depth * ahead_step);
        }
    }
}
