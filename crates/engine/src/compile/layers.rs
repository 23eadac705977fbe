//! Steps of all layers except convolutions, matrix products and concatenations.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::compile::Compiler;
use crate::compile::draft::{ChannelRange, DraftOp, Placement};
use crate::graph::{Activation, Affine, BinaryKind, GroupNormOp, Layer, Op, TractOp, ValueId};
use crate::ops::blocked::lane_maps;
use crate::ops::channels;
use crate::ops::elementwise::BlockActivation;
use crate::run::program::StepOp;

impl Compiler<'_> {
    /// Adds the steps of one layer.
    pub(crate) fn layer(&mut self, layer: &Layer) -> TractResult<()> {
        let (input, output) = (layer.inputs[0], layer.outputs[0]);
        match &layer.op {
            Op::Conv(conv) => self.conv(layer, conv)?,
            Op::Deconv(deconv) => self.deconv(layer, deconv)?,
            Op::Dense(dense) => self.dense(layer, dense)?,
            Op::Pool(pool) => self.blocked_step(layer, StepOp::Pool(pool.clone()))?,
            Op::GlobalSum => self.blocked_step(layer, StepOp::GlobalSum)?,
            Op::Upsample { factor } => self.blocked_step(layer, StepOp::Upsample(*factor))?,
            Op::GroupNorm(norm) => self.blocked_step(layer, StepOp::GroupNorm(norm.clone()))?,
            Op::Activate(act) if self.is_blocked(input) && act.is_uniform() && self.graph.is_only_copied(output) => {
                self.postpone_activation(act, input, output)?;
            }
            Op::Activate(act) => {
                let channels = self.graph.shape(output).get(1).copied().unwrap_or(1);
                self.affine(layer, Affine::identity(channels), Some(act))?;
            }
            Op::Affine { affine, act } => self.affine(layer, affine.clone(), act.as_ref())?,
            Op::Unary(kind) if self.is_blocked(input) => self.blocked_step(layer, StepOp::Unary(*kind))?,
            Op::Unary(kind) => self.row_major_step(layer, StepOp::RowMajorUnary(*kind))?,
            Op::Binary { kind, act } => self.binary(layer, *kind, act.as_ref())?,
            Op::Concat { axis } => self.concat(layer, *axis)?,
            Op::Slice { axis: 1, start, .. } if self.is_blocked(input) => {
                let range = self.value_buffers[input].blocked.clone().context("the value is blocked")?;
                self.value_buffers[output].blocked = Some(ChannelRange { first: range.first + start, ..range });
            }
            Op::Slice { axis, start, end } => {
                let inner = self.graph.shape(output)[axis + 1..].iter().product();
                let from = self.graph.shape(input)[*axis];
                self.row_major_step(layer, StepOp::RowMajorSlice { from, range: *start..*end, inner })?;
            }
            Op::Channels { map } => self.select_channels(layer, map)?,
            Op::Shuffle { .. } => bail!("a shuffle was not rewritten"),
            Op::Reshape => {
                let buffer = self.row_major(input)?;
                self.value_buffers[output].row_major = Some(buffer);
            }
            Op::Pixels { groups } => self.pixels(layer, *groups)?,
            Op::Transpose { perm } => {
                let shape = self.graph.shape(input).to_vec();
                self.row_major_step(layer, StepOp::Transpose { shape, perm: perm.clone() })?;
            }
            Op::Softmax { axes } => {
                let range = axes.iter().copied().min().unwrap_or(0)..axes.iter().copied().max().unwrap_or(0) + 1;
                if range.len() != axes.len() {
                    bail!("softmax over axes that are not adjacent");
                }
                let shape = self.graph.shape(output).to_vec();
                self.row_major_step(layer, StepOp::Softmax { shape, axes: range })?;
            }
            Op::InstanceNorm { epsilon } => self.instance_norm(layer, *epsilon)?,
            Op::Tract(tract) => self.tract(layer, tract)?,
        }
        Ok(())
    }

    /// Adds a step from the blocked input of a layer to its blocked output.
    fn blocked_step(&mut self, layer: &Layer, op: StepOp) -> TractResult<()> {
        let source = self.blocked(layer.inputs[0])?;
        self.add_step(&layer.name, layer.op.name(), DraftOp::Ready(op), vec![source], layer.outputs[0], true);
        Ok(())
    }

    /// Adds a step from the row-major input of a layer to its row-major output.
    fn row_major_step(&mut self, layer: &Layer, op: StepOp) -> TractResult<()> {
        let source = self.row_major(layer.inputs[0])?;
        self.add_step(&layer.name, layer.op.name(), DraftOp::Ready(op), vec![source], layer.outputs[0], false);
        Ok(())
    }

    /// Leaves an activation to the steps that copy the value into another layout.
    fn postpone_activation(&mut self, act: &Activation, input: ValueId, output: ValueId) -> TractResult<()> {
        let mut range = self.value_buffers[input].blocked.clone().context("the value is blocked")?;
        if range.pending.is_some() {
            range = ChannelRange { buffer: self.blocked(input)?, first: 0, pending: None };
        }
        self.value_buffers[output].blocked = Some(ChannelRange { pending: Some(act.clone()), ..range });
        Ok(())
    }

    fn affine(&mut self, layer: &Layer, affine: Affine, act: Option<&Activation>) -> TractResult<()> {
        if self.is_blocked(layer.inputs[0]) {
            return self.blocked_step(layer, StepOp::Affine(lane_maps(&affine, act, self.lanes)));
        }
        let shape = self.graph.shape(layer.outputs[0]).to_vec();
        self.row_major_step(layer, StepOp::RowMajorAffine { shape, affine, act: act.cloned() })
    }

    fn binary(&mut self, layer: &Layer, kind: BinaryKind, act: Option<&Activation>) -> TractResult<()> {
        let (&[mut a, mut b], output) = (&layer.inputs[..2].try_into().context("two operands")?, layer.outputs[0]);
        let shape = self.graph.shape(output).to_vec();
        let (name, op) = (layer.name.as_str(), layer.op.name());
        let is_pixel = |v: ValueId| shape.len() == 4 && self.graph.shape(v) == [shape[0], shape[1], 1, 1];
        if kind == BinaryKind::Mul && is_pixel(a) && !is_pixel(b) {
            (a, b) = (b, a);
        }
        let fits = self.graph.shape(a) == shape
            && (self.graph.shape(b) == shape || kind == BinaryKind::Mul && is_pixel(b))
            && shape.len() == 4;
        if fits && (self.is_blocked(a) || self.is_blocked(b)) {
            let inputs = vec![self.blocked(a)?, self.blocked(b)?];
            let acts =
                (0..shape[1].div_ceil(self.lanes)).map(|block| BlockActivation::new(act, block, self.lanes)).collect();
            self.add_step(name, op, DraftOp::Ready(StepOp::Binary { kind, acts }), inputs, output, true);
        } else {
            let shapes = [a, b].map(|v| self.graph.shape(v).to_vec());
            if shapes.iter().any(|s| s.len() != shape.len()) {
                bail!("operands of different rank");
            }
            let inputs = vec![self.row_major(a)?, self.row_major(b)?];
            let work = DraftOp::Ready(StepOp::RowMajorBinary { kind, shapes, shape, act: act.cloned() });
            self.add_step(name, op, work, inputs, output, false);
        }
        Ok(())
    }

    /// Copies channel `map[i].1` of operand `map[i].0` to channel `i`.
    fn select_channels(&mut self, layer: &Layer, map: &[(usize, usize)]) -> TractResult<()> {
        let operands = layer.inputs.iter().map(|&v| self.channels(v)).collect::<TractResult<Vec<_>>>()?;
        let map: Vec<(usize, usize)> = map.iter().map(|&(source, c)| (source, operands[source].1 + c)).collect();
        let work = DraftOp::Ready(StepOp::Gather(channels::picks(self.isa, &map)));
        let inputs = operands.iter().map(|o| o.0).collect();
        self.add_step(&layer.name, layer.op.name(), work, inputs, layer.outputs[0], true);
        Ok(())
    }

    /// Channels last, in `groups`: see [`Op::Pixels`].
    fn pixels(&mut self, layer: &Layer, groups: usize) -> TractResult<()> {
        let input = layer.inputs[0];
        let (first, buffer, pending) = match self.value_buffers[input].blocked.clone() {
            Some(ChannelRange { buffer, first, pending }) => (first, buffer, pending),
            None => (0, self.blocked(input)?, None),
        };
        let act = BlockActivation::new(pending.as_ref(), 0, self.lanes);
        let per_group = self.graph.shape(input)[1] / groups;
        let work = DraftOp::Ready(StepOp::ToPixels { first, groups: [groups, per_group], act });
        self.add_step(&layer.name, layer.op.name(), work, vec![buffer], layer.outputs[0], false);
        Ok(())
    }

    /// Normalizes `[n, c, length]` as a map of one row, with one group for each channel.
    fn instance_norm(&mut self, layer: &Layer, epsilon: f32) -> TractResult<()> {
        let (name, op) = (layer.name.as_str(), layer.op.name());
        let from = self.graph.shape(layer.inputs[0]).to_vec();
        let channels = from[1];
        let rows = vec![from[0], channels, 1, from[2..].iter().product()];
        let geometry = self.geometry(&rows);
        let source = self.row_major(layer.inputs[0])?;
        let blocks = self.add_blocked_buffer(geometry);
        self.add_draft(name, "to blocks", DraftOp::Ready(StepOp::ToBlocked), vec![source], blocks, rows.clone());
        let norm = GroupNormOp { groups: channels, epsilon, affine: Affine::identity(channels), act: None };
        let result = self.add_blocked_buffer(geometry);
        self.add_draft(name, op, DraftOp::Ready(StepOp::GroupNorm(norm)), vec![blocks], result, rows);
        let to_planes = StepOp::ToPlanes { first: 0, channels, act: BlockActivation::Identity };
        self.add_step(name, "to planes", DraftOp::Ready(to_planes), vec![result], layer.outputs[0], false);
        Ok(())
    }

    fn tract(&mut self, layer: &Layer, tract: &TractOp) -> TractResult<()> {
        if layer.inputs.iter().chain(&layer.outputs).any(|&v| !self.graph.values[v].is_f32) {
            bail!("{} has operands or results that are not f32", tract.op.name());
        }
        let inputs = layer.inputs.iter().map(|&v| self.row_major(v)).collect::<TractResult<Vec<_>>>()?;
        let shapes = layer.inputs.iter().map(|&v| self.graph.shape(v).to_vec()).collect();
        let work = DraftOp::Tract(tract.clone(), shapes);
        self.add_step(&layer.name, "tract", work, inputs, layer.outputs[0], false);
        let step = self.drafts.len() - 1;
        for &output in &layer.outputs[1..] {
            let buffer = self.add_buffer(None, self.graph.values[output].len(), Placement::Arena);
            self.buffers[buffer].first = step;
            self.buffers[buffer].last = step;
            self.value_buffers[output].row_major = Some(buffer);
            self.drafts[step].more_outputs.push(buffer);
        }
        Ok(())
    }
}
