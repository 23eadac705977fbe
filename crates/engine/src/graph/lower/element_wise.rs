//! Element-wise operations of one and two operands.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::nn::{HardSwish, LeakyRelu, Sigmoid};

use crate::graph::lower::{LoweredOperand, Lowering, floats};
use crate::graph::{Activation, Affine, BinaryKind, Op, UnaryKind, ValueId};

impl Lowering<'_> {
    pub(crate) fn binary(
        &mut self,
        name: &str,
        inputs: &[LoweredOperand],
        shape: &[usize],
    ) -> TractResult<Option<(Op, Vec<ValueId>)>> {
        let kind = match name {
            "Add" => BinaryKind::Add,
            "Sub" => BinaryKind::Sub,
            "Mul" => BinaryKind::Mul,
            "Div" => BinaryKind::Div,
            "Max" => BinaryKind::Max,
            "Min" => BinaryKind::Min,
            _ => return Ok(None),
        };
        let [a, b] = inputs else { return Ok(None) };
        let constant = match (a, b) {
            (LoweredOperand::Value(x), LoweredOperand::Value(_)) => {
                let b = self.operand_value(b)?;
                if *x == b && kind == BinaryKind::Mul {
                    return Ok(Some((Op::Unary(UnaryKind::Square), vec![*x])));
                }
                return Ok(Some((Op::Binary { kind, act: None }, vec![*x, b])));
            }
            (LoweredOperand::Value(x), constant) => Some((*x, self.tensor(constant)?, false)),
            (constant, LoweredOperand::Value(x)) => Some((*x, self.tensor(constant)?, true)),
            _ => None,
        };
        let Some((x, tensor, constant_first)) = constant else { return Ok(None) };
        if self.graph.shape(x) == shape
            && let Some(op) = by_channel(kind, shape, &tensor, constant_first)?
        {
            return Ok(Some((op, vec![x])));
        }
        let operands = [a, b].into_iter().map(|o| self.operand_value(o)).collect::<TractResult<Vec<_>>>()?;
        Ok(Some((Op::Binary { kind, act: None }, operands)))
    }
}

/// The affine map or clip that is equal to a binary operation with a constant; `None` unless the constant has one
/// element, or one for each channel.
fn by_channel(kind: BinaryKind, shape: &[usize], constant: &Tensor, constant_first: bool) -> TractResult<Option<Op>> {
    let dims = constant.shape();
    let uniform = constant.len() == 1;
    let along_channels =
        shape.len() >= 2 && dims.len() == shape.len() && dims[1] == shape[1] && constant.len() == shape[1];
    if shape.len() < 2 || constant.datum_type() != f32::datum_type() || !(uniform || along_channels) {
        return Ok(None);
    }
    let values = floats(constant)?;
    let limit = |min: f32, max: f32| Ok(uniform.then_some(Op::Activate(Activation::Clip { min, max })));
    let values = if uniform { vec![values[0]; shape[1]] } else { values };
    let (ones, zeros) = (vec![1.0; shape[1]], vec![0.0; shape[1]]);
    let affine = match (kind, constant_first) {
        (BinaryKind::Max, _) => return limit(values[0], f32::INFINITY),
        (BinaryKind::Min, _) => return limit(f32::NEG_INFINITY, values[0]),
        (BinaryKind::Add, _) => Affine { scale: ones, shift: values },
        (BinaryKind::Mul, _) => Affine { scale: values, shift: zeros },
        (BinaryKind::Sub, false) => Affine { scale: ones, shift: values.iter().map(|v| -v).collect() },
        (BinaryKind::Sub, true) => Affine { scale: vec![-1.0; shape[1]], shift: values },
        (BinaryKind::Div, false) => Affine { scale: values.iter().map(|v| 1.0 / v).collect(), shift: zeros },
        (BinaryKind::Div, true) => return Ok(None),
    };
    Ok(Some(Op::Affine { affine, act: None }))
}

/// The engine's operation for an element-wise operation of tract.
pub(crate) fn element_wise(op: &ElementWiseOp) -> Option<Op> {
    if op.0.is::<Sigmoid>() {
        return Some(Op::Activate(Activation::Sigmoid));
    }
    if let Some(leaky) = op.0.downcast_ref::<LeakyRelu>() {
        return Some(Op::Activate(Activation::Leaky(leaky.alpha)));
    }
    if op.0.is::<HardSwish>() {
        return Some(Op::Unary(UnaryKind::HardSwish));
    }
    Some(match op.0.name().as_str() {
        "Silu" => Op::Activate(Activation::Silu),
        "Square" => Op::Unary(UnaryKind::Square),
        "Sqrt" => Op::Unary(UnaryKind::Sqrt),
        "Rsqrt" => Op::Unary(UnaryKind::Rsqrt),
        "Recip" => Op::Unary(UnaryKind::Recip),
        "Exp" => Op::Unary(UnaryKind::Exp),
        "Ln" => Op::Unary(UnaryKind::Ln),
        "Tanh" => Op::Unary(UnaryKind::Tanh),
        "Neg" => Op::Unary(UnaryKind::Neg),
        "Abs" => Op::Unary(UnaryKind::Abs),
        _ => return None,
    })
}
