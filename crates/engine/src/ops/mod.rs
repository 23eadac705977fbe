//! Everything a network does beside convolutions and matrix products, on blocked and on row-major tensors.

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
use crate::run::parallel::{each_part, each_row};
use crate::run::team::threads;

// What a run needs beside its arena is small, and stays off the heap.
/// A value for each lane of a channel block.
pub(crate) type Lanes = SmallVec<[f32; 16]>;
/// A value for each axis of a tensor.
pub(crate) type Axes = SmallVec<[usize; 8]>;
/// The operands of a step.
pub(crate) type Operands<T> = SmallVec<[T; 16]>;
/// A value for each channel of a layer.
type Channels<T> = SmallVec<[T; 256]>;

/// Below this many floats a loop is not worth spreading over threads.
const WORTH_SPREADING: usize = 1 << 13;

/// Runs `work(index, part)` for each `len` floats of `dst`, on several threads if there is enough to do.
pub(crate) fn for_parts(dst: &mut [f32], len: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if len == 0 {
        return;
    }
    if dst.len() < WORTH_SPREADING {
        dst.chunks_mut(len).enumerate().for_each(|(i, part)| work(i, part));
    } else {
        each_part(dst, len, work);
    }
}

/// Runs `work(plane index, y, row)` for every row of a blocked tensor, on several threads if there is enough to do.
pub(crate) fn for_rows(dst: &mut [f32], shape: &Blocked, work: impl Fn(usize, usize, &mut [f32]) + Sync) {
    if shape.len() >= WORTH_SPREADING {
        return each_row(dst, shape, work);
    }
    for plane in 0..shape.n * shape.blocks() {
        for y in 0..shape.h {
            let start = plane * shape.block_stride() + shape.offset(0, 0, y as isize, 0);
            work(plane, y, &mut dst[start..start + shape.w * shape.lanes]);
        }
    }
}

/// Runs `work(first row, rows)` on rows of `row` floats, on several threads if there is enough to do.
pub(crate) fn for_bands(dst: &mut [f32], row: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = dst.len() / row.max(1);
    let band = rows.div_ceil(2 * threads()).max(1);
    for_parts(dst, band * row, |index, part| work(index * band, part));
}

/// Compiles a function once for each instruction set; its first argument chooses among them. In the body, the constant named
/// in angle brackets is the number of channels in a block.
macro_rules! vectorized {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident<$lanes:ident>($($arg:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: Isa, $($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn generic<const $lanes: usize>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $type),*) {
                generic::<16>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $type),*) {
                generic::<8>($($arg),*)
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` names only instructions this processor has.
                Isa::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => generic::<4>($($arg),*),
            }
        }
    };
}
pub(crate) use vectorized;
