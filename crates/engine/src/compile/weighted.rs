//! Kernels of the layers that have weights.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::compile::weights::{FoldedConv, WeightSources, read, spec, supported};
use crate::graph::{ConvOp, DeconvOp, DenseOp};
use crate::kernels::conv::Conv;
use crate::kernels::conv::chain::{Chain, ChainLayer, ChainSource};
use crate::kernels::conv::deconv::Deconv;
use crate::kernels::conv::first::FirstConv;
use crate::kernels::conv::separable::Separable;
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::dense::Dense;
use crate::layout::blocked::{Blocked, Halo};
use crate::run::program::StepOp;
use crate::simd::Isa;

/// The operation of a step with its description for reports.
pub(crate) struct BuiltStep {
    pub op: StepOp,
    pub algorithm: String,
    /// Multiplications and additions of the direct algorithm.
    pub flops: u64,
}

impl BuiltStep {
    /// An operation without a choice of algorithm.
    pub fn plain(op: StepOp) -> BuiltStep {
        BuiltStep { op, algorithm: String::new(), flops: 0 }
    }
}

/// The kernel of a convolution. `source` is the geometry of its blocked input; `None` for row-major planes of the shape
/// `from`, `[n, c, h, w]`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn conv(
    isa: Isa,
    op: &ConvOp,
    source: Option<Blocked>,
    from: &[usize],
    residual: Option<Blocked>,
    target: Blocked,
    name: &str,
    sources: &WeightSources,
) -> TractResult<BuiltStep> {
    let folded = FoldedConv::new(op, sources)?;
    let (spec, params) = (spec(op), folded.params(name));
    Ok(match source {
        Some(source) => {
            let conv = Conv::new(isa, &spec, &params, source, residual, target, sources.cache);
            let (algorithm, flops) = (conv.algorithm().into(), conv.flops());
            BuiltStep { op: StepOp::Conv(Arc::new(conv)), algorithm, flops }
        }
        None => {
            let conv = FirstConv::new(isa, &spec, &params, [from[2], from[3]], target, sources.cache);
            let conv = conv.context("the first convolution has groups or dilation")?;
            let (algorithm, flops) = (conv.algorithm().into(), conv.flops());
            BuiltStep { op: StepOp::FirstConv(Arc::new(conv)), algorithm, flops }
        }
    })
}

/// Whether a depthwise convolution and its only reader can become one kernel.
pub(crate) fn separable_fits(depthwise: &ConvOp, pointwise: &ConvOp) -> bool {
    !depthwise.residual && Separable::fits(&spec(depthwise), &spec(pointwise))
}

/// The kernel of a depthwise convolution and the 1x1 convolution that reads it. `names` are the names of the layers.
#[allow(clippy::too_many_arguments)]
pub(crate) fn separable(
    isa: Isa,
    [depthwise, pointwise]: [&ConvOp; 2],
    source: Blocked,
    residual: Option<Blocked>,
    target: Blocked,
    names: [&str; 2],
    sources: &WeightSources,
) -> TractResult<BuiltStep> {
    let folded = [FoldedConv::new(depthwise, sources)?, FoldedConv::new(pointwise, sources)?];
    let params = [&folded[0].params(names[0]), &folded[1].params(names[1])];
    let specs = [&spec(depthwise), &spec(pointwise)];
    let both = Separable::new(isa, specs, params, source, residual, target, sources.cache);
    let flops = both.flops();
    Ok(BuiltStep { op: StepOp::Separable(Arc::new(both)), algorithm: "depthwise and 1x1".into(), flops })
}

/// One step of a chain.
pub(crate) struct ChainLink<'a> {
    /// Name and operation: a convolution, or a depthwise convolution and the 1x1 convolution that reads it.
    pub ops: Vec<(&'a str, &'a ConvOp)>,
    /// Shape of the result.
    pub shape: &'a [usize],
}

/// The kernel of consecutive convolutions. `source` is the geometry of the blocked input of the first; `None` for
/// row-major planes of the shape `from`, `[n, c, h, w]`.
pub(crate) fn chain(
    isa: Isa,
    links: &[ChainLink],
    source: Option<Blocked>,
    from: &[usize],
    target: Blocked,
    sources: &WeightSources,
) -> TractResult<BuiltStep> {
    let folded = links
        .iter()
        .map(|link| link.ops.iter().map(|(_, op)| Ok((spec(op), FoldedConv::new(op, sources)?))).collect())
        .collect::<TractResult<Vec<Vec<(ConvSpec, FoldedConv)>>>>()?;
    let params: Vec<Vec<ConvParams>> = links
        .iter()
        .zip(&folded)
        .map(|(link, folded)| link.ops.iter().zip(folded).map(|((name, _), (_, n))| n.params(name)).collect())
        .collect();
    let parts: Vec<ChainLayer> = folded
        .iter()
        .zip(&params)
        .enumerate()
        .map(|(i, (folded, params))| {
            let layer = |i: usize| (&folded[i].0, &params[i]);
            match folded.len() {
                1 if i == 0 && source.is_none() => ChainLayer::First(layer(0)),
                1 => ChainLayer::Conv(layer(0)),
                _ => ChainLayer::Separable([layer(0), layer(1)]),
            }
        })
        .collect();
    let results: Vec<[usize; 3]> = links.iter().map(|l| [l.shape[1], l.shape[2], l.shape[3]]).collect();
    let source = source.map_or(ChainSource::Planes([from[2], from[3]]), ChainSource::Blocked);
    let chain =
        Chain::new(isa, &parts, &results, source, target, sources.cache).context("the layers do not form a chain")?;
    let (algorithm, flops) = (chain.algorithm(), chain.flops());
    Ok(BuiltStep { op: StepOp::Chain(Arc::new(chain)), algorithm, flops })
}

/// Geometry of a transposed convolution as one group.
fn deconv_spec(op: &DeconvOp) -> ConvSpec {
    let [top, left, bottom, right] = op.pad;
    ConvSpec {
        in_channels: op.in_channels,
        out_channels: op.out_channels,
        groups: 1,
        kernel: op.kernel_size,
        stride: op.stride,
        dilation: op.dilation,
        pad: Halo { top, left, bottom, right },
    }
}

/// The border that a transposed convolution reads around its input.
pub(crate) fn deconv_halo(op: &DeconvOp, from: &[usize], to: &[usize]) -> Halo {
    Deconv::source_halo(&deconv_spec(op), [from[2], from[3]], [to[2], to[3]])
}

/// The kernel of a transposed convolution.
pub(crate) fn deconv(
    isa: Isa,
    op: &DeconvOp,
    source: Blocked,
    target: Blocked,
    name: &str,
    sources: &WeightSources,
) -> TractResult<BuiltStep> {
    let taps = op.kernel_size[0] * op.kernel_size[1];
    let (inputs, outputs) = (op.in_channels / op.groups, op.out_channels / op.groups);
    let grouped = read(&op.source, sources)?;
    // As one group, with zeros between the groups: these layers are small.
    let mut weights = vec![0.0; op.in_channels * op.out_channels * taps];
    for (i, row) in grouped.chunks_exact(outputs * taps).enumerate() {
        let first = i / inputs * outputs;
        for (o, values) in row.chunks_exact(taps).enumerate() {
            let scale = op.out_scale.as_ref().map_or(1.0, |s| s[first + o]);
            let at = (i * op.out_channels + first + o) * taps;
            weights[at..at + taps].iter_mut().zip(values).for_each(|(w, v)| *w = v * scale);
        }
    }
    let activation = supported(op.act.as_ref())?;
    let params = ConvParams { layer: name, weights: &weights, bias: &op.bias, input_shift: None, activation };
    let deconv = Deconv::new(isa, &deconv_spec(op), &params, source, target, sources.cache);
    let deconv = deconv.context("the transposed convolution has dilation")?;
    let flops = 2 * (source.n * source.h * source.w * op.in_channels * outputs * taps) as u64;
    Ok(BuiltStep { op: StepOp::Deconv(Arc::new(deconv)), algorithm: "by phase".into(), flops })
}

/// The kernel of a fully connected layer for `rows` rows.
pub(crate) fn dense(
    isa: Isa,
    op: &DenseOp,
    rows: usize,
    name: &str,
    sources: &WeightSources,
) -> TractResult<BuiltStep> {
    let weights = read(&op.source, sources)?;
    if weights.len() != op.inputs * op.outputs {
        bail!("{} weights for {} by {}", weights.len(), op.outputs, op.inputs);
    }
    let activation = supported(op.act.as_ref())?;
    let (scale, inputs, outputs) = (&op.affine.scale, op.inputs, op.outputs);
    let plain = |o: usize, i: usize| weights[o * inputs + i] * scale[o];
    let transposed = |o: usize, i: usize| weights[i * outputs + o] * scale[o];
    let dense = match op.transposed {
        false => Dense::new(isa, name, inputs, outputs, plain, &op.affine.shift, activation, sources.cache),
        true => Dense::new(isa, name, inputs, outputs, transposed, &op.affine.shift, activation, sources.cache),
    };
    let flops = dense.flops(rows);
    let algorithm = if rows == 1 { "matrix-vector" } else { "matrix product" };
    Ok(BuiltStep { op: StepOp::Dense(Arc::new(dense)), algorithm: algorithm.into(), flops })
}
