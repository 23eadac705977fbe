//! Operations of layers, with everything that passes fuse into them.

use std::sync::Arc;

use tract_onnx::prelude::{DatumType, Tensor};
use tract_onnx::tract_core::ops::TypedOp;

use crate::graph::affine::Affine;
use crate::kernels::activation::Activation;

/// Location of the weights of a layer.
#[derive(Clone, Debug)]
pub(crate) enum WeightSource {
    /// In the model file, to be read for packing: index into the stored weights of the network.
    Stored(usize),
    /// In the graph.
    Inline(Arc<Vec<f32>>),
}

/// Weights of one or more convolutions of the same geometry, concatenated along the output channels. Each part is
/// row-major `[out][in / groups][kernel h][kernel w]`.
#[derive(Clone, Debug)]
pub(crate) struct ConvWeights {
    pub parts: Vec<ConvWeightsPart>,
}

/// Weights of one of the convolutions that form a [`ConvOp`].
#[derive(Clone, Debug)]
pub(crate) struct ConvWeightsPart {
    pub source: WeightSource,
    pub out_channels: usize,
    /// Factor of each output channel; packing multiplies the weights by it.
    pub out_scale: Option<Vec<f32>>,
}

/// A convolution with the operations fused into it: `act(conv(affine(x)) + bias + residual)`.
#[derive(Clone, Debug)]
pub(crate) struct ConvOp {
    pub kernel: ConvWeights,
    pub bias: Vec<f32>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    /// For each channel of the operand, the input channel of the weights; `None` for the same order.
    pub input_order: Option<Vec<usize>>,
    /// Applied to the input, before the padding.
    pub input_affine: Option<Affine>,
    pub act: Option<Activation>,
    /// Whether a second operand is added before the activation.
    pub residual: bool,
}

/// A transposed convolution. Weights are `[in][out / groups][kernel h][kernel w]`.
#[derive(Clone, Debug)]
pub(crate) struct DeconvOp {
    pub source: WeightSource,
    /// Factor of each output channel.
    pub out_scale: Option<Vec<f32>>,
    pub bias: Vec<f32>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    pub act: Option<Activation>,
}

/// `y = act(affine(x W^T))` for each row `x` of a matrix.
#[derive(Clone, Debug)]
pub(crate) struct DenseOp {
    pub source: WeightSource,
    /// Whether the weights are `[inputs][outputs]` instead of `[outputs][inputs]`.
    pub transposed: bool,
    pub inputs: usize,
    pub outputs: usize,
    pub affine: Affine,
    pub act: Option<Activation>,
}

/// Function of a pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    /// Sum over the window divided by its number of pixels, with or without padding.
    Average {
        counts_padding: bool,
    },
    Sum,
}

/// Pooling over windows of each plane.
#[derive(Clone, Debug)]
pub(crate) struct PoolOp {
    pub kind: PoolKind,
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    /// Top, left.
    pub pad: [usize; 2],
}

/// Element-wise function of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryKind {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// Element-wise function of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryKind {
    Square,
    Sqrt,
    Rsqrt,
    Recip,
    Exp,
    Ln,
    Tanh,
    Neg,
    Abs,
    HardSwish,
}

/// Normalization to mean 0 and variance 1 over each group of channels and all pixels, then an affine map.
#[derive(Clone, Debug)]
pub(crate) struct GroupNormOp {
    pub groups: usize,
    pub epsilon: f32,
    pub affine: Affine,
    pub act: Option<Activation>,
}

/// An operation that tract runs.
#[derive(Clone, Debug)]
pub(crate) struct TractOp {
    pub op: Box<dyn TypedOp>,
    pub operands: Vec<TractOperand>,
}

/// Operand of a [`TractOp`].
#[derive(Clone, Debug)]
pub(crate) enum TractOperand {
    /// Index into the inputs of the layer, and type.
    Input(usize, DatumType),
    Constant(Arc<Tensor>),
}

/// Operation of a layer. Shapes are `[n, c, h, w]` unless stated otherwise.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Conv(ConvOp),
    Deconv(DeconvOp),
    Dense(DenseOp),
    Affine {
        affine: Affine,
        act: Option<Activation>,
    },
    Activate(Activation),
    Unary(UnaryKind),
    Binary {
        kind: BinaryKind,
        act: Option<Activation>,
    },
    Pool(PoolOp),
    /// Sum of each plane: `[n, c, h, w]` to `[n, c, 1, 1]`.
    GlobalSum,
    /// Repeats every pixel; factors of height and width.
    Upsample {
        factor: [usize; 2],
    },
    Concat {
        axis: usize,
    },
    Slice {
        axis: usize,
        start: usize,
        end: usize,
    },
    /// Channel `i * groups + j` of the result is channel `j * (c / groups) + i` of the operand.
    Shuffle {
        groups: usize,
    },
    /// Channel `i` of the result is channel `map[i].1` of operand `map[i].0`.
    Channels {
        map: Vec<(usize, usize)>,
    },
    /// The order of `[n, groups * k, h, w]` changes to that of `[n, groups, h, w, k]`. With one group, this is NHWC.
    Pixels {
        groups: usize,
    },
    GroupNorm(GroupNormOp),
    /// Normalization over all axes except the first two, without scale and shift.
    InstanceNorm {
        epsilon: f32,
    },
    Softmax {
        axes: Vec<usize>,
    },
    Reshape,
    /// Axis `i` of the result is axis `perm[i]` of the operand.
    Transpose {
        perm: Vec<usize>,
    },
    Tract(TractOp),
}

impl Op {
    /// Name of the operation, for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv(c) if c.groups > 1 && c.groups == c.in_channels => "depthwise",
            Op::Conv(_) => "conv",
            Op::Deconv(_) => "deconv",
            Op::Dense(_) => "dense",
            Op::Affine { .. } => "affine",
            Op::Activate(_) => "activation",
            Op::Unary(_) => "unary",
            Op::Binary { .. } => "binary",
            Op::Pool(p) if p.kind == PoolKind::Max => "max pool",
            Op::Pool(_) => "average pool",
            Op::GlobalSum => "global pool",
            Op::Upsample { .. } => "upsample",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::Shuffle { .. } => "shuffle",
            Op::Channels { .. } => "channels",
            Op::Pixels { .. } => "to pixels",
            Op::GroupNorm(_) => "group norm",
            Op::InstanceNorm { .. } => "instance norm",
            Op::Softmax { .. } => "softmax",
            Op::Reshape => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Tract(_) => "tract",
        }
    }
}
