//! The channel-blocked tensor layout that all kernels read and write.
//!
//! `[n][ceil(c / lanes)][top + h + bottom][left + w + right][lanes]`, f32. `lanes` is the vector length of the
//! instruction set ([`Isa::lanes`](crate::simd::Isa::lanes)): 16 for AVX-512, 8 for AVX2, 4 for NEON, WebAssembly and
//! scalar code. The halo around each plane lets a convolution read its padding without a branch; the step before the
//! convolution fills it. Lanes at and beyond `c` of the last block hold finite values that must not be relied on:
//! packed weights are zero there.

/// Border around each plane of a blocked tensor, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Halo {
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
}

impl Halo {
    /// The smallest halo that includes both.
    pub fn union(self, other: Halo) -> Halo {
        Halo {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }
}

/// Shape of a channel-blocked tensor; the data is a plain `[f32]` of [`Blocked::len`] elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Blocked {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub halo: Halo,
    /// Channels in a block.
    pub lanes: usize,
}

impl Blocked {
    /// A shape of `n` images of `c` channels, `h` rows and `w` columns.
    pub fn new(n: usize, c: usize, h: usize, w: usize, halo: Halo, lanes: usize) -> Self {
        Blocked { n, c, h, w, halo, lanes }
    }

    /// Number of channel blocks.
    pub fn blocks(&self) -> usize {
        self.c.div_ceil(self.lanes)
    }

    /// Floats between a pixel and the one below it.
    pub fn row_stride(&self) -> usize {
        (self.halo.left + self.w + self.halo.right) * self.lanes
    }

    /// Floats between a channel block and the next.
    pub fn block_stride(&self) -> usize {
        (self.halo.top + self.h + self.halo.bottom) * self.row_stride()
    }

    /// Floats between an image and the next.
    pub fn image_stride(&self) -> usize {
        self.blocks() * self.block_stride()
    }

    /// Floats in the whole tensor, halo included.
    pub fn len(&self) -> usize {
        self.n * self.image_stride()
    }

    /// Whether the tensor holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index of lane 0 of pixel (`y`, `x`) of channel block `block` of image `n`; the halo is at negative coordinates.
    pub fn offset(&self, n: usize, block: usize, y: isize, x: isize) -> usize {
        let row = (self.halo.top as isize + y) as usize;
        let col = (self.halo.left as isize + x) as usize;
        n * self.image_stride() + block * self.block_stride() + row * self.row_stride() + col * self.lanes
    }
}
