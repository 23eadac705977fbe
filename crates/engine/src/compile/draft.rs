//! Steps and buffers during compilation, before kernels are built and memory is assigned.

use std::sync::Arc;

use crate::graph::{Activation, ConvOp, DeconvOp, DenseOp, TractOp};
use crate::layout::blocked::{Blocked, Halo};
use crate::run::program::StepOp;

/// Index into the buffers of the compiler.
pub(crate) type BufferId = usize;

/// Memory for one tensor.
pub(crate) struct PlannedBuffer {
    /// Geometry of a blocked tensor, without halo until the end of compilation; `None` for a row-major tensor.
    pub blocked: Option<Blocked>,
    pub floats: usize,
    pub placement: Placement,
    /// The largest halo that a step reads.
    pub halo: Halo,
    /// Values in the halo, one for each channel; empty for zeros, `None` if no step reads the halo.
    pub fill: Option<Vec<f32>>,
    /// Whether other buffers are parts of this one.
    pub has_parts: bool,
    /// Index of the step that writes the buffer.
    pub first: usize,
    /// Index of the last step that reads the buffer.
    pub last: usize,
    /// Number of reads.
    pub reads: usize,
}

/// Location of a buffer in memory.
#[derive(Clone)]
pub(crate) enum Placement {
    Arena,
    /// The input of the network.
    Input,
    /// The output of the network with this index.
    Output(usize),
    Constant(Arc<Vec<f32>>),
    /// Channels of another buffer, starting at this channel.
    Part(BufferId, usize),
    /// No memory: the buffer is inside a chain, which computes it in strips.
    Strips,
}

/// The buffers that hold a value, one for each layout.
#[derive(Clone, Default)]
pub(crate) struct ValueBuffers {
    pub row_major: Option<BufferId>,
    pub blocked: Option<ChannelRange>,
}

/// Channels of a blocked buffer, starting at `first`. Readers must apply the activation `pending`.
#[derive(Clone)]
pub(crate) struct ChannelRange {
    pub buffer: BufferId,
    pub first: usize,
    pub pending: Option<Activation>,
}

/// A step whose buffers have no memory yet.
pub(crate) struct StepDraft {
    /// Name of the layer; empty for a step that belongs to the layer of the step before.
    pub name: String,
    /// Name of the operation, for reports.
    pub op: &'static str,
    pub work: DraftOp,
    pub inputs: Vec<BufferId>,
    pub output: BufferId,
    /// Outputs after the first, of an operation that tract runs.
    pub more_outputs: Vec<BufferId>,
    /// Shapes of the first input and of the output.
    pub shapes: [Vec<usize>; 2],
}

impl StepDraft {
    /// Number of weights to pack.
    pub fn weights(&self) -> usize {
        self.work.weights()
    }
}

/// Operation of a [`StepDraft`]. Kernels that need the final geometry of their buffers are built at the end.
pub(crate) enum DraftOp {
    Ready(StepOp),
    /// A convolution, with the shape of its input.
    Conv(ConvOp, Vec<usize>),
    Separable(Box<SeparablePair>),
    /// Consecutive convolutions that are computed in strips, with their names and the shapes of their results.
    Chain(Vec<(String, DraftOp, Vec<usize>)>),
    Deconv(DeconvOp),
    Dense(DenseOp),
    /// An operation that tract runs, with the shapes of its inputs.
    Tract(TractOp, Vec<Vec<usize>>),
}

impl DraftOp {
    /// Number of weights to pack.
    fn weights(&self) -> usize {
        match self {
            DraftOp::Chain(links) => links.iter().map(|(_, work, _)| work.weights()).sum(),
            DraftOp::Conv(c, _) => c.in_channels / c.groups * c.out_channels * c.kernel_size[0] * c.kernel_size[1],
            DraftOp::Separable(pair) => pair.pointwise.in_channels * pair.pointwise.out_channels,
            DraftOp::Dense(d) => d.inputs * d.outputs,
            _ => 0,
        }
    }
}

/// A depthwise convolution and the 1x1 convolution that reads its result.
pub(crate) struct SeparablePair {
    /// Name of the depthwise convolution; the step has the name of the other.
    pub name: String,
    pub depthwise: ConvOp,
    pub pointwise: ConvOp,
}
