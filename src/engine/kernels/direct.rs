//! Direct convolution: tiles of pixels along rows, all taps and input channels summed in registers.

use std::sync::Arc;

use super::conv::group_start;
use super::epilogue::Epilogue;
use super::isa::Kernels;
use super::pack::{Group, groups};
use super::parallel::{self, Shared};
use super::tile::{Segment, Step, Tile, TileFn};
use super::{Aligned, Blocked};

/// Weights above this stay in the second-level cache only if all rows are done for one group of them before the next.
const RESIDENT_WEIGHTS: usize = 384 << 10;

/// Which pixels are computed, and from where to where; distances in floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lattice {
    pub rows: usize,
    pub columns: usize,
    pub input_row: usize,
    pub input_step: usize,
    pub output_row: usize,
    pub output_step: usize,
    /// The first pixel's place in image 0, block 0 of the target.
    pub first_output: usize,
}

impl Lattice {
    /// Rows that follow each other without gaps, as one.
    pub fn as_one_row(self) -> Lattice {
        Lattice { columns: self.rows * self.columns, rows: 1, ..self }
    }
}

/// A run of pixels of one row.
struct Piece {
    first: usize,
    kernel: TileFn,
}

/// A convolution (or one phase of a transposed one) with its weights.
pub(super) struct Direct {
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
    /// How a row is cut, for one and for two channel blocks.
    pieces: [Vec<Piece>; 2],
    groups: Vec<Group>,
    /// Group and piece of everything in a row.
    pieces_of_row: Vec<(usize, usize)>,
}

impl Direct {
    /// `segments` are a pixel's inputs from its top left tap; `origin` is that of the first pixel; `source_image` the distance of images.
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
        let step = match lattice.input_step {
            step if step == lanes => Step::One,
            step if step == 2 * lanes => Step::Two,
            1 => Step::PlanarOne,
            2 => Step::PlanarTwo,
            _ => Step::Any,
        };
        let cut = |blocks: usize| {
            even(lattice.columns, kernels.pixels[blocks - 1])
                .map(|(first, pixels)| Piece {
                    first,
                    kernel: (kernels.tile)(pixels, blocks, residual.is_some(), step),
                })
                .collect()
        };
        let pieces: [Vec<Piece>; 2] = [cut(1), cut(2)];
        let groups: Vec<Group> = groups(target.blocks()).collect();
        let of_group = |(index, group): (usize, &Group)| (0..pieces[group.blocks - 1].len()).map(move |p| (index, p));
        // Along the row, all channels of a few pixels together: see `team`.
        let mut pieces_of_row: Vec<(usize, usize)> = groups.iter().enumerate().flat_map(of_group).collect();
        pieces_of_row.sort_by_key(|&(group, piece)| pieces[groups[group].blocks - 1][piece].first);
        Direct {
            pieces_of_row,
            weights,
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

    pub fn run(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        source: &[f32],
        residual: *const f32,
        target: &mut [f32],
    ) {
        let out = Shared(target.as_mut_ptr());
        let residual = Shared(residual.cast_mut());
        let rows = self.lattice.rows;
        let call = |n: usize, y: usize, group: &Group, pieces: &[Piece]| {
            let input = &source[self.origin + n * self.image_stride[0] + y * self.lattice.input_row..];
            self.row(kernels, epilogue, input, residual, out, n, y, *group, pieces);
        };
        let pieces = |group: &Group| &self.pieces[group.blocks - 1][..];
        if self.weights.len() * 4 > RESIDENT_WEIGHTS && self.groups.len() >= parallel::threads() {
            parallel::each(self.groups.len(), |g| {
                let group = &self.groups[g];
                (0..self.images * rows).for_each(|i| call(i / rows, i % rows, group, pieces(group)));
            });
        } else if parallel::threads() > 1 && rows * self.images < 2 * parallel::threads() {
            // Few long rows: hand out their pieces.
            let of_row = self.pieces_of_row.len();
            parallel::each(self.images * rows * of_row, |task| {
                let (i, (group, piece)) = (task / of_row, self.pieces_of_row[task % of_row]);
                let group = &self.groups[group];
                call(i / rows, i % rows, group, &pieces(group)[piece..=piece]);
            });
        } else {
            parallel::each(self.images * rows, |i| {
                self.groups.iter().for_each(|group| call(i / rows, i % rows, group, pieces(group)));
            });
        }
    }

    /// Computes row `y` of image `n` from inputs that start at `source`, on this thread. `residual`, which may be null, and `out`
    /// are whole tensors.
    #[allow(clippy::too_many_arguments)]
    pub fn run_row(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        source: &[f32],
        residual: Shared,
        out: Shared,
        n: usize,
        y: usize,
    ) {
        for group in &self.groups {
            self.row(kernels, epilogue, source, residual, out, n, y, *group, &self.pieces[group.blocks - 1]);
        }
    }

    /// `input` starts at the top left tap of the row's first pixel.
    #[allow(clippy::too_many_arguments)]
    fn row(
        &self,
        kernels: &Kernels,
        epilogue: &Epilogue,
        input: &[f32],
        residual: Shared,
        out: Shared,
        n: usize,
        y: usize,
        group: Group,
        pieces: &[Piece],
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
        for piece in pieces {
            let tile = Tile {
                input: input.wrapping_add(piece.first * lattice.input_step),
                input_step: lattice.input_step,
                segments: &self.segments,
                weights,
                bias: epilogue.bias[group.first * lanes..].as_ptr(),
                slope: epilogue.slope[group.first * lanes..].as_ptr(),
                limit: epilogue.limit,
                bend: epilogue.bend,
                residual: residual.at(first_residual + piece.first * lanes),
                residual_step: lanes,
                residual_block: self.block_stride[1],
                output: out.at(first + piece.first * lattice.output_step),
                output_step: lattice.output_step,
                output_block: self.block_stride[0],
                ahead: std::ptr::null(),
                ahead_step: 0,
            };
            // SAFETY: the layouts were checked against the slices; tasks write different pixels or channels.
            unsafe { (piece.kernel)(&tile) };
        }
        if let (Some(curve), Some(from)) = (epilogue.curve, pieces.first()) {
            let whole_row = pieces.len() == self.pieces[group.blocks - 1].len();
            let pixels = if whole_row { lattice.columns } else { self.piece_len(group.blocks, from.first) };
            if lattice.output_step == lanes {
                for block in 0..group.blocks {
                    let at = first + block * self.block_stride[0] + from.first * lanes;
                    // SAFETY: pixels just written, one after the other.
                    unsafe { (kernels.curve)(out.at(at), pixels * lanes, curve) };
                }
                return;
            }
            for block in 0..group.blocks {
                for x in from.first..from.first + pixels {
                    let at = first + block * self.block_stride[0] + x * lattice.output_step;
                    // SAFETY: pixels just written.
                    unsafe { (kernels.curve)(out.at(at), lanes, curve) };
                }
            }
        }
    }

    fn piece_len(&self, blocks: usize, first: usize) -> usize {
        let next = self.pieces[blocks - 1].iter().map(|p| p.first).find(|&f| f > first);
        next.unwrap_or(self.lattice.columns) - first
    }
}

/// Cuts `length` into as few pieces of at most `most` as possible, of nearly the same size: (first, length).
pub(super) fn even(length: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = length.div_ceil(most).max(1);
    (0..pieces).map(move |i| {
        let (from, to) = (i * length / pieces, (i + 1) * length / pieces);
        (from, to - from)
    })
}
