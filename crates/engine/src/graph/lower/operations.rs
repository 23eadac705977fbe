//! Selection of the engine's operation for a node of tract.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{AxisOp, DimLike};
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::nn::resize::is_pixel_replication;
use tract_onnx::tract_core::ops::nn::{
    DataFormat, Interpolator, NearestUpsample, Reduce, Reducer, Resize, Softmax, SoftmaxKind,
};

use crate::graph::lower::element_wise::element_wise;
use crate::graph::lower::{LoweredOperand, Lowering};
use crate::graph::{Op, PoolKind, PoolOp, ValueId};

impl Lowering<'_> {
    /// The engine's operation for `node` with its operands; `None` if the engine has no such operation.
    pub(crate) fn known(
        &mut self,
        node: &TypedNode,
        inputs: &[LoweredOperand],
    ) -> TractResult<Option<(Op, Vec<ValueId>)>> {
        let outlet = OutletId::new(node.id, 0);
        let fact = self.model.outlet_fact(outlet)?;
        if node.outputs.len() != 1 || fact.datum_type != f32::datum_type() {
            return Ok(None);
        }
        let Some(first) = inputs.iter().find_map(|i| if let LoweredOperand::Value(v) = i { Some(*v) } else { None })
        else {
            return Ok(None);
        };
        if !self.graph.values[first].is_f32 && !node.op_is::<Iff>() {
            return Ok(None);
        }
        let unary = |op: Op| Ok(Some((op, vec![first])));
        if let Some(op) = node.op_as::<Conv>() {
            return Ok(self.conv(op, inputs)?.map(|op| (Op::Conv(op), vec![first])));
        } else if let Some(op) = node.op_as::<Deconv>() {
            return Ok(self.deconv(op, inputs)?.map(|op| (Op::Deconv(op), vec![first])));
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            if let Some(norm) = self.instance_norm(node)? {
                return Ok(Some(norm));
            }
            return self.binary(op.0.name(), inputs, &self.shape(outlet)?);
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            return match element_wise(op) {
                Some(op) => unary(op),
                None => Ok(None),
            };
        } else if let Some(op) = node.op_as::<AxisOp>() {
            return unary(match op {
                AxisOp::Move(from, to) => Op::Transpose { perm: move_axis(fact.rank(), *from, *to) },
                _ => Op::Reshape,
            });
        } else if node.op_is::<Iff>() {
            return self.prelu(node);
        } else if let Some(op) = node.op_as::<NearestUpsample>() {
            return match op.scales[..] {
                [1, 1, y, x] => unary(Op::Upsample { factor: [y, x] }),
                _ => Ok(None),
            };
        } else if let Some(op) = node.op_as::<Resize>() {
            let factor = pixel_repetition(op, self.graph.shape(first), &self.shape(outlet)?);
            return match factor {
                Some(factor) => unary(Op::Upsample { factor }),
                None => Ok(None),
            };
        } else if let Some(op) = node.op_as::<TypedConcat>() {
            let operands = inputs.iter().map(|i| self.operand_value(i)).collect::<TractResult<Vec<_>>>()?;
            return Ok(Some((Op::Concat { axis: op.axis }, operands)));
        } else if let Some(op) = node.op_as::<Slice>() {
            return match (op.start.to_usize(), op.end.to_usize()) {
                (Ok(start), Ok(end)) => unary(Op::Slice { axis: op.axis, start, end }),
                _ => Ok(None),
            };
        } else if let Some(op) = node.op_as::<MaxPool>() {
            let pool = (op.with_index_outputs.is_none()).then(|| self.pool(&op.pool_spec, PoolKind::Max, first));
            return Ok(pool.flatten().map(|p| (Op::Pool(p), vec![first])));
        } else if let Some(op) = node.op_as::<SumPool>() {
            let kind = match op.normalize {
                true => PoolKind::Average { counts_padding: op.count_include_pad },
                false => PoolKind::Sum,
            };
            return Ok(self.pool(&op.pool_spec, kind, first).map(|p| (Op::Pool(p), vec![first])));
        } else if let Some(op) = node.op_as::<Reduce>() {
            let planes = self.graph.shape(first).len() == 4 && op.axes[..] == [2, 3];
            if planes && op.reducer == Reducer::Sum {
                return unary(Op::GlobalSum);
            }
        } else if let Some(op) = node.op_as::<Softmax>() {
            if op.quant_output_dt.is_none() && matches!(op.kind, SoftmaxKind::Softmax) {
                return unary(Op::Softmax { axes: op.axes.to_vec() });
            }
        } else if let Some(op) = node.op_as::<EinSum>() {
            return Ok(self.dense(op, inputs)?.map(|op| (Op::Dense(op), vec![first])));
        }
        Ok(None)
    }

    fn pool(&self, spec: &PoolSpec, kind: PoolKind, input: ValueId) -> Option<PoolOp> {
        let shape = self.graph.shape(input);
        if spec.data_format != DataFormat::NCHW || shape.len() != 4 || spec.dilations().iter().any(|&d| d != 1) {
            return None;
        }
        let padding = spec.computed_padding(&shape[2..]);
        Some(PoolOp {
            kind,
            kernel_size: spec.kernel_shape[..].try_into().ok()?,
            stride: spec.strides()[..].try_into().ok()?,
            pad: [padding[0].pad_before, padding[1].pad_before],
        })
    }
}

/// Factors by which a nearest-neighbor resize from shape `from` to shape `to` repeats rows and columns; `None` if it
/// does not repeat all pixels equally.
fn pixel_repetition(op: &Resize, from: &[usize], to: &[usize]) -> Option<[usize; 2]> {
    if op.interpolator != Interpolator::Nearest || from.len() != 4 || from[..2] != to[..2] {
        return None;
    }
    let factor = |axis: usize| {
        let factor = to[axis] / from[axis];
        let repeats = || is_pixel_replication(&op.plan_axis(factor as f32, from[axis], to[axis]), factor);
        (factor * from[axis] == to[axis] && (factor == 1 || repeats())).then_some(factor)
    };
    Some([factor(2)?, factor(3)?])
}

/// The permutation that moves an axis.
fn move_axis(rank: usize, from: usize, to: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    let axis = perm.remove(from);
    perm.insert(to, axis);
    perm
}
