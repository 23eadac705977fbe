//! Concatenations, which are free if every operand can be computed directly in the result.

use tract_onnx::prelude::*;

use crate::compile::Compiler;
use crate::compile::draft::{BufferId, ChannelRange, DraftOp, Placement};
use crate::graph::Layer;
use crate::ops::channels;
use crate::run::program::StepOp;

impl Compiler<'_> {
    pub(crate) fn concat(&mut self, layer: &Layer, axis: usize) -> TractResult<()> {
        let output = layer.outputs[0];
        let shape = self.graph.shape(output).to_vec();
        let (name, op) = (layer.name.as_str(), layer.op.name());
        if axis != 1 || shape.len() != 4 || !layer.inputs.iter().any(|&v| self.is_blocked(v)) {
            let lengths = layer.inputs.iter().map(|&v| self.graph.shape(v)[axis]).collect();
            let inner = shape[axis + 1..].iter().product();
            let inputs = layer.inputs.iter().map(|&v| self.row_major(v)).collect::<TractResult<Vec<_>>>()?;
            let work = DraftOp::Ready(StepOp::RowMajorConcat { lengths, inner });
            self.add_step(name, op, work, inputs, output, false);
            return Ok(());
        }
        let operands = layer.inputs.iter().map(|&v| self.channels(v)).collect::<TractResult<Vec<_>>>()?;
        let channels: Vec<usize> = layer.inputs.iter().map(|&v| self.graph.shape(v)[1]).collect();
        if self.can_concat_in_place(&operands, &channels, &shape) {
            let whole = self.add_blocked_buffer(self.geometry(&shape));
            let mut first = 0;
            for (&(part, _), channels) in operands.iter().zip(&channels) {
                self.buffers[part].placement = Placement::Part(whole, first);
                self.buffers[whole].has_parts = true;
                first += channels;
            }
            self.value_buffers[output].blocked = Some(ChannelRange { buffer: whole, first: 0, pending: None });
            return Ok(());
        }
        let map: Vec<(usize, usize)> = operands
            .iter()
            .zip(&channels)
            .enumerate()
            .flat_map(|(source, ((_, first), channels))| (*first..first + channels).map(move |c| (source, c)))
            .collect();
        let work = DraftOp::Ready(StepOp::Gather(channels::picks(self.isa, &map)));
        let inputs = operands.iter().map(|(buffer, _)| *buffer).collect();
        self.add_step(name, op, work, inputs, output, true);
        Ok(())
    }

    /// Whether each operand has a buffer of its own that can become a part of the result.
    fn can_concat_in_place(&self, operands: &[(BufferId, usize)], channels: &[usize], shape: &[usize]) -> bool {
        let (last, head) = channels.split_last().unwrap_or((&0, &[]));
        let is_aligned = head.iter().all(|c| c % self.lanes == 0) && *last > 0 && shape[0] == 1;
        let is_whole = |&(buffer, first): &(BufferId, usize), channels: usize| {
            let planned = &self.buffers[buffer];
            first == 0
                && self.has_zero_border(buffer)
                && matches!(planned.placement, Placement::Arena)
                && planned.blocked.is_some_and(|s| s.c == channels)
        };
        let is_distinct = operands.iter().enumerate().all(|(i, a)| operands[..i].iter().all(|b| a.0 != b.0));
        // A buffer that has parts can become a part, too: it moves together with them.
        is_aligned && is_distinct && operands.iter().zip(channels).all(|(o, &c)| is_whole(o, c))
    }
}
