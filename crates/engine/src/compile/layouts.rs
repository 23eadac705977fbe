//! The buffers of a value in the layout that a step needs; conversions are added where none exists yet.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::bail;

use crate::compile::Compiler;
use crate::compile::draft::{BufferId, ChannelRange, DraftOp, Placement};
use crate::graph::{Activation, Affine, ValueId};
use crate::layout::blocked::Halo;
use crate::ops::blocked::lane_maps;
use crate::ops::channels;
use crate::ops::elementwise::BlockActivation;
use crate::run::program::StepOp;

impl Compiler<'_> {
    pub(crate) fn is_blocked(&self, value: ValueId) -> bool {
        self.value_buffers[value].blocked.is_some()
    }

    /// Row-major buffer of `value`.
    pub(crate) fn row_major(&mut self, value: ValueId) -> TractResult<BufferId> {
        if let Some(buffer) = self.value_buffers[value].row_major {
            return Ok(buffer);
        }
        if let Some(constant) = &self.graph.values[value].constant {
            let buffer = self.add_buffer(None, constant.len(), Placement::Constant(constant.clone()));
            self.value_buffers[value].row_major = Some(buffer);
            return Ok(buffer);
        }
        let Some(ChannelRange { buffer, first, pending }) = self.value_buffers[value].blocked.clone() else {
            bail!("a value is used before it is computed");
        };
        let channels = self.graph.shape(value)[1];
        let act = BlockActivation::new(pending.as_ref(), 0, self.lanes);
        let work = DraftOp::Ready(StepOp::ToPlanes { first, channels, act });
        Ok(self.add_step("", "to planes", work, vec![buffer], value, false))
    }

    /// Blocked buffer with the activated channels of `value` only.
    pub(crate) fn blocked(&mut self, value: ValueId) -> TractResult<BufferId> {
        let shape = self.graph.shape(value).to_vec();
        let Some(ChannelRange { buffer, first, pending }) = self.value_buffers[value].blocked.clone() else {
            let source = self.row_major(value)?;
            return Ok(self.add_step("", "to blocks", DraftOp::Ready(StepOp::ToBlocked), vec![source], value, true));
        };
        let geometry = self.geometry(&shape);
        let has_all_channels = self.buffers[buffer].blocked.is_some_and(|b| b.c == geometry.c);
        let mut result = match first {
            0 if has_all_channels => buffer,
            first if first % self.lanes == 0 && shape[0] == 1 && self.has_zero_border(buffer) => {
                let part = self.add_buffer(Some(geometry), geometry.len(), Placement::Part(buffer, first));
                self.buffers[buffer].has_parts = true;
                self.buffers[part].first = self.buffers[buffer].first;
                part
            }
            first => {
                let map: Vec<(usize, usize)> = (first..first + shape[1]).map(|c| (0, c)).collect();
                let picks = channels::picks(self.isa, &map);
                self.add_step("", "channels", DraftOp::Ready(StepOp::Gather(picks)), vec![buffer], value, true)
            }
        };
        if let Some(act) = pending {
            result = self.add_activation(result, &act, value);
        }
        self.value_buffers[value].blocked = Some(ChannelRange { buffer: result, first: 0, pending: None });
        Ok(result)
    }

    /// Adds a step that applies an activation to the blocked buffer of `value`.
    pub(crate) fn add_activation(&mut self, buffer: BufferId, act: &Activation, value: ValueId) -> BufferId {
        let maps = lane_maps(&Affine::identity(self.graph.shape(value)[1]), Some(act), self.lanes);
        self.add_step("", "activation", DraftOp::Ready(StepOp::Affine(maps)), vec![buffer], value, true)
    }

    /// A blocked buffer that contains the activated channels of `value`, and the index of the first of them.
    pub(crate) fn channels(&mut self, value: ValueId) -> TractResult<(BufferId, usize)> {
        match &self.value_buffers[value].blocked {
            Some(ChannelRange { buffer, first, pending: None }) => Ok((*buffer, *first)),
            _ => Ok((self.blocked(value)?, 0)),
        }
    }

    /// Whether all readers of the border around the map expect zeros.
    pub(crate) fn has_zero_border(&self, buffer: BufferId) -> bool {
        self.buffers[buffer].fill.as_ref().is_none_or(Vec::is_empty)
    }

    /// Blocked buffer of `value` with a border of at least `halo` that holds `fill`, or zeros.
    pub(crate) fn bordered(&mut self, value: ValueId, halo: Halo, fill: Option<Vec<f32>>) -> TractResult<BufferId> {
        let mut buffer = self.blocked(value)?;
        if halo == Halo::default() {
            return Ok(buffer);
        }
        let fill = fill.unwrap_or_default();
        let planned = &self.buffers[buffer];
        let has_other_fill = planned.fill.as_ref().is_some_and(|f| *f != fill);
        let shares_memory = planned.has_parts || matches!(planned.placement, Placement::Part(..));
        if has_other_fill || shares_memory && !fill.is_empty() {
            // Another step needs a different border around the same map.
            let geometry = self.geometry(self.graph.shape(value));
            let copy = self.add_blocked_buffer(geometry);
            let map: Vec<(usize, usize)> = (0..geometry.c).map(|c| (0, c)).collect();
            let copy_all = StepOp::Gather(channels::picks(self.isa, &map));
            let shape = self.graph.shape(value).to_vec();
            self.add_draft("", "other border", DraftOp::Ready(copy_all), vec![buffer], copy, shape);
            buffer = copy;
        }
        let planned = &mut self.buffers[buffer];
        planned.fill = Some(fill);
        planned.halo = planned.halo.union(halo);
        Ok(buffer)
    }
}
