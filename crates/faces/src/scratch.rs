//! Reusable buffers. The input of a network has megabytes, which the operating system would map and zero for every
//! picture.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use crate::sync::lock;

/// Maximum size of a kept buffer in bytes. Larger buffers, which large batches need, are freed after use.
const MAX_KEPT_BYTES: usize = 32 << 20;

/// A pool of buffers. It grows to the maximum number of buffers in use at the same time.
pub(crate) struct Scratch<T> {
    idle: Mutex<Vec<Vec<T>>>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Scratch { idle: Mutex::default() }
    }
}

impl<T: Copy + Default> Scratch<T> {
    /// A buffer of `len` values with arbitrary content.
    pub fn take(&self, len: usize) -> ScratchBuffer<'_, T> {
        let mut values = lock(&self.idle).pop().unwrap_or_default();
        if values.len() < len {
            values.resize(len, T::default());
        }
        ScratchBuffer { scratch: self, values, len }
    }
}

/// A buffer that returns to the pool on drop.
pub(crate) struct ScratchBuffer<'a, T: Copy + Default> {
    scratch: &'a Scratch<T>,
    values: Vec<T>,
    len: usize,
}

impl<T: Copy + Default> Deref for ScratchBuffer<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T: Copy + Default> DerefMut for ScratchBuffer<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T: Copy + Default> Drop for ScratchBuffer<'_, T> {
    fn drop(&mut self) {
        if self.values.len() * size_of::<T>() <= MAX_KEPT_BYTES {
            lock(&self.scratch.idle).push(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_are_reused_and_large_buffers_freed() {
        let scratch = Scratch::<f32>::default();
        let address = {
            let (mut a, b) = (scratch.take(100), scratch.take(10));
            a.fill(1.0);
            assert_eq!((a.len(), b.len()), (100, 10));
            a.as_ptr()
        };
        // `a` was dropped last.
        assert_eq!(scratch.take(50).as_ptr(), address);
        assert_eq!(lock(&scratch.idle).len(), 2);
        drop(scratch.take(MAX_KEPT_BYTES));
        assert_eq!(lock(&scratch.idle).len(), 1);
    }
}
