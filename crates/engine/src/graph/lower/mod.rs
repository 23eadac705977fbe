//! From tract's typed graph to the engine's layers, node by node.
//!
//! tract has done the reading: operator sets, default attributes, shape arithmetic. The graph is taken before tract's own
//! rewrites ("declutter"), where each ONNX node is still whole; the few nodes whose meaning only declutter makes plain
//! (resize, strided slice) are decluttered one by one. A node that nothing here knows becomes [`Op::Tract`].

mod idioms;

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{AxisOp, DimLike, EvalContext};
use tract_onnx::tract_core::internal::{TractErrorContext, bail};
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, KernelFormat, MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::nn::resize::is_pixel_replication;
use tract_onnx::tract_core::ops::nn::{
    DataFormat, HardSwish, Interpolator, LeakyRelu, NearestUpsample, Reduce, Reducer, Resize, Sigmoid, Softmax,
    SoftmaxKind,
};
use tract_onnx::tract_core::ops::source::TypedSource;

use crate::graph::{
    Activation, Affine, BinaryKind, ConvOp, ConvWeights, ConvWeightsPart, DeconvOp, DenseOp, Graph, Layer, Op,
    PoolKind, PoolOp, Source, TractOp, TractOperand, UnaryKind, ValueId,
};
use crate::import::stored_weights::Weights;

type TractTensor = tract_onnx::prelude::Tensor;

/// What an outlet of the typed graph is to the layers that read it.
#[derive(Clone)]
enum Operand {
    Value(ValueId),
    Constant(Arc<TractTensor>),
    /// Weights left in the model file.
    Stored(usize),
}

/// Translates `model`, whose sources are the network's input and the stored weights.
pub(crate) fn lower(mut model: TypedModel, weights: &Weights) -> TractResult<Graph> {
    declutter_slices_and_resizes(&mut model)?;
    let order = model.eval_order()?;
    let mut lowering = Lowering { model: &model, weights, graph: Graph::default(), operands: HashMap::new() };
    for node in order {
        lowering.node(node).with_context(|| format!("node {}", model.nodes[node].name))?;
    }
    for &outlet in model.output_outlets()? {
        let value = lowering.value(outlet)?;
        lowering.graph.outputs.push(value);
    }
    let mut graph = lowering.graph;
    graph.remove_dead();
    Ok(graph)
}

fn declutter_slices_and_resizes(model: &mut TypedModel) -> TractResult<()> {
    let mut index = 0;
    while index < model.nodes.len() {
        if matches!(&*model.nodes[index].op.name(), "Resize" | "StridedSlice" | "Pad") {
            let patch = model.nodes[index].op.declutter(model, &model.nodes[index])?;
            if let Some(patch) = patch {
                patch.apply(model)?;
            }
        }
        index += 1;
    }
    Ok(())
}

struct Lowering<'a> {
    model: &'a TypedModel,
    weights: &'a Weights,
    graph: Graph,
    operands: HashMap<OutletId, Operand>,
}

impl Lowering<'_> {
    fn node(&mut self, id: usize) -> TractResult<()> {
        let node = &self.model.nodes[id];
        let outlet = OutletId::new(id, 0);
        if node.op_is::<TypedSource>() {
            let operand = match self.weights.index(&node.name) {
                Some(stored) => Operand::Stored(stored),
                None => {
                    let shape = self.shape(outlet)?;
                    self.graph.input = self.graph.add_value(shape);
                    Operand::Value(self.graph.input)
                }
            };
            self.operands.insert(outlet, operand);
            return Ok(());
        }
        if let Some(constant) = node.op_as::<Const>() {
            self.operands.insert(outlet, Operand::Constant(constant.val().clone()));
            return Ok(());
        }
        let inputs: Vec<Operand> = node.inputs.iter().map(|i| self.operands[i].clone()).collect();
        if inputs.iter().all(|i| !matches!(i, Operand::Value(_))) {
            return self.fold_constant(node, &inputs);
        }
        if let Some(cast) = node.op_as::<Cast>()
            && self.model.outlet_fact(node.inputs[0])?.datum_type == cast.to
        {
            self.operands.insert(outlet, inputs[0].clone());
            return Ok(());
        }
        if let Some((op, operands)) = self.known(node, &inputs)? {
            let shape = self.shape(outlet)?;
            let output = self.graph.add_value(shape);
            self.graph.layers.push(Layer { name: node.name.clone(), op, inputs: operands, outputs: vec![output] });
            self.operands.insert(outlet, Operand::Value(output));
            return Ok(());
        }
        self.left_to_tract(node, &inputs)
    }

    fn shape(&self, outlet: OutletId) -> TractResult<Vec<usize>> {
        let shape = &self.model.outlet_fact(outlet)?.shape;
        Ok(shape.as_concrete().context("a shape depends on the data")?.to_vec())
    }

    /// The layer value of `outlet`; constants become constant values.
    fn value(&mut self, outlet: OutletId) -> TractResult<ValueId> {
        let operand = self.operands[&outlet].clone();
        self.operand_value(&operand)
    }

    fn operand_value(&mut self, operand: &Operand) -> TractResult<ValueId> {
        match operand {
            Operand::Value(value) => Ok(*value),
            other => {
                let tensor = self.tensor(other)?;
                Ok(self.graph.add_constant(tensor.shape().to_vec(), floats(&tensor)?))
            }
        }
    }

    /// A constant operand's tensor, read from the model file if it is there.
    fn tensor(&self, operand: &Operand) -> TractResult<Arc<TractTensor>> {
        match operand {
            Operand::Constant(tensor) => Ok(tensor.clone()),
            Operand::Stored(index) => {
                let data = self.weights.read(*index)?;
                Ok(Arc::new(TractTensor::from_shape(self.weights.shape(*index), &data)?))
            }
            Operand::Value(_) => bail!("expected a constant"),
        }
    }

    fn fold_constant(&mut self, node: &TypedNode, inputs: &[Operand]) -> TractResult<()> {
        if node.op_is::<Cast>() && matches!(inputs[0], Operand::Stored(_)) {
            self.operands.insert(OutletId::new(node.id, 0), inputs[0].clone());
            return Ok(());
        }
        let tensors: TVec<TValue> =
            inputs.iter().map(|i| Ok(self.tensor(i)?.into_tvalue())).collect::<TractResult<_>>()?;
        let outputs = node.op.eval(&EvalContext::out_of_plan(), tensors)?;
        for (slot, output) in outputs.into_iter().enumerate() {
            self.operands.insert(OutletId::new(node.id, slot), Operand::Constant(output.into_arc_tensor()));
        }
        Ok(())
    }

    fn left_to_tract(&mut self, node: &TypedNode, inputs: &[Operand]) -> TractResult<()> {
        let mut layer_inputs = vec![];
        let mut operands = vec![];
        for (outlet, input) in node.inputs.iter().zip(inputs) {
            operands.push(match input {
                Operand::Value(value) => {
                    layer_inputs.push(*value);
                    TractOperand::Input(layer_inputs.len() - 1, self.model.outlet_fact(*outlet)?.datum_type)
                }
                constant => TractOperand::Constant(self.tensor(constant)?),
            });
        }
        let mut outputs = vec![];
        for (slot, output) in node.outputs.iter().enumerate() {
            let shape = self.shape(OutletId::new(node.id, slot))?;
            let value = self.graph.add_value(shape);
            self.graph.values[value].is_f32 = output.fact.datum_type == f32::datum_type();
            self.operands.insert(OutletId::new(node.id, slot), Operand::Value(value));
            outputs.push(value);
        }
        let op = Op::Tract(TractOp { op: node.op.clone(), operands });
        self.graph.layers.push(Layer { name: node.name.clone(), op, inputs: layer_inputs, outputs });
        Ok(())
    }

    /// The engine's operation for `node` with its operands, if there is one.
    fn known(&mut self, node: &TypedNode, inputs: &[Operand]) -> TractResult<Option<(Op, Vec<ValueId>)>> {
        let outlet = OutletId::new(node.id, 0);
        let fact = self.model.outlet_fact(outlet)?;
        if node.outputs.len() != 1 || fact.datum_type != f32::datum_type() {
            return Ok(None);
        }
        let Some(first) = inputs.iter().find_map(|i| if let Operand::Value(v) = i { Some(*v) } else { None }) else {
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

    fn conv(&self, op: &Conv, inputs: &[Operand]) -> TractResult<Option<ConvOp>> {
        let spec = &op.pool_spec;
        let Operand::Value(input) = inputs[0] else { return Ok(None) };
        let shape = self.graph.shape(input);
        let plain =
            spec.data_format == DataFormat::NCHW && op.kernel_fmt == KernelFormat::OIHW && op.q_params.is_none();
        if !plain
            || shape.len() != 4
            || matches!(inputs[1], Operand::Value(_))
            || matches!(inputs[2], Operand::Value(_))
        {
            return Ok(None);
        }
        let padding = spec.computed_padding(&shape[2..]);
        Ok(Some(ConvOp {
            kernel: ConvWeights {
                parts: vec![ConvWeightsPart {
                    source: self.source(&inputs[1])?,
                    out_channels: spec.output_channels,
                    out_scale: None,
                }],
            },
            bias: self.per_channel(&inputs[2], spec.output_channels)?,
            in_channels: spec.input_channels,
            out_channels: spec.output_channels,
            groups: op.group,
            kernel_size: pair(&spec.kernel_shape)?,
            stride: pair(&spec.strides())?,
            dilation: pair(&spec.dilations())?,
            pad: [padding[0].pad_before, padding[1].pad_before, padding[0].pad_after, padding[1].pad_after],
            input_order: None,
            input_affine: None,
            act: None,
            residual: false,
        }))
    }

    fn deconv(&self, op: &Deconv, inputs: &[Operand]) -> TractResult<Option<DeconvOp>> {
        let spec = &op.pool_spec;
        let Operand::Value(input) = inputs[0] else { return Ok(None) };
        let shape = self.graph.shape(input).to_vec();
        let constants = inputs[1..].iter().all(|i| !matches!(i, Operand::Value(_)));
        if spec.data_format != DataFormat::NCHW || !constants || shape.len() != 4 {
            return Ok(None);
        }
        // tract keeps these weights as [out][in / groups], with the groups along the input.
        let (out, per_group) = (spec.output_channels, spec.input_channels / op.group);
        let kernel = self.tensor(&inputs[1])?;
        let expected = [out, per_group, spec.kernel_shape[0], spec.kernel_shape[1]];
        if op.kernel_format != KernelFormat::OIHW || spec.kernel_shape.len() != 2 {
            return Ok(None);
        }
        let kernel = floats(&kernel)?;
        if kernel.len() != expected.iter().product::<usize>() {
            return Ok(None);
        }
        let padding = spec.padding.compute_for_deconv(
            &shape[2..],
            &spec.kernel_shape,
            &spec.dilations(),
            &spec.strides(),
            &op.adjustments,
        )?;
        let taps = spec.kernel_shape.iter().product::<usize>();
        let mut io = vec![0.0; kernel.len()];
        let out_per_group = out / op.group;
        for o in 0..out {
            let (group, within) = (o / out_per_group, o % out_per_group);
            for i in 0..per_group {
                let from = (o * per_group + i) * taps;
                let to = ((group * per_group + i) * out_per_group + within) * taps;
                io[to..to + taps].copy_from_slice(&kernel[from..from + taps]);
            }
        }
        Ok(Some(DeconvOp {
            source: Source::Inline(Arc::new(io)),
            out_scale: None,
            bias: self.per_channel(&inputs[2], out)?,
            in_channels: spec.input_channels,
            out_channels: out,
            groups: op.group,
            kernel_size: pair(&spec.kernel_shape)?,
            stride: pair(&spec.strides())?,
            dilation: pair(&spec.dilations())?,
            pad: [padding[0].pad_before, padding[1].pad_before, padding[0].pad_after, padding[1].pad_after],
            act: None,
        }))
    }

    fn source(&self, operand: &Operand) -> TractResult<Source> {
        Ok(match operand {
            Operand::Stored(index) => Source::Stored(*index),
            constant => Source::Inline(Arc::new(floats(&*self.tensor(constant)?)?)),
        })
    }

    fn per_channel(&self, operand: &Operand, channels: usize) -> TractResult<Vec<f32>> {
        let values = floats(&*self.tensor(operand)?)?;
        match values.len() {
            1 => Ok(vec![values[0]; channels]),
            n if n == channels => Ok(values),
            n => bail!("{n} values for {channels} channels"),
        }
    }

    fn dense(&self, op: &EinSum, inputs: &[Operand]) -> TractResult<Option<DenseOp>> {
        let [Operand::Value(x), weights] = inputs else { return Ok(None) };
        let expression = op.axes.to_string();
        let Some((operands, result)) = expression.split_once("->") else { return Ok(None) };
        let Some((a, b)) = operands.split_once(',') else { return Ok(None) };
        let (a, b, c): (Vec<char>, Vec<char>, Vec<char>) =
            (a.chars().collect(), b.chars().collect(), result.chars().collect());
        let (&[m, k], &[b0, b1], &[c0, n]) = (&a[..], &b[..], &c[..]) else { return Ok(None) };
        let transposed = if (b0, b1) == (n, k) {
            false
        } else if (b0, b1) == (k, n) {
            true
        } else {
            return Ok(None);
        };
        if c0 != m || matches!(weights, Operand::Value(_)) || op.q_params.is_some() {
            return Ok(None);
        }
        let source = self.source(weights)?;
        let inputs = self.graph.shape(*x)[1];
        let values = match &source {
            Source::Stored(index) => self.weights.shape(*index).iter().product(),
            Source::Inline(data) => data.len(),
        };
        let outputs = values / inputs.max(1);
        Ok(Some(DenseOp { source, transposed, inputs, outputs, affine: Affine::identity(outputs), act: None }))
    }

    fn binary(&mut self, name: &str, inputs: &[Operand], shape: &[usize]) -> TractResult<Option<(Op, Vec<ValueId>)>> {
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
            (Operand::Value(x), Operand::Value(_)) => {
                let b = self.operand_value(b)?;
                if *x == b && kind == BinaryKind::Mul {
                    return Ok(Some((Op::Unary(UnaryKind::Square), vec![*x])));
                }
                return Ok(Some((Op::Binary { kind, act: None }, vec![*x, b])));
            }
            (Operand::Value(x), constant) => Some((*x, self.tensor(constant)?, false)),
            (constant, Operand::Value(x)) => Some((*x, self.tensor(constant)?, true)),
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

/// The affine map or limit that a binary operation with a constant amounts to, if the constant varies along channels only.
fn by_channel(
    kind: BinaryKind,
    shape: &[usize],
    constant: &TractTensor,
    constant_first: bool,
) -> TractResult<Option<Op>> {
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

/// The factors by which a nearest-neighbour resize to `to` repeats rows and columns, if it does exactly that.
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

fn element_wise(op: &ElementWiseOp) -> Option<Op> {
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

fn floats(tensor: &TractTensor) -> TractResult<Vec<f32>> {
    let tensor = tensor.cast_to::<f32>()?;
    Ok(tensor.to_plain_array_view::<f32>()?.iter().copied().collect())
}

fn pair(values: &[usize]) -> TractResult<[usize; 2]> {
    values.try_into().ok().context("expected two spatial axes")
}

fn move_axis(rank: usize, from: usize, to: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    let axis = perm.remove(from);
    perm.insert(to, axis);
    perm
}
