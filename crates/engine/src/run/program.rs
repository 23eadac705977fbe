//! A compiled network: steps that run one after the other on one arena.

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
use crate::ops::blocked::View;
use crate::ops::channels;
use crate::ops::channels::Pick;
use crate::ops::elementwise;
use crate::ops::elementwise::{BlockActivation, LaneMap};
use crate::ops::{Operands, layout, normalize, row_major};
use crate::run::arena::Split;
use crate::simd::Isa;

/// Where a step reads or writes.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    Arena(Range<usize>),
    Input,
    /// Index of the network's output.
    Output(usize),
    Constant(Arc<Vec<f32>>),
}

/// An operand or a result of a step.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub place: Location,
    /// Geometry of a blocked tensor; `None` for a row-major one.
    pub blocked: Option<Blocked>,
    /// What the halo holds if not zeros: a value for each channel, in whole blocks.
    pub fill: Option<Arc<Vec<f32>>>,
}

/// What a step computes. Shapes in variants are those of row-major operands.
#[derive(Clone)]
pub(crate) enum Kernel {
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
    Upsample([usize; 2]),
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
        groups: [usize; 2],
        act: BlockActivation,
    },
    PlanarAffine {
        shape: Vec<usize>,
        affine: Affine,
        act: Option<Activation>,
    },
    PlanarUnary(UnaryKind),
    PlanarBinary {
        kind: BinaryKind,
        shapes: [Vec<usize>; 2],
        shape: Vec<usize>,
        act: Option<Activation>,
    },
    /// Lengths of the operands along the axis, and the floats of one position of it.
    PlanarConcat {
        lengths: Vec<usize>,
        inner: usize,
    },
    PlanarSlice {
        from: usize,
        range: Range<usize>,
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
    /// Runs elsewhere; shapes of the operands, places of all results.
    Tract {
        model: Arc<TypedRunnableModel>,
        shapes: Vec<Vec<usize>>,
        outputs: Vec<Location>,
    },
}

/// One step of a program.
pub(crate) struct Step {
    pub info: StepInfo,
    pub kernel: Kernel,
    pub inputs: Vec<Operand>,
    pub output: Operand,
}

/// What reports say about a step.
#[derive(Clone, Debug)]
pub(crate) struct StepInfo {
    pub name: String,
    pub op: &'static str,
    /// How the kernel computes it.
    pub algorithm: String,
    pub input_shape: Vec<usize>,
    pub output_shape: Vec<usize>,
    /// Multiplications and additions of the direct algorithm.
    pub flops: u64,
}

/// The steps of a network for one input shape.
pub(crate) struct Program {
    pub isa: Isa,
    pub steps: Vec<Step>,
    pub arena_floats: usize,
}

impl Program {
    /// Runs all steps. `arena` has `arena_floats`, each of `outputs` the length of its result. `after` is called after
    /// each step.
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

impl Step {
    fn run(&self, isa: Isa, input: &[f32], outputs: &mut [&mut [f32]], arena: &mut [f32]) -> TractResult<()> {
        if let Kernel::Tract { model, shapes, outputs: places } = &self.kernel {
            return self.run_tract(model, shapes, places, input, outputs, arena);
        }
        let split = match &self.output.place {
            Location::Arena(range) => Split::new(arena, range),
            _ => Split::new(arena, &(0..0)),
        };
        let inputs: Operands<&[f32]> = self
            .inputs
            .iter()
            .map(|operand| match &operand.place {
                Location::Arena(range) => split.read(range).context("a buffer is overwritten while it is read"),
                Location::Input => Ok(input),
                Location::Constant(data) => Ok(data.as_slice()),
                Location::Output(_) => bail!("an output is read"),
            })
            .collect::<TractResult<_>>()?;
        let output = match &self.output.place {
            Location::Output(index) => &mut *outputs[*index],
            _ => split.output,
        };
        self.compute(isa, &inputs, output);
        Ok(())
    }

    /// Operand `index` as a blocked tensor.
    fn view<'a>(&self, inputs: &[&'a [f32]], index: usize) -> View<'a> {
        let shape = self.inputs[index].blocked.unwrap_or(Blocked::new(0, 0, 0, 0, Default::default(), 1));
        View { data: inputs[index], shape }
    }

    fn compute(&self, isa: Isa, inputs: &[&[f32]], output: &mut [f32]) {
        let view = |index| self.view(inputs, index);
        let shape = self.output.blocked.unwrap_or(Blocked::new(0, 0, 0, 0, Default::default(), 1));
        if self.output.blocked.is_some() {
            blocked::fill_halo(output, &shape, self.output.fill.as_ref().map(|f| f.as_slice()));
        }
        match &self.kernel {
            Kernel::Conv(conv) => conv.run(inputs[0], inputs.get(1).copied(), output),
            Kernel::Separable(both) => both.run(inputs[0], inputs.get(1).copied(), output),
            Kernel::Chain(chain) => chain.run(inputs[0], output),
            Kernel::FirstConv(conv) => conv.run(inputs[0], output),
            Kernel::Deconv(deconv) => deconv.run(inputs[0], output),
            Kernel::Dense(dense) => dense.run(inputs[0], output),
            Kernel::Affine(maps) => blocked::affine(isa, view(0), output, &shape, maps),
            Kernel::Unary(kind) => blocked::unary(isa, *kind, view(0), output, &shape),
            Kernel::Binary { kind, acts } => blocked::binary(isa, *kind, [view(0), view(1)], output, &shape, acts),
            Kernel::Pool(op) => blocked::pool(isa, op, view(0), output, &shape),
            Kernel::GlobalSum => blocked::global_sum(isa, view(0), output, &shape),
            Kernel::Upsample(factor) => blocked::upsample(isa, view(0), output, &shape, *factor),
            Kernel::Gather(picks) => {
                let views: Operands<View> = (0..inputs.len()).map(view).collect();
                channels::gather(isa, &views, output, &shape, picks);
            }
            Kernel::GroupNorm(op) => normalize::group_norm(isa, op, view(0), output, &shape),
            Kernel::ToBlocked => layout::block(inputs[0], output, &shape),
            Kernel::ToPlanes { first, channels, act } => {
                layout::to_planes(isa, view(0), *first, *channels, output, act)
            }
            Kernel::ToPixels { first, groups, act } => layout::to_pixels(isa, view(0), *first, *groups, output, act),
            Kernel::PlanarAffine { shape, affine, act } => {
                row_major::affine(isa, inputs[0], output, shape, affine, act.as_ref());
            }
            Kernel::PlanarUnary(kind) => elementwise::unary(isa, *kind, inputs[0], output),
            Kernel::PlanarBinary { kind, shapes: [a, b], shape, act } => {
                row_major::binary(isa, *kind, [(inputs[0], a), (inputs[1], b)], output, shape, act.as_ref());
            }
            Kernel::PlanarConcat { lengths, inner } => {
                let whole = lengths.iter().sum();
                let mut start = 0;
                for (source, &len) in inputs.iter().zip(lengths) {
                    row_major::copy_range((source, len), (output, whole), *inner, [0, start, len]);
                    start += len;
                }
            }
            Kernel::PlanarSlice { from, range, inner } => {
                let len = range.len();
                row_major::copy_range((inputs[0], *from), (output, len), *inner, [range.start, 0, len]);
            }
            Kernel::Transpose { shape, perm } => row_major::transpose(inputs[0], shape, perm, output),
            Kernel::Softmax { shape, axes } => row_major::softmax(isa, inputs[0], output, shape, axes.clone()),
            Kernel::Copy => output.copy_from_slice(inputs[0]),
            Kernel::Tract { .. } => {}
        }
    }

    fn run_tract(
        &self,
        model: &Arc<TypedRunnableModel>,
        shapes: &[Vec<usize>],
        places: &[Location],
        input: &[f32],
        outputs: &mut [&mut [f32]],
        arena: &mut [f32],
    ) -> TractResult<()> {
        let mut tensors: TVec<TValue> = tvec![];
        for (operand, shape) in self.inputs.iter().zip(shapes) {
            let data = match &operand.place {
                Location::Arena(range) => &arena[range.clone()],
                Location::Input => input,
                Location::Constant(data) => data.as_slice(),
                Location::Output(_) => bail!("an output is read"),
            };
            tensors.push(Tensor::from_shape(shape, data)?.into());
        }
        for (result, place) in model.run(tensors)?.iter().zip(places) {
            let result = result.to_plain_array_view::<f32>()?;
            let target = match place {
                Location::Arena(range) => &mut arena[range.clone()],
                Location::Output(index) => &mut *outputs[*index],
                _ => continue,
            };
            target.iter_mut().zip(result.iter()).for_each(|(t, r)| *t = *r);
        }
        Ok(())
    }
}
