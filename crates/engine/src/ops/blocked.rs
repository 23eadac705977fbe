//! Pools, resizing and element-wise operations on blocked tensors.

use crate::graph::{Activation, Affine, BinaryKind, PoolKind, PoolOp, UnaryKind};
use crate::layout::blocked::Blocked;
use crate::ops::elementwise;
use crate::ops::elementwise::{BlockActivation, LaneMap, lane_values};
use crate::ops::{ChannelValues, for_rows};
use crate::simd::Isa;

/// A blocked tensor to read.
#[derive(Clone, Copy)]
pub(crate) struct BlockedView<'a> {
    pub data: &'a [f32],
    pub shape: Blocked,
}

impl<'a> BlockedView<'a> {
    /// Row `y` of plane `index` (image * blocks + block), without the halo.
    pub fn row(self, index: usize, y: usize) -> &'a [f32] {
        let start = row_start(&self.shape, y) + index * self.shape.block_stride();
        &self.data[start..start + self.shape.w * self.shape.lanes]
    }
}

/// Start of row `y` in a plane.
fn row_start(shape: &Blocked, y: usize) -> usize {
    (shape.halo.top + y) * shape.row_stride() + shape.halo.left * shape.lanes
}

/// Fills the halo of a blocked tensor with zeros, or with the values of `fill`: one for each channel, padded to whole
/// blocks.
pub(crate) fn fill_halo(dst: &mut [f32], shape: &Blocked, fill: Option<&[f32]>) {
    let halo = shape.halo;
    if halo.top + halo.left + halo.bottom + halo.right == 0 || shape.is_empty() {
        return;
    }
    let lanes = shape.lanes;
    for (index, plane) in dst.chunks_exact_mut(shape.block_stride()).enumerate() {
        let block = index % shape.blocks();
        let pixels = fill.map(|f| &f[block * lanes..(block + 1) * lanes]);
        let set = |part: &mut [f32]| match pixels {
            None => part.fill(0.0),
            Some(pixel) => part.chunks_exact_mut(lanes).for_each(|p| p.copy_from_slice(pixel)),
        };
        let mut at = 0;
        for y in 0..shape.h {
            let start = row_start(shape, y);
            set(&mut plane[at..start]);
            at = start + shape.w * lanes;
        }
        set(&mut plane[at..]);
    }
}

/// Coefficients of each channel block for [`affine`].
pub(crate) fn lane_maps(affine: &Affine, act: Option<&Activation>, lanes: usize) -> Vec<LaneMap> {
    (0..affine.scale.len().div_ceil(lanes))
        .map(|block| LaneMap {
            scale: lane_values(&affine.scale, block, lanes, 1.0),
            shift: lane_values(&affine.shift, block, lanes, 0.0),
            act: BlockActivation::new(act, block, lanes),
        })
        .collect()
}

/// `dst = act(src * scale + shift)`, with one map for each channel block.
pub(crate) fn affine(isa: Isa, src: BlockedView, dst: &mut [f32], shape: &Blocked, maps: &[LaneMap]) {
    for_rows(dst, shape, |index, y, row| elementwise::affine(isa, src.row(index, y), row, &maps[index % maps.len()]));
}

/// `dst = act(a op b)`. The size of `b` is the size of `a`, or one pixel for a product.
pub(crate) fn binary(
    isa: Isa,
    kind: BinaryKind,
    [a, b]: [BlockedView; 2],
    dst: &mut [f32],
    shape: &Blocked,
    acts: &[BlockActivation],
) {
    let by_block = (b.shape.h, b.shape.w) != (shape.h, shape.w);
    for_rows(dst, shape, |index, y, row| {
        let act = &acts[index % acts.len()];
        match by_block {
            true => elementwise::scale_by_block(isa, a.row(index, y), b.row(index, 0), row, act),
            false => elementwise::binary(isa, kind, a.row(index, y), b.row(index, y), row, act),
        }
    });
}

/// Repeats each pixel `factor[0]` times vertically and `factor[1]` times horizontally.
pub(crate) fn upsample(isa: Isa, src: BlockedView, dst: &mut [f32], shape: &Blocked, factor: [usize; 2]) {
    for_rows(dst, shape, |index, y, row| {
        elementwise::repeat_pixels(isa, src.row(index, y / factor[0]), row, factor[1])
    });
}

/// Sum of each plane.
pub(crate) fn global_sum(isa: Isa, src: BlockedView, dst: &mut [f32], shape: &Blocked) {
    for_rows(dst, shape, |index, _, sums| {
        let mut exact: ChannelValues<f64> = ChannelValues::from_elem(0.0, sums.len());
        for y in 0..src.shape.h {
            elementwise::add_up(isa, src.row(index, y), &mut exact);
        }
        sums.iter_mut().zip(&exact).for_each(|(d, s)| *d = *s as f32);
    });
}

/// Range of the inputs of output `out` along one axis, without padding.
fn window(out: usize, stride: usize, pad: usize, kernel: usize, size: usize) -> std::ops::Range<usize> {
    let start = (out * stride) as isize - pad as isize;
    let end = (start + kernel as isize).clamp(0, size as isize) as usize;
    (start.max(0) as usize).min(end)..end
}

/// Maximum, sum or average over windows.
pub(crate) fn pool(isa: Isa, op: &PoolOp, src: BlockedView, dst: &mut [f32], shape: &Blocked) {
    let max = op.kind == PoolKind::Max;
    let lanes = shape.lanes;
    for_rows(dst, shape, |index, y, row| {
        row.fill(if max { f32::NEG_INFINITY } else { 0.0 });
        let ys = window(y, op.stride[0], op.pad[0], op.kernel_size[0], src.shape.h);
        for x in 0..op.kernel_size[1] {
            // Outputs whose windows have column `x` inside the map.
            let first = op.pad[1].saturating_sub(x).div_ceil(op.stride[1]);
            let inside = |out: usize| out * op.stride[1] + x < src.shape.w + op.pad[1];
            let Some(last) = (first..shape.w).rev().find(|&out| inside(out)) else { continue };
            let from = first * op.stride[1] + x - op.pad[1];
            for source_y in ys.clone() {
                let source = &src.row(index, source_y)[from * lanes..];
                elementwise::gather_pixels(isa, source, &mut row[first * lanes..(last + 1) * lanes], op.stride[1], max);
            }
        }
        if let PoolKind::Average { counts_padding } = op.kind {
            for (x, pixel) in row.chunks_exact_mut(lanes).enumerate() {
                let xs = window(x, op.stride[1], op.pad[1], op.kernel_size[1], src.shape.w);
                let count = match counts_padding {
                    true => op.kernel_size[0] * op.kernel_size[1],
                    false => ys.len() * xs.len(),
                };
                let factor = 1.0 / count.max(1) as f32;
                pixel.iter_mut().for_each(|v| *v *= factor);
            }
        }
    });
}

/// `dst = f(src)`.
pub(crate) fn unary(isa: Isa, kind: UnaryKind, src: BlockedView, dst: &mut [f32], shape: &Blocked) {
    for_rows(dst, shape, |index, y, row| elementwise::unary(isa, kind, src.row(index, y), row));
}
