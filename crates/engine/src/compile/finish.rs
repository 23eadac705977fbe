//! The end of compilation: final halos, lifetimes and memory locations, then the kernels for them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::compile::draft::{BufferId, DraftOp, Placement, SeparablePair, StepDraft};
use crate::compile::weighted::{BuiltStep, ChainLink};
use crate::compile::weights::WeightSources;
use crate::compile::{Compiler, weighted};
use crate::graph::{TractOp, TractOperand};
use crate::layout::blocked::Blocked;
use crate::run::arena;
use crate::run::arena::Lifetime;
use crate::run::program::{BufferLocation, Program, ProgramStep, StepInfo, StepOp, StepOperand};
use crate::run::threads;

impl Compiler<'_> {
    /// Places the outputs of the network in the arrays of the caller, or adds steps that copy them there.
    pub(crate) fn outputs(&mut self) -> TractResult<()> {
        for (index, &value) in self.graph.outputs.iter().enumerate() {
            let buffer = self.row_major(value)?;
            let planned = &mut self.buffers[buffer];
            if matches!(planned.placement, Placement::Arena) && planned.reads == 0 {
                planned.placement = Placement::Output(index);
                continue;
            }
            let shape = self.graph.shape(value).to_vec();
            let target = self.add_buffer(None, shape.iter().product(), Placement::Output(index));
            self.add_draft("", "copy", DraftOp::Ready(StepOp::Copy), vec![buffer], target, shape);
        }
        Ok(())
    }

    /// Determines halos, lifetimes and memory locations, then builds the kernels.
    pub(crate) fn finish(mut self, sources: &WeightSources) -> TractResult<Program> {
        self.share_with_parts();
        for buffer in &mut self.buffers {
            if let Some(blocked) = &mut buffer.blocked {
                blocked.halo = buffer.halo;
                buffer.floats = blocked.len();
            }
        }
        self.form_chains();
        let built = self.build_all(sources)?;
        let mut lifetimes = vec![];
        let mut slots = vec![None; self.buffers.len()];
        for (id, buffer) in self.buffers.iter().enumerate().filter(|(_, b)| matches!(b.placement, Placement::Arena)) {
            slots[id] = Some(lifetimes.len());
            lifetimes.push(Lifetime { floats: buffer.floats, steps: buffer.first..=buffer.last });
        }
        let (places, arena_floats) = arena::place(&lifetimes);
        let operand = |id: BufferId| {
            let buffer = &self.buffers[id];
            let fill = buffer.fill.as_ref().filter(|f| !f.is_empty()).zip(buffer.blocked).map(|(fill, b)| {
                let mut fill = fill.clone();
                fill.resize(b.blocks() * b.lanes, 0.0);
                Arc::new(fill)
            });
            StepOperand { location: self.locate(id, &slots, &places), blocked: buffer.blocked, fill }
        };
        let mut steps = vec![];
        let mut name = String::new();
        for (draft, built) in self.drafts.iter().zip(built) {
            if !draft.name.is_empty() {
                name = draft.name.clone();
            }
            let [input_shape, output_shape] = draft.shapes.clone();
            let op = match built.op {
                StepOp::Tract { model, shapes, .. } => {
                    let results = [draft.output].into_iter().chain(draft.more_outputs.iter().copied());
                    StepOp::Tract { model, shapes, outputs: results.map(|b| operand(b).location).collect() }
                }
                other => other,
            };
            steps.push(ProgramStep {
                info: StepInfo {
                    name: name.clone(),
                    op: draft.op,
                    algorithm: built.algorithm,
                    input_shape,
                    output_shape,
                    flops: built.flops,
                },
                op,
                inputs: draft.inputs.iter().map(|&b| operand(b)).collect(),
                output: operand(draft.output),
            });
        }
        Ok(Program { isa: self.isa, steps, arena_floats })
    }

    /// Gives a buffer and its parts the same halo and lifetime. A buffer that has parts may be a part itself, so this
    /// repeats until nothing changes.
    fn share_with_parts(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for id in 0..self.buffers.len() {
                let Placement::Part(whole, _) = self.buffers[id].placement else { continue };
                let halo = self.buffers[id].halo.union(self.buffers[whole].halo);
                let first = self.buffers[id].first.min(self.buffers[whole].first);
                let last = self.buffers[id].last.max(self.buffers[whole].last);
                for id in [id, whole] {
                    let buffer = &mut self.buffers[id];
                    changed |= buffer.halo != halo || (buffer.first, buffer.last) != (first, last);
                    (buffer.halo, buffer.first, buffer.last) = (halo, first, last);
                }
            }
        }
    }

    /// Location of a buffer. `slots` has the index in `places` of each buffer of the arena.
    fn locate(&self, id: BufferId, slots: &[Option<usize>], places: &[Range<usize>]) -> BufferLocation {
        let buffer = &self.buffers[id];
        match &buffer.placement {
            Placement::Arena => BufferLocation::Arena(slots[id].map_or(0..0, |slot| places[slot].clone())),
            Placement::Strips => BufferLocation::Arena(0..0),
            Placement::Input => BufferLocation::Input,
            Placement::Output(index) => BufferLocation::Output(*index),
            Placement::Constant(data) => BufferLocation::Constant(data.clone()),
            Placement::Part(whole, first) => {
                let stride = buffer.blocked.map_or(0, |b| b.block_stride());
                match self.locate(*whole, slots, places) {
                    BufferLocation::Arena(range) => {
                        let start = range.start + first / self.lanes * stride;
                        BufferLocation::Arena(start..start + buffer.floats)
                    }
                    other => other,
                }
            }
        }
    }

    /// Builds the steps on several threads: packing of weights takes most of the time to prepare a network.
    fn build_all(&self, sources: &WeightSources) -> TractResult<Vec<BuiltStep>> {
        // Largest first: its unpacked weights are freed while memory use is still low, and no thread is left alone with
        // it at the end.
        let mut order: Vec<usize> = (0..self.drafts.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.drafts[i].weights()));
        let next = AtomicUsize::new(0);
        let workers = threads::packers().min(order.len()).max(1);
        let built = (0..workers)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| {
                let mut built = vec![];
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let draft = &self.drafts[index];
                    built.push((index, self.build(draft, sources).with_context(|| draft.name.clone())?));
                }
                Ok(built)
            })
            .collect::<TractResult<Vec<_>>>()?;
        let mut built: Vec<(usize, BuiltStep)> = built.into_iter().flatten().collect();
        built.sort_by_key(|(index, _)| *index);
        Ok(built.into_iter().map(|(_, built)| built).collect())
    }

    fn build(&self, draft: &StepDraft, sources: &WeightSources) -> TractResult<BuiltStep> {
        let geometry = |id: BufferId| self.buffers[id].blocked;
        let source = draft.inputs.first().and_then(|&b| geometry(b));
        let residual = || draft.inputs.get(1).and_then(|&b| geometry(b));
        let blocked = |geometry: Option<Blocked>| geometry.context("the buffer is not blocked");
        let target = geometry(draft.output);
        match &draft.work {
            DraftOp::Ready(op) => Ok(BuiltStep::plain(op.clone())),
            DraftOp::Conv(conv, from) => {
                weighted::conv(self.isa, conv, source, from, residual(), blocked(target)?, &draft.name, sources)
            }
            DraftOp::Separable(pair) => {
                let SeparablePair { name, depthwise, pointwise } = &**pair;
                let (ops, names) = ([depthwise, pointwise], [name.as_str(), &draft.name]);
                weighted::separable(self.isa, ops, blocked(source)?, residual(), blocked(target)?, names, sources)
            }
            DraftOp::Chain(links) => {
                let from = match links.first() {
                    Some((_, DraftOp::Conv(_, from), _)) => from,
                    _ => &draft.shapes[0],
                };
                let links = links
                    .iter()
                    .map(|(name, work, shape)| match work {
                        DraftOp::Conv(conv, _) => Ok(ChainLink { ops: vec![(name.as_str(), conv)], shape }),
                        DraftOp::Separable(pair) => {
                            let ops = vec![(pair.name.as_str(), &pair.depthwise), (name.as_str(), &pair.pointwise)];
                            Ok(ChainLink { ops, shape })
                        }
                        _ => bail!("a chain has a layer that is not a convolution"),
                    })
                    .collect::<TractResult<Vec<_>>>()?;
                weighted::chain(self.isa, &links, source, from, blocked(target)?, sources)
            }
            DraftOp::Deconv(deconv) => {
                weighted::deconv(self.isa, deconv, blocked(source)?, blocked(target)?, &draft.name, sources)
            }
            DraftOp::Dense(dense) => weighted::dense(self.isa, dense, draft.shapes[1][0], &draft.name, sources),
            DraftOp::Tract(op, shapes) => {
                let model = tract_model(op, shapes)?;
                let algorithm = format!("tract {}", op.op.name());
                Ok(BuiltStep {
                    op: StepOp::Tract { model, shapes: shapes.clone(), outputs: vec![] },
                    algorithm,
                    flops: 0,
                })
            }
        }
    }
}

/// A model of one node, which tract runs.
fn tract_model(op: &TractOp, shapes: &[Vec<usize>]) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = TypedModel::default();
    let mut operands: TVec<OutletId> = tvec![];
    for (index, operand) in op.operands.iter().enumerate() {
        operands.push(match operand {
            TractOperand::Input(input, datum_type) => {
                model.add_source(format!("input.{input}"), datum_type.fact(&shapes[*input]))?
            }
            TractOperand::Constant(tensor) => model.add_const(format!("constant.{index}"), tensor.clone())?,
        });
    }
    let outputs = model.wire_node("node", op.op.clone(), &operands)?;
    model.select_output_outlets(&outputs)?;
    model.into_optimized()?.into_runnable()
}
