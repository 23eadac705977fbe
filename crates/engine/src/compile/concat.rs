//! Concatenations: free where every operand can be computed in its place.

use tract_onnx::prelude::*;

use crate::compile::{BufferId, Channels, Compiler, Home, Work};
use crate::graph::Layer;
use crate::ops::channels;
use crate::run::program::Kernel;

impl Compiler<'_> {
    pub(crate) fn concat(&mut self, layer: &Layer, axis: usize) -> TractResult<()> {
        let output = layer.outputs[0];
        let shape = self.graph.shape(output).to_vec();
        let (name, op) = (layer.name.as_str(), layer.op.name());
        if axis != 1 || shape.len() != 4 || !layer.inputs.iter().any(|&v| self.is_blocked(v)) {
            let lengths = layer.inputs.iter().map(|&v| self.graph.shape(v)[axis]).collect();
            let inner = shape[axis + 1..].iter().product();
            let inputs = layer.inputs.iter().map(|&v| self.planar(v)).collect::<TractResult<Vec<_>>>()?;
            self.step(name, op, Work::Ready(Kernel::PlanarConcat { lengths, inner }), inputs, output, false);
            return Ok(());
        }
        let operands = layer.inputs.iter().map(|&v| self.channels(v)).collect::<TractResult<Vec<_>>>()?;
        let channels: Vec<usize> = layer.inputs.iter().map(|&v| self.graph.shape(v)[1]).collect();
        if self.concat_in_place(&operands, &channels, &shape) {
            let geometry = self.geometry(&shape);
            let whole = self.buffer(Some(geometry), geometry.len(), Home::Arena);
            let mut first = 0;
            for (&(part, _), channels) in operands.iter().zip(&channels) {
                self.buffers[part].home = Home::Part(whole, first);
                self.buffers[whole].whole = true;
                first += channels;
            }
            self.found[output].blocked = Some(Channels { buffer: whole, first: 0, pending: None });
            return Ok(());
        }
        let map: Vec<(usize, usize)> = operands
            .iter()
            .zip(&channels)
            .enumerate()
            .flat_map(|(source, ((_, first), channels))| (*first..first + channels).map(move |c| (source, c)))
            .collect();
        let kernel = Kernel::Gather(channels::picks(self.isa, &map));
        let inputs = operands.iter().map(|(buffer, _)| *buffer).collect();
        self.step(name, op, Work::Ready(kernel), inputs, output, true);
        Ok(())
    }

    /// Whether the operands of a concatenation can be computed right where they belong.
    fn concat_in_place(&self, operands: &[(BufferId, usize)], channels: &[usize], shape: &[usize]) -> bool {
        let (last, head) = channels.split_last().unwrap_or((&0, &[]));
        let aligned = head.iter().all(|c| c % self.lanes == 0) && *last > 0 && shape[0] == 1;
        let own = |&(buffer, first): &(BufferId, usize), channels: usize| {
            let b = &self.buffers[buffer];
            first == 0
                && self.has_plain_border(buffer)
                && matches!(b.home, Home::Arena)
                && b.blocked.is_some_and(|s| s.c == channels)
        };
        let distinct = operands.iter().enumerate().all(|(i, a)| operands[..i].iter().all(|b| a.0 != b.0));
        // A buffer that holds parts already is written by several steps: fine, it moves as a whole.
        aligned && distinct && operands.iter().zip(channels).all(|(o, &c)| own(o, c))
    }
}
