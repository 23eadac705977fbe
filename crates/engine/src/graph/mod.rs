//! The engine's own graph: layers of a face network, before they are given memory and kernels.
//!
//! [`lower`](crate::graph::lower) fills it from tract's typed graph, [`passes`](crate::graph::passes) fuse it, and
//! [`program`](crate::run::program) turns it into steps. Layers are in execution order; every value has one producer.

pub(crate) mod lower;
pub(crate) mod passes;

use std::sync::Arc;

use tract_onnx::prelude::DatumType;
use tract_onnx::tract_core::ops::TypedOp;

pub use crate::kernels::activation::Activation;

/// Index into [`Graph::values`].
pub type ValueId = usize;

/// A tensor that flows between layers. Shapes are row-major, batch first.
#[derive(Clone, Debug)]
pub struct Value {
    pub shape: Vec<usize>,
    /// Set when the value is known beforehand.
    pub constant: Option<Arc<Vec<f32>>>,
    /// Everything is f32 but what tract hands to tract.
    pub is_f32: bool,
}

impl Value {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One layer: an operation with its operands.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Name of the ONNX node whose result this layer computes.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// A network for one input shape.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub values: Vec<Value>,
    pub layers: Vec<Layer>,
    pub input: ValueId,
    pub outputs: Vec<ValueId>,
}

/// y = scale[c] * x + shift[c], with c along axis 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Affine {
    pub fn identity(channels: usize) -> Affine {
        Affine { scale: vec![1.0; channels], shift: vec![0.0; channels] }
    }

    /// First `self`, then `next`.
    pub fn then(&self, next: &Affine) -> Affine {
        let both = || self.scale.iter().zip(&self.shift).zip(next.scale.iter().zip(&next.shift));
        Affine {
            scale: both().map(|((s, _), (ns, _))| s * ns).collect(),
            shift: both().map(|((_, t), (ns, nt))| t * ns + nt).collect(),
        }
    }

    pub fn is_identity(&self) -> bool {
        self.scale.iter().all(|&s| s == 1.0) && !self.has_shift()
    }

    pub fn has_shift(&self) -> bool {
        self.shift.iter().any(|&t| t != 0.0)
    }
}

/// Where a constant's numbers are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In the model file, read when it is packed: index into the network's stored weights.
    Stored(usize),
    /// Here.
    Inline(Arc<Vec<f32>>),
}

/// Weights of one or more convolutions of the same geometry, one after the other along the output channels: row-major
/// `[out][in / groups][kernel h][kernel w]` each.
#[derive(Clone, Debug)]
pub struct ConvWeights {
    pub parts: Vec<ConvWeightsPart>,
}

#[derive(Clone, Debug)]
pub struct ConvWeightsPart {
    pub source: Source,
    pub out_channels: usize,
    /// Factor of each output channel, folded in when the weights are packed.
    pub out_scale: Option<Vec<f32>>,
}

/// A convolution with everything that was fused into it: `act(conv(affine(x)) + bias + residual)`.
#[derive(Clone, Debug)]
pub struct ConvOp {
    pub kernel: ConvWeights,
    pub bias: Vec<f32>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// top, left, bottom, right
    pub pad: [usize; 4],
    /// Which of the weights' input channels meets each channel of the operand, if they are not in order.
    pub input_order: Option<Vec<usize>>,
    /// Applied to the input before padding.
    pub input_affine: Option<Affine>,
    pub act: Option<Activation>,
    /// Whether a second operand is added before the activation.
    pub residual: bool,
}

/// A transposed convolution; weights are `[in][out / groups][kernel h][kernel w]`.
#[derive(Clone, Debug)]
pub struct DeconvOp {
    pub source: Source,
    pub out_scale: Option<Vec<f32>>,
    pub bias: Vec<f32>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: [usize; 4],
    pub act: Option<Activation>,
}

/// y = x W^T + b on the rows of a matrix.
#[derive(Clone, Debug)]
pub struct DenseOp {
    pub source: Source,
    /// Whether the weights are `[inputs][outputs]` instead of `[outputs][inputs]`.
    pub transposed: bool,
    pub inputs: usize,
    pub outputs: usize,
    pub affine: Affine,
    pub act: Option<Activation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    Max,
    /// Sum over the window divided by its size; `counts_padding` says whether padding counts.
    Average {
        counts_padding: bool,
    },
    Sum,
}

#[derive(Clone, Debug)]
pub struct PoolOp {
    pub kind: PoolKind,
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    /// top, left
    pub pad: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryKind {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryKind {
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

/// Normalisation to mean 0 and variance 1 over groups of channels and all pixels, then an affine map.
#[derive(Clone, Debug)]
pub struct GroupNormOp {
    pub groups: usize,
    pub epsilon: f32,
    pub affine: Affine,
    pub act: Option<Activation>,
}

/// An operation that stays tract's.
#[derive(Clone, Debug)]
pub struct TractOp {
    pub op: Box<dyn TypedOp>,
    pub operands: Vec<TractOperand>,
}

#[derive(Clone, Debug)]
pub enum TractOperand {
    /// Index into [`Layer::inputs`], with its type.
    Input(usize, DatumType),
    Constant(Arc<tract_onnx::prelude::Tensor>),
}

#[derive(Clone, Debug)]
pub enum Op {
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
    /// Repeats every pixel: factors of height and width.
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
    /// `[n, groups * k, h, w]` to `[n, groups, h, w, k]`, whatever shape the result has: with one group, NHWC.
    Pixels {
        groups: usize,
    },
    GroupNorm(GroupNormOp),
    /// Over all but the first two axes, without scale or shift.
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
    /// What reports call the operation.
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

impl Graph {
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.values[value].shape
    }

    pub fn add_value(&mut self, shape: Vec<usize>) -> ValueId {
        self.values.push(Value { shape, constant: None, is_f32: true });
        self.values.len() - 1
    }

    pub fn add_constant(&mut self, shape: Vec<usize>, data: Vec<f32>) -> ValueId {
        self.values.push(Value { shape, constant: Some(Arc::new(data)), is_f32: true });
        self.values.len() - 1
    }

    /// For each value, how many operands and outputs refer to it.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let operands = self.layers.iter().flat_map(|l| &l.inputs).chain(&self.outputs);
        operands.for_each(|&v| counts[v] += 1);
        counts
    }

    /// Whether all readers of the value copy it into another layout.
    pub fn is_only_copied(&self, value: ValueId) -> bool {
        let mut readers = self.layers.iter().filter(|l| l.inputs.contains(&value));
        readers.all(|l| matches!(l.op, Op::Transpose { .. } | Op::Reshape | Op::Pixels { .. }))
    }

    /// For each value, the index of the layer that computes it.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.values.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.outputs.iter().for_each(|&v| producers[v] = Some(index));
        }
        producers
    }

    /// Drops layers whose results nobody uses.
    pub fn remove_dead(&mut self) {
        let mut live = vec![false; self.values.len()];
        self.outputs.iter().for_each(|&v| live[v] = true);
        let mut keep = vec![false; self.layers.len()];
        for (index, layer) in self.layers.iter().enumerate().rev() {
            if layer.outputs.iter().any(|&v| live[v]) {
                keep[index] = true;
                layer.inputs.iter().for_each(|&v| live[v] = true);
            }
        }
        let mut kept = keep.into_iter();
        self.layers.retain(|_| kept.next().unwrap_or(false));
    }
}
