//! From tract's typed graph to the engine's layers, node by node.
//!
//! tract has resolved operator sets, default attributes and shape arithmetic. The graph is taken before tract's own
//! rewrites ("declutter"), while each ONNX node is one node. A few nodes become explicit only by declutter (resize,
//! strided slice, pad); these are decluttered one by one. A node without an operation in the engine becomes
//! [`Op::Tract`].

mod element_wise;
mod idioms;
mod operations;
mod weighted;

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{EvalContext, TractErrorContext, bail};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

use crate::graph::{Graph, Layer, Op, TractOp, TractOperand, ValueId};
use crate::import::stored_weights::Weights;

/// Form of an outlet of the typed graph as an operand of layers.
#[derive(Clone)]
enum LoweredOperand {
    Value(ValueId),
    Constant(Arc<Tensor>),
    /// Index of weights that remain in the model file.
    Stored(usize),
}

/// Translates `model`. Its sources are the input of the network and the stored weights.
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

/// State of a translation. Each file of this folder adds the methods of one subject.
struct Lowering<'a> {
    model: &'a TypedModel,
    weights: &'a Weights,
    graph: Graph,
    /// The outlets of all nodes that have been translated.
    operands: HashMap<OutletId, LoweredOperand>,
}

impl Lowering<'_> {
    /// Translates one node; the nodes of its inputs have been translated before.
    fn node(&mut self, id: usize) -> TractResult<()> {
        let node = &self.model.nodes[id];
        let outlet = OutletId::new(id, 0);
        if node.op_is::<TypedSource>() {
            let operand = match self.weights.index(&node.name) {
                Some(stored) => LoweredOperand::Stored(stored),
                None => {
                    let shape = self.shape(outlet)?;
                    self.graph.input = self.graph.add_value(shape);
                    LoweredOperand::Value(self.graph.input)
                }
            };
            self.operands.insert(outlet, operand);
            return Ok(());
        }
        if let Some(constant) = node.op_as::<Const>() {
            self.operands.insert(outlet, LoweredOperand::Constant(constant.val().clone()));
            return Ok(());
        }
        let inputs: Vec<LoweredOperand> = node.inputs.iter().map(|i| self.operands[i].clone()).collect();
        if inputs.iter().all(|i| !matches!(i, LoweredOperand::Value(_))) {
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
            self.operands.insert(outlet, LoweredOperand::Value(output));
            return Ok(());
        }
        self.tract_layer(node, &inputs)
    }

    fn shape(&self, outlet: OutletId) -> TractResult<Vec<usize>> {
        let shape = &self.model.outlet_fact(outlet)?.shape;
        Ok(shape.as_concrete().context("a shape depends on the data")?.to_vec())
    }

    /// The value of `outlet` in the graph; constants become constant values.
    fn value(&mut self, outlet: OutletId) -> TractResult<ValueId> {
        let operand = self.operands[&outlet].clone();
        self.operand_value(&operand)
    }

    fn operand_value(&mut self, operand: &LoweredOperand) -> TractResult<ValueId> {
        match operand {
            LoweredOperand::Value(value) => Ok(*value),
            other => {
                let tensor = self.tensor(other)?;
                Ok(self.graph.add_constant(tensor.shape().to_vec(), floats(&tensor)?))
            }
        }
    }

    /// The tensor of a constant operand; stored weights are read from the model file.
    fn tensor(&self, operand: &LoweredOperand) -> TractResult<Arc<Tensor>> {
        match operand {
            LoweredOperand::Constant(tensor) => Ok(tensor.clone()),
            LoweredOperand::Stored(index) => {
                let data = self.weights.read(*index)?;
                Ok(Arc::new(Tensor::from_shape(self.weights.shape(*index), &data)?))
            }
            LoweredOperand::Value(_) => bail!("expected a constant"),
        }
    }

    /// Evaluates a node without variable inputs.
    fn fold_constant(&mut self, node: &TypedNode, inputs: &[LoweredOperand]) -> TractResult<()> {
        if node.op_is::<Cast>() && matches!(inputs[0], LoweredOperand::Stored(_)) {
            self.operands.insert(OutletId::new(node.id, 0), inputs[0].clone());
            return Ok(());
        }
        let tensors: TVec<TValue> =
            inputs.iter().map(|i| Ok(self.tensor(i)?.into_tvalue())).collect::<TractResult<_>>()?;
        let outputs = node.op.eval(&EvalContext::out_of_plan(), tensors)?;
        for (slot, output) in outputs.into_iter().enumerate() {
            self.operands.insert(OutletId::new(node.id, slot), LoweredOperand::Constant(output.into_arc_tensor()));
        }
        Ok(())
    }

    /// Adds a layer that tract runs.
    fn tract_layer(&mut self, node: &TypedNode, inputs: &[LoweredOperand]) -> TractResult<()> {
        let mut layer_inputs = vec![];
        let mut operands = vec![];
        for (outlet, input) in node.inputs.iter().zip(inputs) {
            operands.push(match input {
                LoweredOperand::Value(value) => {
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
            self.operands.insert(OutletId::new(node.id, slot), LoweredOperand::Value(value));
            outputs.push(value);
        }
        let op = Op::Tract(TractOp { op: node.op.clone(), operands });
        self.graph.layers.push(Layer { name: node.name.clone(), op, inputs: layer_inputs, outputs });
        Ok(())
    }
}

/// Elements of a tensor in row-major order, converted to f32.
fn floats(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let tensor = tensor.cast_to::<f32>()?;
    Ok(tensor.to_plain_array_view::<f32>()?.iter().copied().collect())
}
