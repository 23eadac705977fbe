//! Reusable buffers. Inputs of networks take megabytes, which the OS would otherwise map and zero for every picture.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Maximum size of a buffer that is kept for reuse. Larger ones, of large batches, are freed.
const MAX_KEPT_BYTES: usize = 32 << 20;

/// A pool of buffers. It keeps as many as were in use at once.
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
    pub fn take(&self, len: usize) -> Buffer<'_, T> {
        let mut values = self.lock().pop().unwrap_or_default();
        if values.len() < len {
            values.resize(len, T::default());
        }
        Buffer { scratch: self, values, len }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<T>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that returns to the pool on drop.
pub(crate) struct Buffer<'a, T: Copy + Default> {
    scratch: &'a Scratch<T>,
    values: Vec<T>,
    len: usize,
}

impl<T: Copy + Default> Deref for Buffer<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T: Copy + Default> DerefMut for Buffer<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

impl<T: Copy + Default> Drop for Buffer<'_, T> {
    fn drop(&mut self) {
        if self.values.len() * size_of::<T>() <= MAX_KEPT_BYTES {
            self.scratch.lock().push(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_large_ones_are_not_kept() {
        let scratch = Scratch::<f32>::default();
        let address = {
            let (mut a, b) = (scratch.take(100), scratch.take(10));
            a.fill(1.0);
            assert_eq!((a.len(), b.len()), (100, 10));
            a.as_ptr()
        };
        // `a` was dropped last.
        assert_eq!(scratch.take(50).as_ptr(), address);
        assert_eq!(scratch.lock().len(), 2);
        drop(scratch.take(MAX_KEPT_BYTES));
        assert_eq!(scratch.lock().len(), 1);
    }
}
