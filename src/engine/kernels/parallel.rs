//! Splitting a layer over the threads of rayon's current pool.

use std::cell::RefCell;

use rayon::prelude::*;

use super::Aligned;

/// A pointer that tasks may share because each writes its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub *mut f32);

// SAFETY: users partition what they write; see the call sites.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer `offset` floats on. A method, so that closures capture the wrapper and not the bare pointer.
    #[inline(always)]
    pub fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// Threads this call may use.
pub(super) fn threads() -> usize {
    // Outside a pool, a loop: the global pool is not ours to wake.
    rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads())
}

/// Calls `task` for 0 to `count`, on all threads of the pool unless there is one only, or one task.
pub(super) fn each(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count < 2 || threads() < 2 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

thread_local! {
    static SCRATCH: RefCell<Aligned> = RefCell::default();
}

/// Lends `len` floats of this thread's scratch memory, which is kept for the next call. Contents are arbitrary.
pub(super) fn with_scratch<R>(len: usize, use_it: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out, not borrowed: a task that waits for others may be given another layer's task meanwhile.
    let mut scratch = SCRATCH.take();
    scratch.grow(len);
    let result = use_it(&mut scratch[..len]);
    SCRATCH.replace(scratch);
    result
}
