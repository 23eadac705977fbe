//! Kernels of layers with weights. Affine maps that passes folded into a layer are applied here, when its weights are
//! packed.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::graph::{Activation, Affine, ConvOp, ConvWeights, DeconvOp, DenseOp, Source};
use crate::import::stored_weights::Weights;
use crate::kernels::conv::Conv;
use crate::kernels::conv::chain::{Chain, ChainLayer, ChainSource};
use crate::kernels::conv::deconv::Deconv;
use crate::kernels::conv::first::FirstConv;
use crate::kernels::conv::separable::Separable;
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::dense::Dense;
use crate::kernels::epilogue::Epilogue;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::PackCache;
use crate::run::program::Kernel;
use crate::simd::Isa;

/// Where weights come from and where their packed forms are kept.
pub(crate) struct Sources<'a> {
    pub weights: &'a Weights,
    pub cache: &'a PackCache,
}

/// A kernel with its description for reports.
pub(crate) struct Built {
    pub kernel: Kernel,
    pub algorithm: String,
    pub flops: u64,
}

impl Built {
    pub fn plain(kernel: Kernel) -> Built {
        Built { kernel, algorithm: String::new(), flops: 0 }
    }
}

/// Weights smaller than this are packed as zero: products with them would be denormal, or lost in rounding.
const SMALLEST: f32 = 1e-30;

/// A shift in front of a padded convolution is divided by its scale; beyond this ratio too much would be rounded away.
const LARGEST_SHIFT: f32 = 1e4;

/// The activation, if the kernels can apply it.
fn supported(activation: Option<&Activation>) -> TractResult<Option<&Activation>> {
    if !Epilogue::supports(activation) {
        bail!("an activation the kernels do not know");
    }
    Ok(activation)
}

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

/// Whether the convolution may read the picture's planes as they are.
pub(crate) fn reads_planes(op: &ConvOp) -> bool {
    op.groups == 1 && op.dilation == [1, 1] && !op.residual && op.in_channels <= 4 && foldable(op)
}

/// Whether the map in front of the convolution can become part of it.
pub(crate) fn foldable(op: &ConvOp) -> bool {
    let small = |a: &Affine| a.scale.iter().zip(&a.shift).all(|(s, t)| t.abs() <= LARGEST_SHIFT * s.abs());
    op.pad == [0; 4] || op.input_affine.as_ref().is_none_or(small)
}

/// The border a convolution reads around its input, and what it has to hold there if not zero.
pub(crate) fn border(op: &ConvOp, from: &[usize], to: &[usize]) -> (Halo, Option<Vec<f32>>) {
    let fill = input_shift(op).map(|shift| shift.iter().map(|t| -t).collect());
    (Conv::source_halo(&spec(op), from[0], [from[2], from[3]], [to[2], to[3]]), fill)
}

/// Shift of the input after its scale was folded into the weights; `None` where it can go into the bias.
fn input_shift(op: &ConvOp) -> Option<Vec<f32>> {
    let affine = op.input_affine.as_ref().filter(|a| a.has_shift() && op.pad != [0; 4])?;
    Some(affine.scale.iter().zip(&affine.shift).map(|(s, t)| if *t == 0.0 { 0.0 } else { t / s }).collect())
}

fn read(source: &Source, sources: &Sources) -> TractResult<Vec<f32>> {
    let mut values = match source {
        Source::Stored(index) => sources.weights.read(*index)?,
        Source::Inline(values) => values.to_vec(),
    };
    // Without a branch: a store for each is what vectors can do.
    values.iter_mut().for_each(|v| *v = if v.abs() < SMALLEST { 0.0 } else { *v });
    Ok(values)
}

/// Weights of a convolution, the scales of its outputs folded in.
fn kernel_weights(kernel: &ConvWeights, sources: &Sources) -> TractResult<Vec<f32>> {
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

/// Folds the map in front of a convolution into weights `[out][in / groups][taps]` and bias.
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

/// The numbers of a convolution, with what was folded into them.
struct Numbers {
    weights: Vec<f32>,
    bias: Vec<f32>,
    input_shift: Option<Vec<f32>>,
    activation: Option<Activation>,
}

impl Numbers {
    fn of(op: &ConvOp, sources: &Sources) -> TractResult<Numbers> {
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
        Ok(Numbers { weights, bias, input_shift: input_shift(op), activation: supported(op.act.as_ref())?.cloned() })
    }

    fn params<'a>(&'a self, layer: &'a str) -> ConvParams<'a> {
        ConvParams {
            layer,
            weights: &self.weights,
            bias: &self.bias,
            input_shift: self.input_shift.as_deref(),
            activation: self.activation.as_ref(),
        }
    }
}

/// A convolution's kernel. `source` is its blocked input, `None` when it reads planes of `[n, c, h, w]` = `from`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn conv(
    isa: Isa,
    op: &ConvOp,
    source: Option<Blocked>,
    from: &[usize],
    residual: Option<Blocked>,
    target: Blocked,
    name: &str,
    sources: &Sources,
) -> TractResult<Built> {
    let numbers = Numbers::of(op, sources)?;
    let (spec, params) = (spec(op), numbers.params(name));
    Ok(match source {
        Some(source) => {
            let conv = Conv::new(isa, &spec, &params, source, residual, target, sources.cache);
            let (algorithm, flops) = (conv.algorithm().into(), conv.flops());
            Built { kernel: Kernel::Conv(Arc::new(conv)), algorithm, flops }
        }
        None => {
            let conv = FirstConv::new(isa, &spec, &params, [from[2], from[3]], target, sources.cache);
            let conv = conv.context("a first convolution with groups or dilation")?;
            let (algorithm, flops) = (conv.algorithm().into(), conv.flops());
            Built { kernel: Kernel::FirstConv(Arc::new(conv)), algorithm, flops }
        }
    })
}

/// Whether a depthwise convolution with one reader and that reader can be one kernel.
pub(crate) fn separable_fits(depthwise: &ConvOp, pointwise: &ConvOp) -> bool {
    !depthwise.residual && Separable::fits(&spec(depthwise), &spec(pointwise))
}

/// The kernel of a depthwise convolution and the 1x1 convolution that reads it; `names` are those of the layers.
#[allow(clippy::too_many_arguments)]
pub(crate) fn separable(
    isa: Isa,
    [depthwise, pointwise]: [&ConvOp; 2],
    source: Blocked,
    residual: Option<Blocked>,
    target: Blocked,
    names: [&str; 2],
    sources: &Sources,
) -> TractResult<Built> {
    let numbers = [Numbers::of(depthwise, sources)?, Numbers::of(pointwise, sources)?];
    let params = [&numbers[0].params(names[0]), &numbers[1].params(names[1])];
    let specs = [&spec(depthwise), &spec(pointwise)];
    let both = Separable::new(isa, specs, params, source, residual, target, sources.cache);
    let flops = both.flops();
    Ok(Built { kernel: Kernel::Separable(Arc::new(both)), algorithm: "depthwise and 1x1".into(), flops })
}

/// One layer of a chain, or a depthwise convolution and the 1x1 convolution that reads it, by their names, and the
/// shape of the result.
pub(crate) struct Link<'a> {
    pub ops: Vec<(&'a str, &'a ConvOp)>,
    pub shape: &'a [usize],
}

/// The kernel of convolutions in a row. `source` is the blocked input of the first, `None` when it reads planes of `[n,
/// c, h, w]` = `from`.
pub(crate) fn chain(
    isa: Isa,
    links: &[Link],
    source: Option<Blocked>,
    from: &[usize],
    target: Blocked,
    sources: &Sources,
) -> TractResult<Built> {
    let numbers = links
        .iter()
        .map(|link| link.ops.iter().map(|(_, op)| Ok((spec(op), Numbers::of(op, sources)?))).collect())
        .collect::<TractResult<Vec<Vec<(ConvSpec, Numbers)>>>>()?;
    let params: Vec<Vec<ConvParams>> = links
        .iter()
        .zip(&numbers)
        .map(|(link, numbers)| link.ops.iter().zip(numbers).map(|((name, _), (_, n))| n.params(name)).collect())
        .collect();
    let parts: Vec<ChainLayer> = numbers
        .iter()
        .zip(&params)
        .enumerate()
        .map(|(i, (numbers, params))| {
            let layer = |i: usize| (&numbers[i].0, &params[i]);
            match numbers.len() {
                1 if i == 0 && source.is_none() => ChainLayer::First(layer(0)),
                1 => ChainLayer::Conv(layer(0)),
                _ => ChainLayer::Separable([layer(0), layer(1)]),
            }
        })
        .collect();
    let results: Vec<[usize; 3]> = links.iter().map(|l| [l.shape[1], l.shape[2], l.shape[3]]).collect();
    let source = source.map_or(ChainSource::Planes([from[2], from[3]]), ChainSource::Blocked);
    let chain = Chain::new(isa, &parts, &results, source, target, sources.cache).context("a chain of such layers")?;
    let (algorithm, flops) = (chain.algorithm(), chain.flops());
    Ok(Built { kernel: Kernel::Chain(Arc::new(chain)), algorithm, flops })
}

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

pub(crate) fn deconv_halo(op: &DeconvOp, from: &[usize], to: &[usize]) -> Halo {
    Deconv::source_halo(&deconv_spec(op), [from[2], from[3]], [to[2], to[3]])
}

pub(crate) fn deconv(
    isa: Isa,
    op: &DeconvOp,
    source: Blocked,
    target: Blocked,
    name: &str,
    sources: &Sources,
) -> TractResult<Built> {
    let taps = op.kernel_size[0] * op.kernel_size[1];
    let (inputs, outputs) = (op.in_channels / op.groups, op.out_channels / op.groups);
    let grouped = read(&op.source, sources)?;
    // As one group, zeros between the groups: these layers are small.
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
    let deconv = deconv.context("a transposed convolution with dilation")?;
    let flops = 2 * (source.n * source.h * source.w * op.in_channels * outputs * taps) as u64;
    Ok(Built { kernel: Kernel::Deconv(Arc::new(deconv)), algorithm: "by phase".into(), flops })
}

pub(crate) fn dense(isa: Isa, op: &DenseOp, rows: usize, name: &str, sources: &Sources) -> TractResult<Built> {
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
    Ok(Built { kernel: Kernel::Dense(Arc::new(dense)), algorithm: algorithm.into(), flops })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_weights_become_zero() {
        let (_, parts) = Weights::split(crate::import::stored_weights::Bytes::Static(&[]));
        let (weights, _) = parts.unwrap();
        let sources = Sources { weights: &weights, cache: &PackCache::default() };
        let source = Source::Inline(Arc::new(vec![1.0, 1e-38, -1e-40, 1e-29, -0.5]));
        assert_eq!(read(&source, &sources).unwrap(), [1.0, 0.0, 0.0, 1e-29, -0.5]);
    }
}
