//! Graph surgery on the ONNX protobuf, before tract sees it.
//!
//! Published face networks are exported with whatever shape the author had at hand: CenterFace says 10x3x32x32, SCRFD
//! 1x3x640x640, MXNet exports leave height and width symbolic. The layers themselves run at any size, so the declared input shape
//! is replaced, stale intermediate shapes are dropped, and reshapes that repeat the old batch size follow the new one.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::pb::{tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::*;

use super::EngineError;

/// Name and declared shape of a graph's input or output; `None` is a dimension the file leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<Option<usize>>,
}

/// A decoded ONNX file.
#[derive(Clone)]
pub(super) struct OnnxModel {
    proto: ModelProto,
    input_index: usize,
}

impl OnnxModel {
    /// Decodes `bytes`. Errs when they are no ONNX, hold no graph, or the graph has not exactly one image input.
    pub fn decode(mut bytes: &[u8], name: &str) -> Result<Self, EngineError> {
        let length = bytes.len();
        let not_onnx = |detail: String| EngineError::NotOnnx { name: name.into(), bytes: length, detail };
        if bytes.is_empty() {
            return Err(not_onnx("the file is empty".into()));
        }
        let proto = onnx().proto_model_for_read(&mut bytes).map_err(|e| not_onnx(e.root_cause().to_string()))?;
        let Some(graph) = proto.graph.as_ref().filter(|g| !g.node.is_empty()) else {
            return Err(not_onnx("it holds no graph".into()));
        };
        let initializers = initializer_names(graph);
        let real: Vec<usize> =
            (0..graph.input.len()).filter(|&i| !initializers.contains(graph.input[i].name.as_str())).collect();
        let found = |what: String| EngineError::Input { name: name.into(), found: what };
        let &[input_index] = real.as_slice() else {
            return Err(found(format!("{} inputs", real.len())));
        };
        let shape = declared_shape(&graph.input[input_index]);
        if shape.len() != 4 {
            return Err(found(format!("{} dimensions", shape.len())));
        }
        Ok(OnnxModel { proto, input_index })
    }

    fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("decode() checked that there is a graph")
    }

    pub fn input(&self) -> TensorInfo {
        tensor_info(&self.graph().input[self.input_index])
    }

    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.graph().output.iter().map(tensor_info).collect()
    }

    /// Whether the first thing the graph does with its input is arithmetic: then it takes bytes as they are, 0 to 255.
    ///
    /// MXNet exports start with a subtraction and a multiplication, others with a division or a batch norm.
    pub fn normalizes_input(&self) -> bool {
        let graph = self.graph();
        let input = &graph.input[self.input_index].name;
        let arithmetic = ["Sub", "Mul", "Div", "Add", "BatchNormalization"];
        let mut users = graph.node.iter().filter(|n| n.input.contains(input)).peekable();
        users.peek().is_some() && users.all(|n| arithmetic.contains(&n.op_type.as_str()))
    }

    /// The graph with `shape` as its input shape.
    pub fn with_input_shape(&self, shape: &[usize]) -> ModelProto {
        let mut proto = self.proto.clone();
        let graph = proto.graph.as_mut().expect("decode() checked that there is a graph");
        let old_batch = declared_shape(&graph.input[self.input_index]).first().copied().flatten();
        set_shape(&mut graph.input[self.input_index], shape);
        graph.value_info.clear();
        for output in &mut graph.output {
            drop_shape(output);
        }
        if let Some(old) = old_batch.filter(|&old| old != shape[0]) {
            rebatch_reshapes(graph, old as i64, shape[0] as i64);
        }
        proto
    }
}

fn initializer_names(graph: &GraphProto) -> HashSet<&str> {
    graph.initializer.iter().map(|t| t.name.as_str()).collect()
}

fn tensor_info(value: &ValueInfoProto) -> TensorInfo {
    TensorInfo { name: value.name.clone(), shape: declared_shape(value) }
}

fn declared_shape(value: &ValueInfoProto) -> Vec<Option<usize>> {
    let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return vec![];
    };
    let dims = tensor.shape.as_ref().map(|s| s.dim.as_slice()).unwrap_or_default();
    dims.iter()
        .map(|d| match d.value {
            Some(dimension::Value::DimValue(v)) if v > 0 => Some(v as usize),
            _ => None,
        })
        .collect()
}

fn set_shape(value: &mut ValueInfoProto, shape: &[usize]) {
    if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
        && let Some(declared) = tensor.shape.as_mut()
    {
        for (dim, &wanted) in declared.dim.iter_mut().zip(shape) {
            dim.value = Some(dimension::Value::DimValue(wanted as i64));
        }
    }
}

fn drop_shape(value: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.shape = None;
    }
}

/// Makes every reshape of an activation whose target shape starts with the old batch size start with the new one.
fn rebatch_reshapes(graph: &mut GraphProto, old: i64, new: i64) {
    let initializers: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    let targets: HashSet<String> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "Reshape" && n.input.len() == 2 && !initializers.contains(&n.input[0]))
        .map(|n| n.input[1].clone())
        .collect();
    let constants = graph.node.iter_mut().filter(|n| n.op_type == "Constant").filter_map(|n: &mut NodeProto| {
        let named = n.output.first().is_some_and(|o| targets.contains(o));
        n.attribute.iter_mut().find(|a| a.name == "value").and_then(|a| a.t.as_mut()).filter(|_| named)
    });
    let stored = graph.initializer.iter_mut().filter(|t| targets.contains(&t.name));
    for tensor in stored.chain(constants) {
        rebatch_shape_tensor(tensor, old, new);
    }
}

fn rebatch_shape_tensor(tensor: &mut TensorProto, old: i64, new: i64) {
    if let Some(first) = tensor.int64_data.first_mut() {
        if *first == old {
            *first = new;
        }
    } else if let Some(first) = tensor.raw_data.get(..8).and_then(|raw| raw.try_into().ok()).map(i64::from_le_bytes)
        && first == old
    {
        tensor.raw_data[..8].copy_from_slice(&new.to_le_bytes());
    }
}
