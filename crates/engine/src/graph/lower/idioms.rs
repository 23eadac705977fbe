//! Recognition of operations that tract represents as several nodes.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::Square;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

use crate::graph::lower::{LoweredOperand, Lowering, floats};
use crate::graph::{Activation, Op, ValueId};

impl Lowering<'_> {
    /// Operation and inputs of a node, if the operation is a `T`.
    fn op_inputs<T: TypedOp>(&self, outlet: OutletId) -> Option<(&T, &[OutletId])> {
        let node = &self.model.nodes[outlet.node];
        node.op_as::<T>().map(|op| (op, node.inputs.as_slice()))
    }

    /// Inputs of a binary operation, if it has this name.
    fn bin_inputs(&self, outlet: OutletId, name: &str) -> Option<(OutletId, OutletId)> {
        let (op, inputs) = self.op_inputs::<TypedBinOp>(outlet)?;
        (op.0.name() == name && inputs.len() == 2).then(|| (inputs[0], inputs[1]))
    }

    /// PRelu, which tract represents as `if 0 > x then x * slope else x`.
    pub(crate) fn prelu(&mut self, node: &TypedNode) -> TractResult<Option<(Op, Vec<ValueId>)>> {
        let [test, scaled, x] = node.inputs[..] else { return Ok(None) };
        let comparison = &self.model.nodes[test.node];
        let is_negative = &*comparison.op.name() == "GT"
            && comparison.inputs.len() == 2
            && comparison.inputs[1] == x
            && matches!(&self.operands[&comparison.inputs[0]], LoweredOperand::Constant(zero)
                if floats(zero)?.iter().all(|&z| z == 0.0));
        let Some((a, slope)) = self.bin_inputs(scaled, "Mul").filter(|_| is_negative) else { return Ok(None) };
        let (LoweredOperand::Value(value), LoweredOperand::Constant(slope)) =
            (&self.operands[&x], &self.operands[&slope])
        else {
            return Ok(None);
        };
        if a != x {
            return Ok(None);
        }
        let shape = self.graph.shape(*value);
        let values = floats(slope)?;
        let along_channels = match slope.shape() {
            dims if slope.len() == 1 => dims.iter().all(|&d| d == 1),
            dims => dims.len() == shape.len() && dims.get(1) == Some(&slope.len()) && shape[1] == slope.len(),
        };
        if !along_channels {
            return Ok(None);
        }
        let act = match values[..] {
            [slope] => Activation::Leaky(slope),
            _ => Activation::PRelu(values),
        };
        Ok(Some((Op::Activate(act), vec![*value])))
    }

    /// Instance normalization, which tract represents as `d * rsqrt(mean(d^2) + eps)` with `d = x - mean(x)`.
    pub(crate) fn instance_norm(&mut self, node: &TypedNode) -> TractResult<Option<(Op, Vec<ValueId>)>> {
        let find = || -> Option<(OutletId, OutletId)> {
            let (diff, rsqrt) = self.bin_inputs(OutletId::new(node.id, 0), "Mul")?;
            let (x, mean) = self.bin_inputs(diff, "Sub")?;
            let (op, inputs) = self.op_inputs::<ElementWiseOp>(rsqrt)?;
            if &*op.0.name() != "Rsqrt" {
                return None;
            }
            let (variance, epsilon) = self.bin_inputs(inputs[0], "Add")?;
            let squares = self.mean_over_pixels(variance)?;
            let (square, inputs) = self.op_inputs::<ElementWiseOp>(squares)?;
            let matches = square.0.is::<Square>() && inputs[0] == diff && self.mean_over_pixels(mean)? == x;
            matches.then_some((x, epsilon))
        };
        let Some((x, epsilon)) = find() else { return Ok(None) };
        let (LoweredOperand::Value(x), LoweredOperand::Constant(epsilon)) =
            (&self.operands[&x], &self.operands[&epsilon])
        else {
            return Ok(None);
        };
        let epsilon = floats(epsilon)?;
        Ok((epsilon.len() == 1).then(|| (Op::InstanceNorm { epsilon: epsilon[0] }, vec![*x])))
    }

    /// The operand of a mean over all axes except the first two: a sum divided by the number of elements.
    fn mean_over_pixels(&self, outlet: OutletId) -> Option<OutletId> {
        let (sum, size) = self.bin_inputs(outlet, "Div")?;
        let (reduce, inputs) = self.op_inputs::<Reduce>(sum)?;
        let shape = self.shape(inputs[0]).ok()?;
        let LoweredOperand::Constant(size) = &self.operands[&size] else { return None };
        let pixels = shape.get(2..)?.iter().product::<usize>() as f32;
        let whole = reduce.reducer == Reducer::Sum && reduce.axes.iter().copied().eq(2..shape.len());
        (whole && floats(size).ok()? == [pixels]).then_some(inputs[0])
    }
}
