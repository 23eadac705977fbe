//! Group normalization (Wu and He, 2018) on blocked tensors.

use crate::graph::GroupNormOp;
use crate::layout::blocked::Blocked;
use crate::ops::blocked;
use crate::ops::blocked::BlockedView;
use crate::ops::elementwise;
use crate::ops::elementwise::{BlockActivation, LaneMap, lane_values};
use crate::ops::{ChannelValues, Operands};
use crate::run::parallel::parallel_chunks;
use crate::simd::Isa;

/// Normalizes each group of channels of each image to mean 0 and variance 1 over all pixels, then applies the affine
/// map and the activation.
pub(crate) fn group_norm(isa: Isa, op: &GroupNormOp, src: BlockedView, dst: &mut [f32], shape: &Blocked) {
    let lanes = shape.lanes;
    let per_group = shape.c / op.groups;
    let count = (per_group * shape.h * shape.w) as f64;
    let mut maps: Operands<LaneMap> = Operands::new();
    for image in 0..shape.n {
        // For each block, the sums of its lanes, then the sums of their squares.
        let mut moments: ChannelValues<f64> = ChannelValues::from_elem(0.0, shape.blocks() * 2 * lanes);
        parallel_chunks(&mut moments, 2 * lanes, |block, moments| {
            let (sums, squares) = moments.split_at_mut(lanes);
            for y in 0..shape.h {
                elementwise::moments(isa, src.row(image * shape.blocks() + block, y), sums, squares);
            }
        });
        let moment = |channel: usize, which: usize| moments[(channel / lanes * 2 + which) * lanes + channel % lanes];
        let (mut scale, mut shift): (ChannelValues<f32>, ChannelValues<f32>) =
            [1.0, 0.0].map(|fill| ChannelValues::from_elem(fill, shape.c)).into();
        for group in 0..op.groups {
            let channels = group * per_group..(group + 1) * per_group;
            let mean = channels.clone().map(|c| moment(c, 0)).sum::<f64>() / count;
            let variance = (channels.clone().map(|c| moment(c, 1)).sum::<f64>() / count - mean * mean).max(0.0);
            let factor = 1.0 / (variance + f64::from(op.epsilon)).sqrt();
            for c in channels {
                let s = f64::from(op.affine.scale[c]) * factor;
                scale[c] = s as f32;
                shift[c] = (f64::from(op.affine.shift[c]) - mean * s) as f32;
            }
        }
        for block in 0..shape.blocks() {
            maps.push(LaneMap {
                scale: lane_values(&scale, block, lanes, 1.0),
                shift: lane_values(&shift, block, lanes, 0.0),
                act: BlockActivation::new(op.act.as_ref(), block, lanes),
            });
        }
    }
    blocked::affine(isa, src, dst, shape, &maps);
}
