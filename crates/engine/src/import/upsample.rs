//! Support for Upsample, the name of Resize up to opset 9. tract supports only the newer name.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto, tensor_proto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TractErrorContext;
use tract_onnx::tract_hir::internal::InferenceOp;

/// Opset in which Resize is equal to Upsample.
const RESIZE_OPSET: i64 = 10;

/// tract's reader of ONNX graphs, with support for Upsample.
pub(crate) fn reader() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert("Upsample", upsample);
    onnx
}

/// Parses Upsample as Resize.
fn upsample(ctx: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let resize = ctx.framework.op_register.0.get("Resize").context("tract does not support Resize")?;
    resize(&ParsingContext { onnx_operator_set_version: RESIZE_OPSET, ..ctx.clone() }, node)
}

/// Rewrites Upsample and Resize nodes into a form that tract reads.
///
/// Up to opset 10: scales become an input (an attribute in opset 7 and 8), and the attribute `nearest_mode`, which
/// newer files have, is set to round down. Opset 11 and 12: an omitted region of interest becomes an empty input.
pub(crate) fn modernize(graph: &mut GraphProto, opset: i64) {
    match opset {
        ..=RESIZE_OPSET => add_scales_and_rounding(graph),
        11..=12 => add_regions(graph),
        _ => {}
    }
}

/// Adds the region of interest of Resize.
fn add_regions(graph: &mut GraphProto) {
    let is_omitted = |n: &&mut NodeProto| n.op_type == "Resize" && n.input.get(1).is_some_and(String::is_empty);
    for node in graph.node.iter_mut().filter(is_omitted) {
        let name = format!("{}_roi", node.output.first().map_or("resize", String::as_str));
        node.input[1] = name.clone();
        graph.initializer.push(TensorProto {
            name,
            dims: vec![0],
            data_type: tensor_proto::DataType::Float as i32,
            ..TensorProto::default()
        });
    }
}

/// Adds the rounding mode, and the scales as an input.
fn add_scales_and_rounding(graph: &mut GraphProto) {
    for node in graph.node.iter_mut().filter(|n| matches!(n.op_type.as_str(), "Upsample" | "Resize")) {
        if !node.attribute.iter().any(|a| a.name == "nearest_mode") {
            node.attribute.push(AttributeProto {
                name: "nearest_mode".into(),
                r#type: attribute_proto::AttributeType::String as i32,
                s: b"floor".to_vec(),
                ..AttributeProto::default()
            });
        }
        let Some(index) = node.attribute.iter().position(|a| a.name == "scales") else { continue };
        let scales = node.attribute.swap_remove(index).floats;
        let name = format!("{}_scales", node.output.first().map_or("upsample", String::as_str));
        graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: vec![scales.len() as i64],
            data_type: tensor_proto::DataType::Float as i32,
            float_data: scales,
            ..TensorProto::default()
        });
        node.input.truncate(1);
        node.input.push(name);
    }
}
