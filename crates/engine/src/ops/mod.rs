//! All operations of a network except convolutions and matrix products, on blocked and on row-major tensors.

pub(crate) mod blocked;
pub(crate) mod channels;
pub(crate) mod elementwise;
pub(crate) mod layout;
pub(crate) mod normalize;
pub(crate) mod row_major;
#[cfg(test)]
mod tests;

use tract_onnx::tract_core::internal::tract_smallvec::SmallVec;

use crate::layout::blocked::Blocked;
use crate::run::parallel::{parallel_chunks, parallel_rows};
use crate::run::team::threads;

// Small arrays for a run. They are on the stack, so that a run allocates no memory.

/// A value for each lane of a channel block.
pub(crate) type Lanes = SmallVec<[f32; 16]>;
/// A value for each axis of a tensor.
pub(crate) type Axes = SmallVec<[usize; 8]>;
/// The operands of a step.
pub(crate) type Operands<T> = SmallVec<[T; 16]>;
/// A value for each channel of a layer.
type ChannelValues<T> = SmallVec<[T; 256]>;

/// Minimum number of floats for which a loop is divided among threads.
const MIN_PARALLEL_LEN: usize = 1 << 13;

/// Runs `work(index, chunk)` for each chunk of `len` floats of `dst`, on several threads if `dst` has at least
/// [`MIN_PARALLEL_LEN`] floats.
pub(crate) fn for_chunks(dst: &mut [f32], len: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if len == 0 {
        return;
    }
    if dst.len() < MIN_PARALLEL_LEN {
        dst.chunks_mut(len).enumerate().for_each(|(i, part)| work(i, part));
    } else {
        parallel_chunks(dst, len, work);
    }
}

/// Runs `work(plane index, y, row)` for every row of a blocked tensor, on several threads if the tensor has at least
/// [`MIN_PARALLEL_LEN`] floats.
pub(crate) fn for_rows(dst: &mut [f32], shape: &Blocked, work: impl Fn(usize, usize, &mut [f32]) + Sync) {
    if shape.len() >= MIN_PARALLEL_LEN {
        return parallel_rows(dst, shape, work);
    }
    for plane in 0..shape.n * shape.blocks() {
        for y in 0..shape.h {
            let start = plane * shape.block_stride() + shape.offset(0, 0, y as isize, 0);
            work(plane, y, &mut dst[start..start + shape.w * shape.lanes]);
        }
    }
}

/// Runs `work(first row, rows)` for bands of rows of `row` floats each, on several threads if `dst` has at least
/// [`MIN_PARALLEL_LEN`] floats.
pub(crate) fn for_bands(dst: &mut [f32], row: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = dst.len() / row.max(1);
    let band = rows.div_ceil(2 * threads()).max(1);
    for_chunks(dst, band * row, |index, part| work(index * band, part));
}
