//! Geometry and weights of a convolution.

use std::ops::Range;

use crate::kernels::activation::Activation;
use crate::layout::blocked::Halo;

/// Geometry of a convolution, rows before columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Zeros around the input.
    pub pad: Halo,
}

impl ConvSpec {
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Multiplications and additions of a direct convolution with an output of `n` x `h` x `w` pixels.
    pub fn flops(&self, n: usize, h: usize, w: usize) -> u64 {
        let taps = self.kernel[0] * self.kernel[1] * self.in_channels / self.groups;
        2 * (n * h * w * self.out_channels * taps) as u64
    }

    /// Rows of the input from which `rows` of the output are computed; rows outside the map are padding.
    pub(crate) fn rows_read(&self, rows: &Range<usize>) -> Range<isize> {
        let above = self.pad.top as isize;
        let last = (rows.end.max(1) - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0];
        (rows.start * self.stride[0]) as isize - above..last as isize + 1 - above
    }

    /// Number of input columns, including padding, from which `columns` of the output are computed.
    pub(crate) fn columns_read(&self, columns: usize) -> usize {
        (columns.max(1) - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1
    }

    /// Number of rows (axis 0) or columns (axis 1) that `out` pixels of the output read beyond the end of an input of
    /// `input` pixels.
    pub(crate) fn overhang(&self, axis: usize, out: usize, input: usize) -> usize {
        let before = if axis == 0 { self.pad.top } else { self.pad.left };
        let last = (out.max(1) - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        last.saturating_sub(before + input)
    }
}

/// Weights, bias and activation of a convolution.
pub struct ConvParams<'a> {
    /// Key of the layer in the cache of packed weights.
    pub layer: &'a str,
    /// `[out][in / groups][kernel h][kernel w]`.
    pub weights: &'a [f32],
    /// One value for each output channel.
    pub bias: &'a [f32],
    /// Added to each input channel, before the padding with zeros. Comes from a batch norm before a padded convolution;
    /// the weights include its scale.
    pub input_shift: Option<&'a [f32]>,
    pub activation: Option<&'a Activation>,
}
