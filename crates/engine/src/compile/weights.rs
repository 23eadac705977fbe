//! Weights of layers in row-major order, with the affine maps that passes folded into the layer.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use crate::graph::{Activation, Affine, ConvOp, ConvWeights, WeightSource};
use crate::import::stored_weights::Weights;
use crate::kernels::conv::Conv;
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::epilogue::Epilogue;
use crate::layout::blocked::Halo;
use crate::layout::pack::PackCache;

/// The weights of a network and the cache of their packed forms.
pub(crate) struct WeightSources<'a> {
    pub weights: &'a Weights,
    pub cache: &'a PackCache,
}

/// Minimum absolute value of a weight. Smaller weights are packed as zero: their products would be denormal, or lost in
/// rounding.
const MIN_WEIGHT: f32 = 1e-30;

/// Maximum ratio of shift to scale for folding into a padded convolution, which divides them: a larger ratio would lose
/// precision.
const MAX_SHIFT_RATIO: f32 = 1e4;

/// Geometry of a convolution.
pub(crate) fn spec(op: &ConvOp) -> ConvSpec {
    let [top, left, bottom, right] = op.pad;
    ConvSpec {
        in_channels: op.in_channels,
        out_channels: op.out_channels,
        groups: op.groups,
        kernel: op.kernel_size,
        stride: op.stride,
        dilation: op.dilation,
        pad: Halo { top, left, bottom, right },
    }
}

/// Whether the convolution can read its input as row-major planes.
pub(crate) fn reads_planes(op: &ConvOp) -> bool {
    op.groups == 1 && op.dilation == [1, 1] && !op.residual && op.in_channels <= 4 && is_foldable(op)
}

/// Whether the affine map before the convolution can become part of its weights.
pub(crate) fn is_foldable(op: &ConvOp) -> bool {
    let small = |a: &Affine| a.scale.iter().zip(&a.shift).all(|(s, t)| t.abs() <= MAX_SHIFT_RATIO * s.abs());
    op.pad == [0; 4] || op.input_affine.as_ref().is_none_or(small)
}

/// The border that a convolution reads around its input, and the values of the border for each channel if they are not
/// zero.
pub(crate) fn border(op: &ConvOp, from: &[usize], to: &[usize]) -> (Halo, Option<Vec<f32>>) {
    let fill = input_shift(op).map(|shift| shift.iter().map(|t| -t).collect());
    (Conv::source_halo(&spec(op), from[0], [from[2], from[3]], [to[2], to[3]]), fill)
}

/// Shift of the input after its scale was folded into the weights; `None` if the bias includes the shift.
fn input_shift(op: &ConvOp) -> Option<Vec<f32>> {
    let affine = op.input_affine.as_ref().filter(|a| a.has_shift() && op.pad != [0; 4])?;
    Some(affine.scale.iter().zip(&affine.shift).map(|(s, t)| if *t == 0.0 { 0.0 } else { t / s }).collect())
}

/// Reads weights in row-major order; values below [`MIN_WEIGHT`] become zero.
pub(crate) fn read(source: &WeightSource, sources: &WeightSources) -> TractResult<Vec<f32>> {
    let mut values = match source {
        WeightSource::Stored(index) => sources.weights.read(*index)?,
        WeightSource::Inline(values) => values.to_vec(),
    };
    // An unconditional store, so that the loop vectorizes.
    values.iter_mut().for_each(|v| *v = if v.abs() < MIN_WEIGHT { 0.0 } else { *v });
    Ok(values)
}

/// Weights of a convolution, multiplied by the scales of its outputs.
fn kernel_weights(kernel: &ConvWeights, sources: &WeightSources) -> TractResult<Vec<f32>> {
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

/// Folds the affine map before a convolution into weights `[out][in / groups][taps]` and bias.
fn fold_input(op: &ConvOp, affine: &Affine, weights: &mut [f32], bias: &mut [f32]) {
    let taps = op.kernel_size[0] * op.kernel_size[1];
    let (inputs, outputs) = (op.in_channels / op.groups, op.out_channels / op.groups);
    let unpadded = op.pad == [0; 4];
    for (o, (row, bias)) in weights.chunks_exact_mut(inputs * taps).zip(bias).enumerate() {
        let first = o / outputs * inputs;
        for (i, taps) in row.chunks_exact_mut(taps).enumerate() {
            let (scale, shift) = (affine.scale[first + i], affine.shift[first + i]);
            if unpadded {
                *bias = (f64::from(*bias) + taps.iter().map(|&w| f64::from(w)).sum::<f64>() * f64::from(shift)) as f32;
            }
            taps.iter_mut().for_each(|w| *w *= scale);
        }
    }
}

/// The activation; an error if kernels cannot apply it.
pub(crate) fn supported(activation: Option<&Activation>) -> TractResult<Option<&Activation>> {
    if !Epilogue::supports(activation) {
        bail!("the kernels do not support this activation");
    }
    Ok(activation)
}

/// Weights and bias of a convolution that include its affine maps.
pub(crate) struct FoldedConv {
    weights: Vec<f32>,
    bias: Vec<f32>,
    input_shift: Option<Vec<f32>>,
    activation: Option<Activation>,
}

impl FoldedConv {
    /// Reads the weights of `op` and folds its affine maps into them.
    pub fn new(op: &ConvOp, sources: &WeightSources) -> TractResult<FoldedConv> {
        let mut weights = kernel_weights(&op.kernel, sources)?;
        let expected = op.out_channels * op.in_channels / op.groups * op.kernel_size[0] * op.kernel_size[1];
        if weights.len() != expected || op.bias.len() != op.out_channels {
            bail!("{} weights, expected {expected}", weights.len());
        }
        if let Some(order) = &op.input_order {
            weights = reorder_inputs(&weights, order, op.kernel_size.iter().product());
        }
        let mut bias = op.bias.clone();
        if let Some(affine) = &op.input_affine {
            fold_input(op, affine, &mut weights, &mut bias);
        }
        Ok(FoldedConv { weights, bias, input_shift: input_shift(op), activation: supported(op.act.as_ref())?.cloned() })
    }

    pub fn params<'a>(&'a self, layer: &'a str) -> ConvParams<'a> {
        ConvParams {
            layer,
            weights: &self.weights,
            bias: &self.bias,
            input_shift: self.input_shift.as_deref(),
            activation: self.activation.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn weights_below_the_minimum_become_zero() {
        let (_, parts) = Weights::split(crate::import::stored_weights::ModelBytes::Static(&[]));
        let (weights, _) = parts.unwrap();
        let sources = WeightSources { weights: &weights, cache: &PackCache::default() };
        let source = WeightSource::Inline(Arc::new(vec![1.0, 1e-38, -1e-40, 1e-29, -0.5]));
        assert_eq!(read(&source, &sources).unwrap(), [1.0, 0.0, 0.0, 1e-29, -0.5]);
    }
}
