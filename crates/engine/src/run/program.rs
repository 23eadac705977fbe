//! A compiled network: consecutive steps on one arena.

use std::ops::Range;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::graph::{Activation, Affine, BinaryKind, GroupNormOp, PoolOp, UnaryKind};
use crate::kernels::conv::Conv;
use crate::kernels::conv::chain::Chain;
use crate::kernels::conv::deconv::Deconv;
use crate::kernels::conv::first::FirstConv;
use crate::kernels::conv::separable::Separable;
use crate::kernels::dense::Dense;
use crate::layout::blocked::Blocked;
use crate::ops::blocked;
use crate::ops::blocked::BlockedView;
use crate::ops::channels;
use crate::ops::channels::Pick;
use crate::ops::elementwise;
use crate::ops::elementwise::{BlockActivation, LaneMap};
use crate::ops::{Operands, layout, normalize, row_major};
use crate::run::arena::SplitArena;
use crate::simd::Isa;

/// Memory that a step reads or writes.
#[derive(Clone, Debug)]
pub(crate) enum BufferLocation {
    Arena(Range<usize>),
    /// The input of the network.
    Input,
    /// The output of the network with this index.
    Output(usize),
    Constant(Arc<Vec<f32>>),
}

/// An operand or a result of a step.
#[derive(Clone, Debug)]
pub(crate) struct StepOperand {
    pub location: BufferLocation,
    /// Geometry of a blocked tensor; `None` for a row-major one.
    pub blocked: Option<Blocked>,
    /// Values in the halo, one for each channel, in whole blocks; `None` for zeros.
    pub fill: Option<Arc<Vec<f32>>>,
}

/// Operation of a step. Variants starting with `RowMajor` work on row-major tensors of the given shapes, other
/// element-wise variants on blocked tensors.
#[derive(Clone)]
pub(crate) enum StepOp {
    Conv(Arc<Conv>),
    Separable(Arc<Separable>),
    Chain(Arc<Chain>),
    FirstConv(Arc<FirstConv>),
    Deconv(Arc<Deconv>),
    Dense(Arc<Dense>),
    Affine(Vec<LaneMap>),
    Unary(UnaryKind),
    Binary {
        kind: BinaryKind,
        acts: Vec<BlockActivation>,
    },
    Pool(PoolOp),
    GlobalSum,
    /// Factors of height and width.
    Upsample([usize; 2]),
    /// For each block of the result, the source lanes.
    Gather(Vec<Vec<Pick>>),
    GroupNorm(GroupNormOp),
    ToBlocked,
    ToPlanes {
        first: usize,
        channels: usize,
        act: BlockActivation,
    },
    ToPixels {
        first: usize,
        /// Number of groups, and channels of each.
        groups: [usize; 2],
        act: BlockActivation,
    },
    RowMajorAffine {
        shape: Vec<usize>,
        affine: Affine,
        act: Option<Activation>,
    },
    RowMajorUnary(UnaryKind),
    RowMajorBinary {
        kind: BinaryKind,
        /// Shapes of the operands.
        shapes: [Vec<usize>; 2],
        shape: Vec<usize>,
        act: Option<Activation>,
    },
    RowMajorConcat {
        /// Lengths of the operands along the axis.
        lengths: Vec<usize>,
        /// Number of floats for each position of the axis.
        inner: usize,
    },
    RowMajorSlice {
        /// Length of the operand along the axis.
        from: usize,
        range: Range<usize>,
        /// Number of floats for each position of the axis.
        inner: usize,
    },
    Transpose {
        shape: Vec<usize>,
        perm: Vec<usize>,
    },
    Softmax {
        shape: Vec<usize>,
        axes: Range<usize>,
    },
    Copy,
    /// An operation that tract runs.
    Tract {
        model: Arc<TypedRunnableModel>,
        /// Shapes of the operands.
        shapes: Vec<Vec<usize>>,
        /// Locations of all results.
        outputs: Vec<BufferLocation>,
    },
}

/// One step of a program.
pub(crate) struct ProgramStep {
    pub info: StepInfo,
    pub op: StepOp,
    pub inputs: Vec<StepOperand>,
    pub output: StepOperand,
}

/// Description of a step for reports.
#[derive(Clone, Debug)]
pub(crate) struct StepInfo {
    /// Name of the layer.
    pub name: String,
    /// Name of the operation.
    pub op: &'static str,
    /// Algorithm of the kernel; empty for operations without a choice.
    pub algorithm: String,
    pub input_shape: Vec<usize>,
    pub output_shape: Vec<usize>,
    /// Multiplications and additions of the direct algorithm.
    pub flops: u64,
}

/// The steps of a network for one input shape.
pub(crate) struct Program {
    pub isa: Isa,
    pub steps: Vec<ProgramStep>,
    /// Size of the arena.
    pub arena_floats: usize,
}

impl Program {
    /// Runs all steps. `arena` has `arena_floats` floats, and each of `outputs` has the length of its result. `after`
    /// is called with the index of each finished step.
    pub fn run(
        &self,
        input: &[f32],
        outputs: &mut [&mut [f32]],
        arena: &mut [f32],
        mut after: impl FnMut(usize),
    ) -> TractResult<()> {
        for (index, step) in self.steps.iter().enumerate() {
            step.run(self.isa, input, outputs, arena).with_context(|| step.info.name.clone())?;
            after(index);
        }
        Ok(())
    }
}

impl ProgramStep {
    fn run(&self, isa: Isa, input: &[f32], outputs: &mut [&mut [f32]], arena: &mut [f32]) -> TractResult<()> {
        if let StepOp::Tract { model, shapes, outputs: results } = &self.op {
            return self.run_tract(model, shapes, results, input, outputs, arena);
        }
        let split = match &self.output.location {
            BufferLocation::Arena(range) => SplitArena::new(arena, range),
            _ => SplitArena::new(arena, &(0..0)),
        };
        let inputs: Operands<&[f32]> = self
            .inputs
            .iter()
            .map(|operand| match &operand.location {
                BufferLocation::Arena(range) => split.read(range).context("a buffer is overwritten while it is read"),
                BufferLocation::Input => Ok(input),
                BufferLocation::Constant(data) => Ok(data.as_slice()),
                BufferLocation::Output(_) => bail!("an output is read"),
            })
            .collect::<TractResult<_>>()?;
        let output = match &self.output.location {
            BufferLocation::Output(index) => &mut *outputs[*index],
            _ => split.output,
        };
        self.compute(isa, &inputs, output);
        Ok(())
    }

    /// StepOperand `index` as a blocked tensor.
    fn view<'a>(&self, inputs: &[&'a [f32]], index: usize) -> BlockedView<'a> {
        let shape = self.inputs[index].blocked.unwrap_or(Blocked::new(0, 0, 0, 0, Default::default(), 1));
        BlockedView { data: inputs[index], shape }
    }

    fn compute(&self, isa: Isa, inputs: &[&[f32]], output: &mut [f32]) {
        let view = |index| self.view(inputs, index);
        let shape = self.output.blocked.unwrap_or(Blocked::new(0, 0, 0, 0, Default::default(), 1));
        if self.output.blocked.is_some() {
            blocked::fill_halo(output, &shape, self.output.fill.as_ref().map(|f| f.as_slice()));
        }
        match &self.op {
            StepOp::Conv(conv) => conv.run(inputs[0], inputs.get(1).copied(), output),
            StepOp::Separable(both) => both.run(inputs[0], inputs.get(1).copied(), output),
            StepOp::Chain(chain) => chain.run(inputs[0], output),
            StepOp::FirstConv(conv) => conv.run(inputs[0], output),
            StepOp::Deconv(deconv) => deconv.run(inputs[0], output),
            StepOp::Dense(dense) => dense.run(inputs[0], output),
            StepOp::Affine(maps) => blocked::affine(isa, view(0), output, &shape, maps),
            StepOp::Unary(kind) => blocked::unary(isa, *kind, view(0), output, &shape),
            StepOp::Binary { kind, acts } => blocked::binary(isa, *kind, [view(0), view(1)], output, &shape, acts),
            StepOp::Pool(op) => blocked::pool(isa, op, view(0), output, &shape),
            StepOp::GlobalSum => blocked::global_sum(isa, view(0), output, &shape),
            StepOp::Upsample(factor) => blocked::upsample(isa, view(0), output, &shape, *factor),
            StepOp::Gather(picks) => {
                let views: Operands<BlockedView> = (0..inputs.len()).map(view).collect();
                channels::gather(isa, &views, output, &shape, picks);
            }
            StepOp::GroupNorm(op) => normalize::group_norm(isa, op, view(0), output, &shape),
            StepOp::ToBlocked => layout::block(inputs[0], output, &shape),
            StepOp::ToPlanes { first, channels, act } => {
                layout::to_planes(isa, view(0), *first, *channels, output, act)
            }
            StepOp::ToPixels { first, groups, act } => layout::to_pixels(isa, view(0), *first, *groups, output, act),
            StepOp::RowMajorAffine { shape, affine, act } => {
                row_major::affine(isa, inputs[0], output, shape, affine, act.as_ref());
            }
            StepOp::RowMajorUnary(kind) => elementwise::unary(isa, *kind, inputs[0], output),
            StepOp::RowMajorBinary { kind, shapes: [a, b], shape, act } => {
                row_major::binary(isa, *kind, [(inputs[0], a), (inputs[1], b)], output, shape, act.as_ref());
            }
            StepOp::RowMajorConcat { lengths, inner } => {
                let whole = lengths.iter().sum();
                let mut start = 0;
                for (source, &len) in inputs.iter().zip(lengths) {
                    row_major::copy_range((source, len), (output, whole), *inner, [0, start, len]);
                    start += len;
                }
            }
            StepOp::RowMajorSlice { from, range, inner } => {
                let len = range.len();
                row_major::copy_range((inputs[0], *from), (output, len), *inner, [range.start, 0, len]);
            }
            StepOp::Transpose { shape, perm } => row_major::transpose(inputs[0], shape, perm, output),
            StepOp::Softmax { shape, axes } => row_major::softmax(isa, inputs[0], output, shape, axes.clone()),
            StepOp::Copy => output.copy_from_slice(inputs[0]),
            StepOp::Tract { .. } => {}
        }
    }

    fn run_tract(
        &self,
        model: &Arc<TypedRunnableModel>,
        shapes: &[Vec<usize>],
        results: &[BufferLocation],
        input: &[f32],
        outputs: &mut [&mut [f32]],
        arena: &mut [f32],
    ) -> TractResult<()> {
        let mut tensors: TVec<TValue> = tvec![];
        for (operand, shape) in self.inputs.iter().zip(shapes) {
            let data = match &operand.location {
                BufferLocation::Arena(range) => &arena[range.clone()],
                BufferLocation::Input => input,
                BufferLocation::Constant(data) => data.as_slice(),
                BufferLocation::Output(_) => bail!("an output is read"),
            };
            tensors.push(Tensor::from_shape(shape, data)?.into());
        }
        for (result, location) in model.run(tensors)?.iter().zip(results) {
            let result = result.to_plain_array_view::<f32>()?;
            let target = match location {
                BufferLocation::Arena(range) => &mut arena[range.clone()],
                BufferLocation::Output(index) => &mut *outputs[*index],
                _ => continue,
            };
            target.iter_mut().zip(result.iter()).for_each(|(t, r)| *t = *r);
        }
        Ok(())
    }
}
