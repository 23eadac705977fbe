//! Steps of convolutions, transposed convolutions and fully connected layers.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};

use crate::compile::draft::{BufferId, DraftOp, Placement, SeparablePair, StepDraft, ValueBuffers};
use crate::compile::{Compiler, weighted, weights};
use crate::graph::{Activation, Affine, ConvOp, DeconvOp, DenseOp, Layer, ValueId};
use crate::kernels::epilogue::Epilogue;
use crate::layout::blocked::Halo;
use crate::ops::blocked::lane_maps;
use crate::run::program::StepOp;

/// Minimum size of a map from which a depthwise convolution is fused with its 1x1 convolution, in bytes. Larger maps
/// leave the second-level cache before they are read.
const MIN_SEPARABLE_BYTES: usize = 256 << 10;

impl Compiler<'_> {
    pub(crate) fn conv(&mut self, layer: &Layer, conv: &ConvOp) -> TractResult<()> {
        let (input, output) = (layer.inputs[0], layer.outputs[0]);
        let (from, to) = (self.graph.shape(input).to_vec(), self.graph.shape(output).to_vec());
        let mut conv = conv.clone();
        let act = take_unsupported(&mut conv.act);
        let residual = if conv.residual { Some(self.blocked(layer.inputs[1])?) } else { None };
        let source = if weights::reads_planes(&conv) && self.value_buffers[input].row_major.is_some() {
            self.row_major(input)?
        } else if weights::is_foldable(&conv) {
            let (halo, fill) = weights::border(&conv, &from, &to);
            self.bordered(input, halo, fill)?
        } else {
            let affine = conv.input_affine.take().context("a convolution without an affine map is foldable")?;
            let source = self.blocked(input)?;
            let mapped = self.add_blocked_buffer(self.geometry(&from));
            let map = DraftOp::Ready(StepOp::Affine(lane_maps(&affine, None, self.lanes)));
            self.add_draft(&layer.name, "affine", map, vec![source], mapped, from.clone());
            let (halo, _) = weights::border(&conv, &from, &to);
            self.buffers[mapped].halo = halo;
            mapped
        };
        let result = if let Some((depthwise, sources)) = self.take_depthwise(input, source, &conv) {
            let inputs = sources.into_iter().chain(residual).collect();
            let DraftOp::Conv(op, from) = depthwise.work else { bail!("a depthwise convolution is expected") };
            let pair = SeparablePair { name: depthwise.name, depthwise: op, pointwise: conv };
            let step = self.drafts.len();
            let work = DraftOp::Separable(Box::new(pair));
            let result = self.add_step(&layer.name, "separable", work, inputs, output, true);
            self.drafts[step].shapes[0] = from;
            result
        } else {
            let inputs = [source].into_iter().chain(residual).collect();
            self.add_step(&layer.name, layer.op.name(), DraftOp::Conv(conv, from), inputs, output, true)
        };
        if let Some(act) = act {
            self.add_activation(result, &act, output);
        }
        Ok(())
    }

    /// Removes the last step and returns it with its inputs, if it is a depthwise convolution to fuse with `conv`. It
    /// computes `value` in `buffer`, and `conv` must be its only reader.
    fn take_depthwise(
        &mut self,
        value: ValueId,
        buffer: BufferId,
        conv: &ConvOp,
    ) -> Option<(StepDraft, Vec<BufferId>)> {
        let readers = self.graph.layers.iter().flat_map(|l| &l.inputs).chain(&self.graph.outputs);
        let planned = &self.buffers[buffer];
        let is_private = readers.filter(|&&v| v == value).count() == 1
            && buffer + 1 == self.buffers.len()
            && matches!(planned.placement, Placement::Arena)
            && planned.halo == Halo::default()
            && planned.floats * size_of::<f32>() >= MIN_SEPARABLE_BYTES;
        let last = self.drafts.last().filter(|draft| is_private && draft.output == buffer)?;
        let DraftOp::Conv(depthwise, _) = &last.work else { return None };
        if !weighted::separable_fits(depthwise, conv) {
            return None;
        }
        let draft = self.drafts.pop()?;
        self.buffers.pop();
        self.value_buffers[value] = ValueBuffers::default();
        draft.inputs.iter().for_each(|&b| self.buffers[b].reads -= 1);
        let inputs = draft.inputs.clone();
        Some((draft, inputs))
    }

    pub(crate) fn deconv(&mut self, layer: &Layer, deconv: &DeconvOp) -> TractResult<()> {
        let (input, output) = (layer.inputs[0], layer.outputs[0]);
        let halo = weighted::deconv_halo(deconv, self.graph.shape(input), self.graph.shape(output));
        let source = self.bordered(input, halo, None)?;
        let mut op = deconv.clone();
        let act = take_unsupported(&mut op.act);
        let result = self.add_step(&layer.name, "deconv", DraftOp::Deconv(op), vec![source], output, true);
        if let Some(act) = act {
            self.add_activation(result, &act, output);
        }
        Ok(())
    }

    pub(crate) fn dense(&mut self, layer: &Layer, dense: &DenseOp) -> TractResult<()> {
        let (input, output) = (layer.inputs[0], layer.outputs[0]);
        let source = self.row_major(input)?;
        let mut dense = dense.clone();
        let act = take_unsupported(&mut dense.act);
        let result = self.add_step(&layer.name, layer.op.name(), DraftOp::Dense(dense), vec![source], output, false);
        if let Some(act) = act {
            let shape = self.graph.shape(output).to_vec();
            let affine = Affine::identity(shape[1]);
            let work = DraftOp::Ready(StepOp::RowMajorAffine { shape, affine, act: Some(act) });
            self.add_step(&layer.name, "activation", work, vec![result], output, false);
        }
        Ok(())
    }
}

/// Removes and returns an activation that kernels cannot apply.
fn take_unsupported(act: &mut Option<Activation>) -> Option<Activation> {
    act.take_if(|act| !Epilogue::supports(Some(act)))
}
