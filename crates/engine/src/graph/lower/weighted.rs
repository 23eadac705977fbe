//! Layers with weights: convolutions and matrix products.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, KernelFormat};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::nn::DataFormat;

use crate::graph::lower::{LoweredOperand, Lowering, floats};
use crate::graph::{Affine, ConvOp, ConvWeights, ConvWeightsPart, DeconvOp, DenseOp, WeightSource};

impl Lowering<'_> {
    pub(crate) fn conv(&self, op: &Conv, inputs: &[LoweredOperand]) -> TractResult<Option<ConvOp>> {
        let spec = &op.pool_spec;
        let LoweredOperand::Value(input) = inputs[0] else { return Ok(None) };
        let shape = self.graph.shape(input);
        let plain =
            spec.data_format == DataFormat::NCHW && op.kernel_fmt == KernelFormat::OIHW && op.q_params.is_none();
        if !plain
            || shape.len() != 4
            || matches!(inputs[1], LoweredOperand::Value(_))
            || matches!(inputs[2], LoweredOperand::Value(_))
        {
            return Ok(None);
        }
        let padding = spec.computed_padding(&shape[2..]);
        Ok(Some(ConvOp {
            kernel: ConvWeights {
                parts: vec![ConvWeightsPart {
                    source: self.source(&inputs[1])?,
                    out_channels: spec.output_channels,
                    out_scale: None,
                }],
            },
            bias: self.per_channel(&inputs[2], spec.output_channels)?,
            in_channels: spec.input_channels,
            out_channels: spec.output_channels,
            groups: op.group,
            kernel_size: pair(&spec.kernel_shape)?,
            stride: pair(&spec.strides())?,
            dilation: pair(&spec.dilations())?,
            pad: [padding[0].pad_before, padding[1].pad_before, padding[0].pad_after, padding[1].pad_after],
            input_order: None,
            input_affine: None,
            act: None,
            residual: false,
        }))
    }

    pub(crate) fn deconv(&self, op: &Deconv, inputs: &[LoweredOperand]) -> TractResult<Option<DeconvOp>> {
        let spec = &op.pool_spec;
        let LoweredOperand::Value(input) = inputs[0] else { return Ok(None) };
        let shape = self.graph.shape(input).to_vec();
        let constants = inputs[1..].iter().all(|i| !matches!(i, LoweredOperand::Value(_)));
        if spec.data_format != DataFormat::NCHW || !constants || shape.len() != 4 {
            return Ok(None);
        }
        // tract has these weights as [out][in / groups], with the groups along the input.
        let (out, per_group) = (spec.output_channels, spec.input_channels / op.group);
        let kernel = self.tensor(&inputs[1])?;
        let expected = [out, per_group, spec.kernel_shape[0], spec.kernel_shape[1]];
        if op.kernel_format != KernelFormat::OIHW || spec.kernel_shape.len() != 2 {
            return Ok(None);
        }
        let kernel = floats(&kernel)?;
        if kernel.len() != expected.iter().product::<usize>() {
            return Ok(None);
        }
        let padding = spec.padding.compute_for_deconv(
            &shape[2..],
            &spec.kernel_shape,
            &spec.dilations(),
            &spec.strides(),
            &op.adjustments,
        )?;
        let taps = spec.kernel_shape.iter().product::<usize>();
        let mut io = vec![0.0; kernel.len()];
        let out_per_group = out / op.group;
        for o in 0..out {
            let (group, within) = (o / out_per_group, o % out_per_group);
            for i in 0..per_group {
                let from = (o * per_group + i) * taps;
                let to = ((group * per_group + i) * out_per_group + within) * taps;
                io[to..to + taps].copy_from_slice(&kernel[from..from + taps]);
            }
        }
        Ok(Some(DeconvOp {
            source: WeightSource::Inline(Arc::new(io)),
            out_scale: None,
            bias: self.per_channel(&inputs[2], out)?,
            in_channels: spec.input_channels,
            out_channels: out,
            groups: op.group,
            kernel_size: pair(&spec.kernel_shape)?,
            stride: pair(&spec.strides())?,
            dilation: pair(&spec.dilations())?,
            pad: [padding[0].pad_before, padding[1].pad_before, padding[0].pad_after, padding[1].pad_after],
            act: None,
        }))
    }

    /// Location of the weights of a constant operand.
    fn source(&self, operand: &LoweredOperand) -> TractResult<WeightSource> {
        Ok(match operand {
            LoweredOperand::Stored(index) => WeightSource::Stored(*index),
            constant => WeightSource::Inline(Arc::new(floats(&*self.tensor(constant)?)?)),
        })
    }

    /// Elements of a constant operand, one for each channel.
    fn per_channel(&self, operand: &LoweredOperand, channels: usize) -> TractResult<Vec<f32>> {
        let values = floats(&*self.tensor(operand)?)?;
        match values.len() {
            1 => Ok(vec![values[0]; channels]),
            n if n == channels => Ok(values),
            n => bail!("{n} values for {channels} channels"),
        }
    }

    /// A matrix product of a variable matrix and constant weights.
    pub(crate) fn dense(&self, op: &EinSum, inputs: &[LoweredOperand]) -> TractResult<Option<DenseOp>> {
        let [LoweredOperand::Value(x), weights] = inputs else { return Ok(None) };
        let expression = op.axes.to_string();
        let Some((operands, result)) = expression.split_once("->") else { return Ok(None) };
        let Some((a, b)) = operands.split_once(',') else { return Ok(None) };
        let (a, b, c): (Vec<char>, Vec<char>, Vec<char>) =
            (a.chars().collect(), b.chars().collect(), result.chars().collect());
        let (&[m, k], &[b0, b1], &[c0, n]) = (&a[..], &b[..], &c[..]) else { return Ok(None) };
        let transposed = if (b0, b1) == (n, k) {
            false
        } else if (b0, b1) == (k, n) {
            true
        } else {
            return Ok(None);
        };
        if c0 != m || matches!(weights, LoweredOperand::Value(_)) || op.q_params.is_some() {
            return Ok(None);
        }
        let source = self.source(weights)?;
        let inputs = self.graph.shape(*x)[1];
        let values = match &source {
            WeightSource::Stored(index) => self.weights.shape(*index).iter().product(),
            WeightSource::Inline(data) => data.len(),
        };
        let outputs = values / inputs.max(1);
        Ok(Some(DenseOp { source, transposed, inputs, outputs, affine: Affine::identity(outputs), act: None }))
    }
}

/// Values of the two spatial axes.
fn pair(values: &[usize]) -> TractResult<[usize; 2]> {
    values.try_into().ok().context("expected two spatial axes")
}
