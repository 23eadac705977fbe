//! The end of compilation: halos, lifetimes and places are settled, then the kernels are built for them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::compile::weights;
use crate::compile::weights::{Built, Sources};
use crate::compile::{BufferId, Compiler, Draft, Home, Pair, Work};
use crate::graph::{TractOp, TractOperand};
use crate::run::arena;
use crate::run::arena::Lifetime;
use crate::run::program::{Kernel, Location, Operand, Program, Step, StepInfo};
use crate::run::threads;

impl Compiler<'_> {
    /// Lets results be computed where the caller wants them, or copies them there.
    pub(crate) fn outputs(&mut self) -> TractResult<()> {
        for (index, &value) in self.graph.outputs.iter().enumerate() {
            let buffer = self.planar(value)?;
            let b = &mut self.buffers[buffer];
            if matches!(b.home, Home::Arena) && b.reads == 0 {
                b.home = Home::Output(index);
                continue;
            }
            let shape = self.graph.shape(value).to_vec();
            let target = self.buffer(None, shape.iter().product(), Home::Output(index));
            self.draft("", "copy", Work::Ready(Kernel::Copy), vec![buffer], target, shape);
        }
        Ok(())
    }

    /// Settles halos, lifetimes and places, then builds the kernels.
    pub(crate) fn finish(mut self, sources: &Sources) -> TractResult<Program> {
        // Parts share halo and lifetime with the whole. A whole may be a part itself, so go on until nothing changes.
        let mut changed = true;
        while changed {
            changed = false;
            for id in 0..self.buffers.len() {
                let Home::Part(whole, _) = self.buffers[id].home else { continue };
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
        for buffer in &mut self.buffers {
            if let Some(blocked) = &mut buffer.blocked {
                blocked.halo = buffer.halo;
                buffer.floats = blocked.len();
            }
        }
        self.chain();
        let kernels = self.kernels(sources)?;
        let mut lifetimes = vec![];
        let mut slots = vec![None; self.buffers.len()];
        for (id, buffer) in self.buffers.iter().enumerate().filter(|(_, b)| matches!(b.home, Home::Arena)) {
            slots[id] = Some(lifetimes.len());
            lifetimes.push(Lifetime { floats: buffer.floats, steps: buffer.first..=buffer.last });
        }
        let (places, arena_floats) = arena::place(&lifetimes);
        let at = |id: BufferId| {
            let buffer = &self.buffers[id];
            let fill = buffer.fill.as_ref().filter(|f| !f.is_empty()).zip(buffer.blocked).map(|(fill, b)| {
                let mut fill = fill.clone();
                fill.resize(b.blocks() * b.lanes, 0.0);
                Arc::new(fill)
            });
            Operand { place: self.place(id, &slots, &places), blocked: buffer.blocked, fill }
        };
        let mut steps = vec![];
        let mut name = String::new();
        for (draft, built) in self.drafts.iter().zip(kernels) {
            if !draft.name.is_empty() {
                name = draft.name.clone();
            }
            let [input_shape, output_shape] = draft.shapes.clone();
            let kernel = match built.kernel {
                Kernel::Tract { model, shapes, .. } => {
                    let outputs = [draft.output].iter().chain(&draft.more_outputs).map(|&b| at(b).place).collect();
                    Kernel::Tract { model, shapes, outputs }
                }
                other => other,
            };
            steps.push(Step {
                info: StepInfo {
                    name: name.clone(),
                    op: draft.op,
                    algorithm: built.algorithm,
                    input_shape,
                    output_shape,
                    flops: built.flops,
                },
                kernel,
                inputs: draft.inputs.iter().map(|&b| at(b)).collect(),
                output: at(draft.output),
            });
        }
        Ok(Program { isa: self.isa, steps, arena_floats })
    }

    fn place(&self, id: BufferId, slots: &[Option<usize>], places: &[Range<usize>]) -> Location {
        let buffer = &self.buffers[id];
        match &buffer.home {
            Home::Arena => Location::Arena(slots[id].map_or(0..0, |slot| places[slot].clone())),
            Home::Nowhere => Location::Arena(0..0),
            Home::Input => Location::Input,
            Home::Output(index) => Location::Output(*index),
            Home::Constant(data) => Location::Constant(data.clone()),
            Home::Part(whole, first) => {
                let stride = buffer.blocked.map_or(0, |b| b.block_stride());
                match self.place(*whole, slots, places) {
                    Location::Arena(range) => {
                        let start = range.start + first / self.lanes * stride;
                        Location::Arena(start..start + buffer.floats)
                    }
                    other => other,
                }
            }
        }
    }

    /// Builds the kernels, several at once: packing weights takes most of the time of preparing a network.
    fn kernels(&self, sources: &Sources) -> TractResult<Vec<Built>> {
        // The largest first: its unpacked copy is gone before the memory is full, and no thread is left alone with it.
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
                    built.push((index, self.kernel(draft, sources).with_context(|| draft.name.clone())?));
                }
                Ok(built)
            })
            .collect::<TractResult<Vec<_>>>()?;
        let mut built: Vec<(usize, Built)> = built.into_iter().flatten().collect();
        built.sort_by_key(|(index, _)| *index);
        Ok(built.into_iter().map(|(_, built)| built).collect())
    }

    fn kernel(&self, draft: &Draft, sources: &Sources) -> TractResult<Built> {
        let shape = |id: BufferId| self.buffers[id].blocked;
        let source = draft.inputs.first().and_then(|&b| shape(b));
        let target = shape(draft.output);
        match &draft.work {
            Work::Ready(kernel) => Ok(Built::plain(kernel.clone())),
            Work::Conv(conv, from) => {
                let residual = draft.inputs.get(1).and_then(|&b| shape(b));
                let target = target.context("a map without blocks")?;
                weights::conv(self.isa, conv, source, from, residual, target, &draft.name, sources)
            }
            Work::Separable(pair) => {
                let residual = draft.inputs.get(1).and_then(|&b| shape(b));
                let (source, target) = source.zip(target).context("a map without blocks")?;
                let Pair { name, depthwise, pointwise } = &**pair;
                let (ops, names) = ([depthwise, pointwise], [name.as_str(), &draft.name]);
                weights::separable(self.isa, ops, source, residual, target, names, sources)
            }
            Work::Chain(links) => {
                let from = match links.first() {
                    Some((_, Work::Conv(_, from), _)) => from,
                    _ => &draft.shapes[0],
                };
                let target = target.context("a map without blocks")?;
                let links = links
                    .iter()
                    .map(|(name, work, shape)| match work {
                        Work::Conv(conv, _) => Ok(weights::Link { ops: vec![(name.as_str(), conv)], shape }),
                        Work::Separable(pair) => {
                            let ops = vec![(pair.name.as_str(), &pair.depthwise), (name.as_str(), &pair.pointwise)];
                            Ok(weights::Link { ops, shape })
                        }
                        _ => bail!("only convolutions make a chain"),
                    })
                    .collect::<TractResult<Vec<_>>>()?;
                weights::chain(self.isa, &links, source, from, target, sources)
            }
            Work::Deconv(deconv) => {
                let (source, target) = source.zip(target).context("a map without blocks")?;
                weights::deconv(self.isa, deconv, source, target, &draft.name, sources)
            }
            Work::Dense(dense) => weights::dense(self.isa, dense, draft.shapes[1][0], &draft.name, sources),
            Work::Tract(op, shapes) => {
                let model = tract_model(op, shapes)?;
                let kernel = Kernel::Tract { model, shapes: shapes.clone(), outputs: vec![] };
                Ok(Built { kernel, algorithm: format!("tract {}", op.op.name()), flops: 0 })
            }
        }
    }
}

/// A model of one node, for tract to run.
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
