//! Direct convolution: tiles of pixels along rows, all taps and input channels summed in registers.

use std::sync::Arc;

use crate::kernels::epilogue::Epilogue;
use crate::kernels::isa::Kernels;
use crate::kernels::tile::{Segment, Step, Tile, TileFn};
use crate::layout::aligned::Aligned;
use crate::layout::blocked::Blocked;
use crate::layout::pack::{Group, Width, group_start, groups};
use crate::run::parallel;
use crate::run::parallel::Shared;

/// Weights above this stay in the second-level cache only if all rows are done for one group of them before the next, which is fetched
/// meanwhile.
const RESIDENT_WEIGHTS: usize = 384 << 10;

/// Which pixels are computed, and from where to where; distances in floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lattice {
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
    /// How a row is cut, for each [`Width`].
    pieces: [Vec<Piece>; 3],
    groups: Vec<Group>,
    /// Group and piece of everything in a row.
    pieces_of_row: Vec<(usize, usize)>,
    /// Floats of the next group's weights to fetch with each of this one's, if that is done.
    ahead_step: usize,
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
        let streamed = weights.len() * size_of::<f32>() > RESIDENT_WEIGHTS && residual.is_none();
        let step = match lattice.input_step {
            step if step == lanes && streamed => Step::Ahead,
            step if step == lanes => Step::One,
            step if step == 2 * lanes && streamed => Step::TwoAhead,
            step if step == 2 * lanes => Step::Two,
            1 => Step::PlanarOne,
            2 => Step::PlanarTwo,
            _ => Step::Any,
        };
        let groups = groups(target.c, lanes, segments.iter().all(|s| s.len.is_multiple_of(2)));
        let cut = |width: Width| {
            let used = groups.iter().any(|group| group.width == width);
            even(lattice.columns, kernels.pixels(width))
                .filter(|_| used)
                .map(|(first, pixels)| Piece { first, kernel: (kernels.tile)(pixels, width, residual.is_some(), step) })
                .collect()
        };
        let pieces: [Vec<Piece>; 3] = [Width::One, Width::Two, Width::Half].map(cut);
        let of_group =
            |(index, group): (usize, &Group)| (0..pieces[group.width as usize].len()).map(move |p| (index, p));
        // Along the row, all channels of a few pixels together: see `team`.
        let mut pieces_of_row: Vec<(usize, usize)> = groups.iter().enumerate().flat_map(of_group).collect();
        pieces_of_row.sort_by_key(|&(group, piece)| pieces[groups[group].width as usize][piece].first);
        let calls = target.n * lattice.rows * lattice.columns.div_ceil(kernels.pixels(Width::Two));
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
        let pieces = |group: &Group| &self.pieces[group.width as usize][..];
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
            self.row(kernels, epilogue, source, residual, out, n, y, *group, &self.pieces[group.width as usize]);
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
        let mut tile = Tile {
            input,
            input_step: lattice.input_step,
            segments: &self.segments,
            weights,
            bias: epilogue.bias[group.first * lanes..].as_ptr(),
            slope: epilogue.slope[group.first * lanes..].as_ptr(),
            limit: epilogue.limit,
            bend: epilogue.bend,
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
            // SAFETY: the layouts were checked against the slices; tasks write different pixels or channels.
            unsafe { (piece.kernel)(&tile) };
        }
        if let (Some(curve), Some(from)) = (epilogue.curve, pieces.first()) {
            let whole_row = pieces.len() == self.pieces[group.width as usize].len();
            let pixels = if whole_row { lattice.columns } else { self.piece_len(group.width, from.first) };
            if lattice.output_step == lanes {
                for block in 0..group.width.blocks() {
                    let at = first + block * self.block_stride[0] + from.first * lanes;
                    // SAFETY: pixels just written, one after the other.
                    unsafe { (kernels.curve)(out.at(at), pixels * lanes, curve) };
                }
                return;
            }
            for block in 0..group.width.blocks() {
                for x in from.first..from.first + pixels {
                    let at = first + block * self.block_stride[0] + x * lattice.output_step;
                    // SAFETY: pixels just written.
                    unsafe { (kernels.curve)(out.at(at), lanes, curve) };
                }
            }
        }
    }

    fn piece_len(&self, width: Width, first: usize) -> usize {
        let next = self.pieces[width as usize].iter().map(|p| p.first).find(|&f| f > first);
        next.unwrap_or(self.lattice.columns) - first
    }
}

/// Cuts `length` into as few pieces of at most `most` as possible, of nearly the same size: (first, length).
pub(crate) fn even(length: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = length.div_ceil(most).max(1);
    // Not as `i * length / pieces`: the product of two sizes may be more than 32 bits hold.
    let (least, longer) = (length / pieces, length % pieces);
    (0..pieces).map(move |i| (i * least + i.min(longer), least + usize::from(i < longer)))
}

#[cfg(test)]
mod tests {
    use super::even;

    #[test]
    fn pieces_follow_each_other_and_differ_by_one_at_most() {
        for (length, most) in
            [(0, 5), (1, 5), (80, 14), (13, 14), (320, 28), (147_456, 6), (u32::MAX as usize, 1 << 20)]
        {
            let pieces: Vec<_> = even(length, most).collect();
            assert_eq!(pieces.len(), length.div_ceil(most).max(1));
            assert!(pieces.windows(2).all(|p| p[1].0 == p[0].0 + p[0].1));
            assert_eq!(pieces.last().map(|p| p.0 + p.1), Some(length));
            let (short, long) = pieces.iter().fold((usize::MAX, 0), |(s, l), p| (s.min(p.1), l.max(p.1)));
            assert!(long - short <= 1 && long <= most);
        }
    }
}
