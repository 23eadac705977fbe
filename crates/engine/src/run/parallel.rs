//! Loops of a layer on all members of the team, and the memory of their tasks.

use std::cell::RefCell;

use crate::layout::aligned::Aligned;
use crate::layout::blocked::Blocked;
use crate::run::team;

/// A pointer that tasks share; each task writes a different part of the memory.
pub(crate) struct SharedPtr<T = f32>(pub *mut T);

impl<T> Clone for SharedPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedPtr<T> {}

// SAFETY: users partition what they write; see the call sites.
unsafe impl<T: Send> Send for SharedPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedPtr<T> {}

impl<T> SharedPtr<T> {
    /// The pointer advanced by `offset` elements. A method, so that closures capture the wrapper and not the raw
    /// pointer.
    #[inline(always)]
    pub fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

pub(crate) use team::{parallel_for, threads};

/// Calls `task(index, chunk)` for each chunk of `len` elements of `whole`, on all members of the team.
pub(crate) fn parallel_chunks<T: Send>(whole: &mut [T], len: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    let (total, start) = (whole.len(), SharedPtr(whole.as_mut_ptr()));
    parallel_for(total.div_ceil(len), |index| {
        let first = index * len;
        // SAFETY: chunks are inside `whole` and do not overlap.
        task(index, unsafe { std::slice::from_raw_parts_mut(start.at(first), len.min(total - first)) });
    });
}

/// Calls `task(plane, y, row)` for each row of each plane of a blocked tensor, without the halo, on all members of the
/// team. The index of a plane is `image * blocks + block`.
pub(crate) fn parallel_rows(whole: &mut [f32], shape: &Blocked, task: impl Fn(usize, usize, &mut [f32]) + Sync) {
    assert!(whole.len() >= shape.len());
    let start = SharedPtr(whole.as_mut_ptr());
    parallel_for(shape.n * shape.blocks() * shape.h, |index| {
        // Numbered along the picture, with all channels of a row together: see `team`.
        let (image_row, block) = (index / shape.blocks(), index % shape.blocks());
        let (plane, y) = (image_row / shape.h * shape.blocks() + block, image_row % shape.h);
        let first = plane * shape.block_stride() + shape.offset(0, 0, y as isize, 0);
        // SAFETY: rows are inside `whole`, whose length was checked, and do not overlap.
        task(plane, y, unsafe { std::slice::from_raw_parts_mut(start.at(first), shape.w * shape.lanes) });
    });
}

thread_local! {
    /// Buffers of this thread that no call uses at the moment.
    static SCRATCH: RefCell<Vec<Aligned>> = RefCell::default();
}

/// Calls `use_it` with `len` floats of scratch memory, which this thread keeps for later calls. Contents are arbitrary.
pub(crate) fn with_scratch<R>(len: usize, use_it: impl FnOnce(&mut [f32]) -> R) -> R {
    // Removed, not borrowed: `use_it` may run tasks that need scratch memory, too.
    let mut scratch = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    scratch.grow(len);
    let result = use_it(&mut scratch[..len]);
    SCRATCH.with_borrow_mut(|free| free.push(scratch));
    result
}
