//! From tract's untyped graph to its typed graph, in one pass over the nodes.
//!
//! tract's own `into_typed` solves the shapes of all nodes in both directions until nothing changes, twice, and
//! compares each new constant with all others. With a known input shape, one visit of each node in execution order is
//! sufficient.

use std::collections::HashMap;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{EvalContext, TractErrorContext, bail};
use tract_onnx::tract_core::model::translator::Translate;
use tract_onnx::tract_core::ops::TypedOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_hir::infer::{Factoid, InferenceOp};
use tract_onnx::tract_hir::internal::Node;

/// The typed graph of `model`, before tract's rewrites. Errs if a node does not accept its inputs, or if a shape
/// remains unknown.
pub(crate) fn typed(mut model: InferenceModel) -> TractResult<TypedModel> {
    for id in model.eval_order()? {
        infer(&mut model, id).with_context(|| format!("node {}", model.node(id)))?;
    }
    match model.missing_type_shape()?.is_empty() {
        true => TypedTranslation.translate_model(&model),
        // A shape can be inferred only from later nodes.
        false => model.into_typed(),
    }
}

/// Infers the outputs of a node from its inputs.
fn infer(model: &mut InferenceModel, id: usize) -> TractResult<()> {
    let (inputs, outputs) = model.node_facts(id)?;
    let known = |fact: &&InferenceFact| fact.datum_type.is_concrete() && fact.shape.is_concrete();
    if inputs.is_empty() && outputs.iter().all(known) {
        return Ok(());
    }
    let inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
    let before: TVec<InferenceFact> = outputs.into_iter().cloned().collect();
    let node = model.node(id);
    let observed = node.op.observe_outlets(model, node)?;
    let observed: TVec<InferenceFact> =
        observed.iter().map(|&o| model.outlet_fact(o).cloned()).collect::<TractResult<_>>()?;
    let op = &mut model.node_mut(id).op;
    let (_, inferred, _) = op.infer(inputs.iter().collect(), before.iter().collect(), observed.iter().collect())?;
    if inferred.len() != before.len() {
        bail!("the node has {} results, but {} are used", inferred.len(), before.len());
    }
    for (slot, (new, old)) in inferred.iter().zip(&before).enumerate() {
        model.set_outlet_fact(OutletId::new(id, slot), new.unify(old)?)?;
    }
    Ok(())
}

/// Translates the nodes of an untyped graph: nodes with known values become constants.
#[derive(Debug)]
struct TypedTranslation;

impl Translate<InferenceFact, Box<dyn InferenceOp>, TypedFact, Box<dyn TypedOp>> for TypedTranslation {
    fn translate_node(
        &self,
        source: &InferenceModel,
        node: &Node<InferenceFact, Box<dyn InferenceOp>>,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let values = || node.outputs.iter().map(|o| o.fact.value.concretize()).collect::<Option<TVec<_>>>();
        let is_input = source.inputs.iter().any(|i| i.node == node.id);
        let has_state = || Ok::<_, TractError>(node.op.state(&EvalContext::out_of_plan())?.is_some());
        if let Some(values) = values().filter(|_| !is_input)
            && !has_state()?
        {
            let constant = |(slot, value): (usize, Arc<Tensor>)| {
                let fact = TypedFact::try_from(value.clone())?;
                let id = target.add_node(format!("{}.{slot}", node.name), Const::new(value)?, tvec!(fact))?;
                Ok(OutletId::new(id, 0))
            };
            return values.into_iter().enumerate().map(constant).collect();
        }
        node.op.to_typed(source, node, target, mapping)
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_hir::internal::SpecialOps;
    use tract_onnx::tract_hir::ops::identity::Identity;

    use super::*;
    use crate::network::Network;

    /// Names and shapes of all nodes except constants.
    fn nodes(model: &TypedModel) -> Vec<(String, String)> {
        let nodes = model.nodes.iter().filter(|n| !n.op_is::<Const>());
        nodes.map(|n| (n.name.clone(), format!("{} {:?}", n.op, n.outputs[0].fact.shape))).collect()
    }

    #[test]
    fn typed_graphs_equal_those_of_tract() {
        for (bytes, shape) in [
            (&include_bytes!("../../../../models/onnx/centerface/centerface.onnx")[..], [1, 3, 96, 160]),
            (include_bytes!("../../../../models/onnx/mobilefacenet/mobilefacenet.onnx"), [2, 3, 112, 112]),
        ] {
            let model = Network::from_static(bytes, "network").unwrap().inference_model(&shape).unwrap();
            assert_eq!(nodes(&typed(model.clone()).unwrap()), nodes(&model.into_typed().unwrap()));
        }
    }

    #[test]
    fn typed_infers_an_input_shape_from_the_output() {
        let mut model = InferenceModel::default();
        let input = model.add_source("input", InferenceFact::default()).unwrap();
        let output = model.wire_node("same", Identity, &[input]).unwrap();
        model.select_output_outlets(&output).unwrap();
        model.set_outlet_fact(output[0], f32::fact([1, 3, 5]).into()).unwrap();
        let typed = typed(model).unwrap();
        assert_eq!(typed.outlet_fact(typed.inputs[0]).unwrap().shape.as_concrete(), Some(&[1, 3, 5][..]));
    }
}
