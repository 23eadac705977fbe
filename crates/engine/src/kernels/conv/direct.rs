//! Direct convolution: sums over all taps and input channels in registers, for tiles of pixels along rows.

use std::sync::Arc;

use crate::kernels::activation::SmoothRow;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::Kernels;
use crate::kernels::tile::{PixelStep, Tile, TileFn, split_evenly};
use crate::layout::aligned::Aligned;
use crate::layout::blocked::Blocked;
use crate::layout::pack::{ChannelGroup, GroupWidth, Segment, channel_groups, group_start};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;

/// Maximum size of weights that stay in the second-level cache, in bytes. With larger weights, all rows are computed
/// with one group of weights while the next group is prefetched.
const MAX_RESIDENT_BYTES: usize = 384 << 10;

/// Positions of the computed pixels in source and target. Distances are in floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lattice {
    pub rows: usize,
    pub columns: usize,
    pub input_row: usize,
    pub input_step: usize,
    pub output_row: usize,
    pub output_step: usize,
    /// Index of the first pixel in image 0, block 0 of the target.
    pub first_output: usize,
}

impl Lattice {
    /// The same pixels as one row, for rows without gaps between them.
    pub fn as_one_row(self) -> Lattice {
        Lattice { columns: self.rows * self.columns, rows: 1, ..self }
    }
}

/// A run of pixels of one row that one call of a kernel computes.
struct RowPiece {
    first: usize,
    kernel: TileFn,
}

/// A convolution (or one phase of a transposed one) with its weights.
pub(crate) struct Direct {
    weights: Arc<Aligned>,
    segments: Vec<Segment>,
    depth: usize,
    lattice: Lattice,
    /// Top left tap of the first pixel.
    origin: usize,
    images: usize,
    image_stride: [usize; 3],
    block_stride: [usize; 2],
    residual_row: usize,
    first_residual: usize,
    /// The pieces of a row, for each [`GroupWidth`].
    pieces: [Vec<RowPiece>; 3],
    groups: Vec<ChannelGroup>,
    /// All pairs of group and piece, ordered by columns.
    pieces_of_row: Vec<(usize, usize)>,
    /// Number of weights of the next group to prefetch with each vector of weights.
    ahead_step: usize,
}

impl Direct {
    /// `segments` are the inputs of a pixel, relative to its top left tap; `origin` is the index of the first pixel's
    /// top left tap; `source_image` is the distance of images in the source.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        kernels: &Kernels,
        weights: Arc<Aligned>,
        segments: Vec<Segment>,
        source_image: usize,
        target: &Blocked,
        residual: Option<Blocked>,
        origin: usize,
        lattice: Lattice,
    ) -> Direct {
        let lanes = kernels.lanes;
        let streamed = weights.len() * size_of::<f32>() > MAX_RESIDENT_BYTES && residual.is_none();
        let step = match lattice.input_step {
            step if step == lanes && streamed => PixelStep::BlockAhead,
            step if step == lanes => PixelStep::Block,
            step if step == 2 * lanes && streamed => PixelStep::TwoBlocksAhead,
            step if step == 2 * lanes => PixelStep::TwoBlocks,
            1 => PixelStep::PlanarOne,
            2 => PixelStep::PlanarTwo,
            _ => PixelStep::Runtime,
        };
        let groups = channel_groups(target.c, lanes, segments.iter().all(|s| s.len.is_multiple_of(2)));
        let cut = |width: GroupWidth| {
            let used = groups.iter().any(|group| group.width == width);
            split_evenly(lattice.columns, kernels.max_pixels(width))
                .filter(|_| used)
                .map(|(first, pixels)| RowPiece {
                    first,
                    kernel: (kernels.tile)(pixels, width, residual.is_some(), step),
                })
                .collect()
        };
        let pieces: [Vec<RowPiece>; 3] = [GroupWidth::One, GroupWidth::Two, GroupWidth::Half].map(cut);
        let of_group =
            |(index, group): (usize, &ChannelGroup)| (0..pieces[group.width as usize].len()).map(move |p| (index, p));
        // Ordered by columns, with all channels of a few pixels together: see `run::team`.
        let mut pieces_of_row: Vec<(usize, usize)> = groups.iter().enumerate().flat_map(of_group).collect();
        pieces_of_row.sort_by_key(|&(group, piece)| pieces[groups[group].width as usize][piece].first);
        let calls = target.n * lattice.rows * lattice.columns.div_ceil(kernels.max_pixels(GroupWidth::Two));
        let ahead_step = if streamed { (2 * lanes).div_ceil(calls.max(1)) } else { 0 };
        Direct {
            pieces_of_row,
            weights,
            ahead_step,
            depth: segments.iter().map(|s| s.len).sum(),
            segments,
            lattice,
            origin,
            images: target.n,
            image_stride: [source_image, target.image_stride(), residual.unwrap_or(*target).image_stride()],
            block_stride: [target, &residual.unwrap_or(*target)].map(Blocked::block_stride),
            residual_row: residual.map_or(0, |r| r.row_stride()),
            first_residual: residual.map_or(0, |r| r.offset(0, 0, 0, 0)),
            pieces,
            groups,
        }
    }

    /// Computes all images on all members of the team. `residual`, which may be null, is a whole tensor.
    pub fn run(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        source: &[f32],
        residual: *const f32,
        target: &mut [f32],
    ) {
        let out = SharedPtr(target.as_mut_ptr());
        let residual = SharedPtr(residual.cast_mut());
        let rows = self.lattice.rows;
        let call = |n: usize, y: usize, group: &ChannelGroup, pieces: &[RowPiece]| {
            let input = &source[self.origin + n * self.image_stride[0] + y * self.lattice.input_row..];
            self.row(kernels, epilogue, input, residual, out, n, y, *group, pieces);
        };
        let pieces = |group: &ChannelGroup| &self.pieces[group.width as usize][..];
        if self.weights.len() * 4 > MAX_RESIDENT_BYTES && self.groups.len() >= parallel::threads() {
            parallel::parallel_for(self.groups.len(), |g| {
                let group = &self.groups[g];
                (0..self.images * rows).for_each(|i| call(i / rows, i % rows, group, pieces(group)));
            });
        } else if parallel::threads() > 1 && rows * self.images < 2 * parallel::threads() {
            // Few long rows: divide them among the threads.
            let of_row = self.pieces_of_row.len();
            parallel::parallel_for(self.images * rows * of_row, |task| {
                let (i, (group, piece)) = (task / of_row, self.pieces_of_row[task % of_row]);
                let group = &self.groups[group];
                call(i / rows, i % rows, group, &pieces(group)[piece..=piece]);
            });
        } else {
            parallel::parallel_for(self.images * rows, |i| {
                self.groups.iter().for_each(|group| call(i / rows, i % rows, group, pieces(group)));
            });
        }
    }

    /// Computes row `y` of image `n` on this thread, from inputs that start at `source`. `residual`, which may be null,
    /// and `out` are whole tensors.
    #[allow(clippy::too_many_arguments)]
    pub fn run_row(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        source: &[f32],
        residual: SharedPtr,
        out: SharedPtr,
        n: usize,
        y: usize,
    ) {
        for group in &self.groups {
            self.row(kernels, epilogue, source, residual, out, n, y, *group, &self.pieces[group.width as usize]);
        }
    }

    /// Computes pieces of a row. `input` starts at the top left tap of the first pixel of the row.
    #[allow(clippy::too_many_arguments)]
    fn row(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        input: &[f32],
        residual: SharedPtr,
        out: SharedPtr,
        n: usize,
        y: usize,
        group: ChannelGroup,
        pieces: &[RowPiece],
    ) {
        let (lanes, lattice) = (kernels.lanes, &self.lattice);
        let input = input.as_ptr();
        let first = lattice.first_output
            + n * self.image_stride[1]
            + group.first * self.block_stride[0]
            + y * lattice.output_row;
        let first_residual =
            self.first_residual + n * self.image_stride[2] + group.first * self.block_stride[1] + y * self.residual_row;
        let weights = self.weights[group_start(group, self.depth, lanes)..].as_ptr();
        let mut tile = Tile {
            input,
            input_step: lattice.input_step,
            segments: &self.segments,
            weights,
            bias: epilogue.bias[group.first * lanes..].as_ptr(),
            slope: epilogue.slope[group.first * lanes..].as_ptr(),
            limit: epilogue.limit,
            rectifier: epilogue.rectifier,
            residual: std::ptr::null(),
            residual_step: lanes,
            residual_block: self.block_stride[1],
            output: std::ptr::null_mut(),
            output_step: lattice.output_step,
            output_block: self.block_stride[0],
            ahead: std::ptr::null(),
            ahead_step: self.ahead_step,
        };
        let ahead = weights.wrapping_add(self.depth * group.width.weights(lanes));
        let calls_before = (n * lattice.rows + y) * self.pieces[group.width as usize].len();
        for (i, piece) in pieces.iter().enumerate() {
            tile.ahead = ahead.wrapping_add((calls_before + i) * self.depth * self.ahead_step);
            tile.input = input.wrapping_add(piece.first * lattice.input_step);
            tile.residual = residual.at(first_residual + piece.first * lanes);
            tile.output = out.at(first + piece.first * lattice.output_step);
            // SAFETY: the layouts fit the slices, and tasks write different pixels or channels.
            unsafe { (piece.kernel)(&tile) };
        }
        if let (Some(activation), Some(from)) = (epilogue.smooth, pieces.first()) {
            let whole_row = pieces.len() == self.pieces[group.width as usize].len();
            let pixels = if whole_row { lattice.columns } else { self.piece_len(group.width, from.first) };
            if lattice.output_step == lanes {
                for block in 0..group.width.blocks() {
                    let at = first + block * self.block_stride[0] + from.first * lanes;
                    // SAFETY: consecutive pixels that were just written.
                    unsafe { (kernels.smooth)(&SmoothRow { values: out.at(at), len: pixels * lanes, activation }) };
                }
                return;
            }
            for block in 0..group.width.blocks() {
                for x in from.first..from.first + pixels {
                    let at = first + block * self.block_stride[0] + x * lattice.output_step;
                    // SAFETY: a pixel that was just written.
                    unsafe { (kernels.smooth)(&SmoothRow { values: out.at(at), len: lanes, activation }) };
                }
            }
        }
    }

    /// Number of pixels of the piece that starts at `first`.
    fn piece_len(&self, width: GroupWidth, first: usize) -> usize {
        let next = self.pieces[width as usize].iter().map(|p| p.first).find(|&f| f > first);
        next.unwrap_or(self.lattice.columns) - first
    }
}
