//! Layers with weights: what is folded into them is applied here, where the weights are packed.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use super::compile::Built;
use super::ir::{ConvOp, DeconvOp, DenseOp, Kernel as Weighted, Source};
use super::kernels::{Blocked, Conv, Dense, Halo, Isa};
use super::program::Kernel;
use super::weights::Weights;

/// Where weights come from and where their packed forms are kept.
pub(super) struct Sources<'a> {
    pub weights: &'a Weights,
}

/// Weights smaller than this are packed as zero: products with them would be denormal, or lost in rounding.
const SMALLEST: f32 = 1e-30;

pub(super) fn reads_planes(_conv: &ConvOp) -> bool {
    false
}

pub(super) fn halo(_isa: Isa, conv: &ConvOp, _from: &[usize]) -> Halo {
    Halo { top: conv.pad[0], left: conv.pad[1], bottom: conv.pad[2], right: conv.pad[3] }
}

fn read(source: &Source, sources: &Sources) -> TractResult<Vec<f32>> {
    let mut values = match source {
        Source::Stored(index) => sources.weights.read(*index).map_err(TractError::msg)?,
        Source::Inline(values) => values.to_vec(),
    };
    values.iter_mut().filter(|v| v.abs() < SMALLEST).for_each(|v| *v = 0.0);
    Ok(values)
}

/// Weights of a convolution with the scales of its outputs folded in.
fn kernel_weights(kernel: &Weighted, sources: &Sources) -> TractResult<Vec<f32>> {
    let mut all = vec![];
    for part in &kernel.parts {
        let mut values = read(&part.source, sources)?;
        if let Some(scale) = &part.out_scale {
            let per_channel = values.len() / part.out_channels;
            for (row, s) in values.chunks_exact_mut(per_channel).zip(scale) {
                row.iter_mut().for_each(|v| *v *= s);
            }
        }
        if kernel.parts.len() == 1 {
            return Ok(values);
        }
        all.extend(values);
    }
    Ok(all)
}

/// Weights `[out][in][taps]` with input channel `order[i]` at place `i`.
fn reorder_inputs(weights: &[f32], order: &[usize], taps: usize) -> Vec<f32> {
    let rows = weights.chunks_exact(order.len() * taps);
    rows.flat_map(|row| order.iter().flat_map(|&i| row[i * taps..(i + 1) * taps].iter().copied())).collect()
}

pub(super) fn conv(
    _isa: Isa,
    op: &ConvOp,
    source: Option<Blocked>,
    residual: Option<Blocked>,
    target: Blocked,
    _name: &str,
    sources: &Sources,
) -> TractResult<Built> {
    let mut w = kernel_weights(&op.kernel, sources)?;
    if let Some(order) = &op.input_order {
        w = reorder_inputs(&w, order, op.kernel_size.iter().product());
    }
    let taps = op.kernel_size.iter().product::<usize>() * op.in_channels / op.groups;
    let flops = 2 * (target.n * target.c * target.h * target.w * taps) as u64;
    let conv = Conv { w, bias: op.bias.clone(), op: op.clone(), src: source, dst: target, res: residual };
    Ok(Built { kernel: Kernel::Conv(Arc::new(conv)), scratch: 0, algorithm: "naive".into(), flops })
}

pub(super) fn deconv(_isa: Isa, _op: &DeconvOp, _s: Blocked, _t: Blocked, _sources: &Sources) -> TractResult<Built> {
    bail!("not yet")
}

pub(super) fn dense(_isa: Isa, op: &DenseOp, rows: usize, _name: &str, sources: &Sources) -> TractResult<Built> {
    let mut w = read(&op.source, sources)?;
    if op.transposed {
        let t: Vec<f32> = (0..op.outputs).flat_map(|o| (0..op.inputs).map(move |i| (o, i))).map(|(o, i)| w[i * op.outputs + o]).collect();
        w = t;
    }
    for (row, s) in w.chunks_exact_mut(op.inputs).zip(&op.affine.scale) {
        row.iter_mut().for_each(|v| *v *= s);
    }
    let dense = Dense { w, b: op.affine.shift.clone(), k: op.inputs, m: op.outputs };
    let flops = 2 * (rows * op.inputs * op.outputs) as u64;
    Ok(Built { kernel: Kernel::Dense(Arc::new(dense)), scratch: 0, algorithm: "naive".into(), flops })
}
