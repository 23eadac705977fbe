//! Float buffers that start on a cache line.

use std::ops::{Deref, DerefMut};

/// Floats of a cache line.
const CACHE_LINE: usize = 16;

/// A buffer of floats aligned to 64 bytes, because vector loads across two cache lines take twice the time.
#[derive(Default)]
pub struct Aligned {
    /// Up to a cache line longer than `len`.
    floats: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros. Fresh memory of the system is zero and is not written.
    pub fn zeros(len: usize) -> Aligned {
        let floats = vec![0.0; len + CACHE_LINE - 1];
        let start = floats.as_ptr().align_offset(CACHE_LINE * size_of::<f32>());
        Aligned { floats, start, len }
    }

    /// Extends the buffer to at least `len` floats. The contents are arbitrary afterwards.
    pub fn grow(&mut self, len: usize) {
        if self.start + len > self.floats.len() {
            *self = Aligned::zeros(len);
        }
        self.len = self.len.max(len);
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::Aligned;

    #[test]
    fn aligned_starts_on_a_cache_line() {
        for len in [0, 1, 15, 16, 17, 1000, 1 << 20] {
            let mut floats = Aligned::zeros(len);
            floats.grow(len + 3);
            assert_eq!((floats.len(), floats.as_ptr() as usize % 64), (len + 3, 0));
            assert!(floats.iter().all(|&v| v == 0.0));
        }
    }
}
