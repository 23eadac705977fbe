//! From fused layers to a program: selects the layout and the buffer of each value and the step that computes it.
//!
//! Maps stay channel-blocked from the first convolution to the last. A step that needs another layout is preceded by a
//! conversion, which later readers share. Concatenations are free if every operand can be computed directly in the
//! result; channel ranges and reshapes are views.

mod chains;
mod concat;
mod convolutions;
mod draft;
mod finish;
mod layers;
mod layouts;
mod weighted;
pub(crate) mod weights;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use self::draft::{BufferId, ChannelRange, DraftOp, Placement, PlannedBuffer, StepDraft, ValueBuffers};
use self::weights::WeightSources;
use crate::graph::{Graph, ValueId};
use crate::layout::blocked::{Blocked, Halo};
use crate::run::program::Program;
use crate::simd::Isa;

/// Compiles `graph` for `isa`.
pub(crate) fn compile(graph: &Graph, isa: Isa, sources: &WeightSources) -> TractResult<Program> {
    if let Some(value) = graph.values.iter().find(|v| v.shape.contains(&0)) {
        bail!("a tensor of shape {:?} is empty", value.shape);
    }
    let value_buffers = vec![ValueBuffers::default(); graph.values.len()];
    let mut compiler = Compiler { graph, isa, lanes: isa.lanes(), value_buffers, buffers: vec![], drafts: vec![] };
    let input = compiler.add_buffer(None, graph.values[graph.input].len(), Placement::Input);
    compiler.value_buffers[graph.input].row_major = Some(input);
    for layer in &graph.layers {
        compiler.layer(layer).with_context(|| format!("layer {}", layer.name))?;
    }
    compiler.outputs()?;
    compiler.finish(sources)
}

/// State of a compilation. Each file of this folder adds the methods of one subject.
struct Compiler<'a> {
    graph: &'a Graph,
    isa: Isa,
    lanes: usize,
    /// For each value of the graph, the buffers that hold it so far.
    value_buffers: Vec<ValueBuffers>,
    buffers: Vec<PlannedBuffer>,
    /// Steps in execution order.
    drafts: Vec<StepDraft>,
}

impl Compiler<'_> {
    fn add_buffer(&mut self, blocked: Option<Blocked>, floats: usize, placement: Placement) -> BufferId {
        let first = self.drafts.len();
        self.buffers.push(PlannedBuffer {
            blocked,
            floats,
            placement,
            halo: Halo::default(),
            fill: None,
            has_parts: false,
            first,
            last: first,
            reads: 0,
        });
        self.buffers.len() - 1
    }

    /// Adds a buffer for a blocked tensor of this geometry.
    fn add_blocked_buffer(&mut self, geometry: Blocked) -> BufferId {
        self.add_buffer(Some(geometry), geometry.len(), Placement::Arena)
    }

    /// Blocked geometry of a shape `[n, c, h, w]`, without halo.
    fn geometry(&self, shape: &[usize]) -> Blocked {
        Blocked::new(shape[0], shape[1], shape[2], shape[3], Halo::default(), self.lanes)
    }

    /// Adds a step that computes `value` into a new buffer, blocked or row-major.
    fn add_step(
        &mut self,
        name: &str,
        op: &'static str,
        work: DraftOp,
        inputs: Vec<BufferId>,
        value: ValueId,
        blocked: bool,
    ) -> BufferId {
        let shape = self.graph.shape(value).to_vec();
        let geometry = blocked.then(|| self.geometry(&shape));
        let output = self.add_buffer(geometry, shape.iter().product(), Placement::Arena);
        let buffers = &mut self.value_buffers[value];
        match blocked {
            true => buffers.blocked = Some(ChannelRange { buffer: output, first: 0, pending: None }),
            false => buffers.row_major = Some(output),
        }
        self.add_draft(name, op, work, inputs, output, shape);
        output
    }

    /// Adds a step that writes `shape` values to the buffer `output`.
    fn add_draft(
        &mut self,
        name: &str,
        op: &'static str,
        work: DraftOp,
        inputs: Vec<BufferId>,
        output: BufferId,
        shape: Vec<usize>,
    ) {
        let step = self.drafts.len();
        for &input in &inputs {
            let buffer = &mut self.buffers[input];
            buffer.last = buffer.last.max(step);
            buffer.reads += 1;
        }
        self.buffers[output].first = step;
        self.buffers[output].last = self.buffers[output].last.max(step);
        let from = inputs
            .first()
            .map(|&b| self.buffers[b].blocked.map_or(vec![self.buffers[b].floats], |s| vec![s.n, s.c, s.h, s.w]));
        let shapes = [from.unwrap_or_default(), shape];
        self.drafts.push(StepDraft { name: name.into(), op, work, inputs, output, more_outputs: vec![], shapes });
    }
}
