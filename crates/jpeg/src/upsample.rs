//! Enlarging of subsampled components by the rules of libjpeg's `jdsample`.
//!
//! Factors of 2 use a triangle filter ("fancy upsampling"): the nearer sample counts 3/4, the farther 1/4, with a
//! rounding that alternates. Other factors repeat samples. A sample outside the picture has the value of the nearest
//! one inside.

use std::ops::Range;

/// Method by which a component is enlarged to the size of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upsampling {
    /// The component has the size of the picture.
    None,
    /// Twice as wide, filtered.
    Horizontal,
    /// Twice as high, filtered.
    Vertical,
    /// Twice as wide and high, filtered.
    Both,
    /// Samples are repeated.
    Repeat {
        /// Columns for each sample.
        across: usize,
        /// Rows for each sample.
        down: usize,
    },
}

impl Upsampling {
    /// The method for factors `across` and `down` and a component that is `width` samples wide.
    pub(crate) fn choose(across: usize, down: usize, width: usize) -> Upsampling {
        match (across, down) {
            (1, 1) => Upsampling::None,
            (1, 2) => Upsampling::Vertical,
            (2, 1) if width > 2 => Upsampling::Horizontal,
            (2, 2) if width > 2 => Upsampling::Both,
            _ => Upsampling::Repeat { across, down },
        }
    }

    /// Whether the rows above and below a row have a part in it.
    pub(crate) fn needs_neighbors(self) -> bool {
        matches!(self, Upsampling::Vertical | Upsampling::Both)
    }

    /// For row `y` of the picture the row of samples that it is nearest to, and the neighbor that has a part in it
    /// (-1 above,
    /// 1 below, 0 without).
    pub(crate) fn rows(self, y: usize) -> (usize, isize) {
        match self {
            Upsampling::None | Upsampling::Horizontal => (y, 0),
            Upsampling::Vertical | Upsampling::Both => (y / 2, if y.is_multiple_of(2) { -1 } else { 1 }),
            Upsampling::Repeat { down, .. } => (y / down, 0),
        }
    }

    /// Columns of samples that columns `x` of the picture are made of, without neighbors.
    pub(crate) fn columns(self, x: &Range<usize>) -> Range<usize> {
        let across = match self {
            Upsampling::None | Upsampling::Vertical => 1,
            Upsampling::Horizontal | Upsampling::Both => 2,
            Upsampling::Repeat { across, .. } => across,
        };
        x.start / across..x.end.div_ceil(across)
    }
}

/// Three quarters of `near` and one of `far`; `bias` is 1 for the upper and 2 for the lower of two rows.
#[inline(always)]
pub(crate) fn vertical(near: &[u8], far: &[u8], bias: u16, out: &mut [u8]) {
    for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
        *out = ((u16::from(near) * 3 + u16::from(far) + bias) >> 2) as u8;
    }
}

/// `out[2i]` and `out[2i + 1]` from samples i, i - 1 and i + 1. `samples` has one more at both ends.
#[inline(always)]
pub(crate) fn horizontal(samples: &[u8], out: &mut [u8]) {
    let count = samples.len() - 2;
    let (left, middle, right) = (&samples[..count], &samples[1..][..count], &samples[2..][..count]);
    for (((out, &l), &m), &r) in out.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(middle).zip(right) {
        let near = u16::from(m) * 3;
        // Both samples in one number: the compiler makes one store of it.
        *out = ((near + u16::from(l) + 1) >> 2 | (near + u16::from(r) + 2) >> 2 << 8).to_le_bytes();
    }
}

/// Sums of three times `near` and `far`, for [`horizontal_of_sums`].
#[inline(always)]
pub(crate) fn vertical_sums(near: &[u8], far: &[u8], sums: &mut [u16]) {
    for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
        *sum = u16::from(near) * 3 + u16::from(far);
    }
}

/// As [`horizontal`], from vertical sums, with one rounding for both directions.
#[inline(always)]
pub(crate) fn horizontal_of_sums(sums: &[u16], out: &mut [u8]) {
    let count = sums.len() - 2;
    let (left, middle, right) = (&sums[..count], &sums[1..][..count], &sums[2..][..count]);
    for (((out, &l), &m), &r) in out.as_chunks_mut::<2>().0.iter_mut().zip(left).zip(middle).zip(right) {
        let near = m * 3;
        *out = ((near + l + 8) >> 4 | (near + r + 7) >> 4 << 8).to_le_bytes();
    }
}

/// Every sample `across` times.
pub(crate) fn repeat(samples: &[u8], across: usize, out: &mut [u8]) {
    for (out, &sample) in out.chunks_mut(across).zip(samples) {
        out.fill(sample);
    }
}
