//! Changes of the ONNX protobuf before tract reads it.
//!
//! Published face networks declare the input shape of their export: CenterFace 10x3x32x32, SCRFD 1x3x640x640; MXNet
//! exports have a symbolic height and width. The layers run at any size. So the declared input shape is replaced,
//! intermediate shapes are dropped, and constants with the old size or batch are changed to the new one.

use std::collections::HashSet;
use std::sync::Arc;

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};
use tract_onnx::pb::{tensor_proto, tensor_shape_proto, tensor_shape_proto::dimension, type_proto};
use tract_onnx::prelude::*;

use crate::error::{EngineError, ImportError};
use crate::import::resize_input::resize_constants;
use crate::import::sanity::check_geometry;
use crate::import::stored_weights::{ModelBytes, Weights};
use crate::import::upsample::modernize;

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the ONNX file.
    pub name: String,
    /// Declared shape; `None` for a symbolic or missing dimension.
    pub shape: Vec<Option<usize>>,
}

/// A decoded ONNX file without its large weights.
#[derive(Clone)]
pub(crate) struct OnnxModel {
    proto: ModelProto,
    input_index: usize,
    pub weights: Arc<Weights>,
}

impl OnnxModel {
    /// Decodes `bytes`. Errs if they are not ONNX, have no graph, or if the graph does not have exactly one input of 4
    /// dimensions.
    pub fn decode(bytes: ModelBytes, name: &str) -> Result<Self, EngineError> {
        let (length, parts) = Weights::split(bytes);
        let not_onnx = |source: ImportError| EngineError::NotOnnx { name: name.into(), bytes: length as usize, source };
        if length == 0 {
            return Err(not_onnx(ImportError::Empty));
        }
        let (mut weights, rest) = parts.map_err(|e| not_onnx(e.into()))?;
        let mut proto =
            onnx().proto_model_for_read(&mut rest.as_slice()).map_err(|e| not_onnx(ImportError::Decode(e.into())))?;
        let Some(graph) = proto.graph.as_mut().filter(|g| !g.node.is_empty()) else {
            return Err(not_onnx(ImportError::NoGraph));
        };
        check_geometry(graph).map_err(not_onnx)?;
        // The domain of the standard operators is empty or "ai.onnx".
        let onnx_opset = proto.opset_import.iter().find(|o| matches!(o.domain.as_str(), "" | "ai.onnx"));
        modernize(graph, onnx_opset.map_or(i64::MAX, |o| o.version));
        return_small_uses(graph, &mut weights).map_err(not_onnx)?;
        let known: HashSet<&str> =
            graph.initializer.iter().map(|t| t.name.as_str()).chain(weights.iter().map(|(n, _)| n)).collect();
        let inputs: Vec<usize> =
            (0..graph.input.len()).filter(|&i| !known.contains(graph.input[i].name.as_str())).collect();
        let unsupported = |found: String| EngineError::Input { name: name.into(), found };
        let &[input_index] = inputs.as_slice() else {
            return Err(unsupported(format!("{} inputs", inputs.len())));
        };
        let shape = declared_shape(&graph.input[input_index]);
        if shape.len() != 4 {
            return Err(unsupported(format!("{} dimensions", shape.len())));
        }
        Ok(OnnxModel { proto, input_index, weights: Arc::new(weights) })
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

    /// Whether the graph starts with arithmetic on its input. Such a graph normalizes its input and takes values from 0
    /// to 255.
    ///
    /// MXNet exports start with a subtraction and a multiplication, other exports with a division or a batch norm.
    pub fn normalizes_input(&self) -> bool {
        let graph = self.graph();
        let input = &graph.input[self.input_index].name;
        let arithmetic = ["Sub", "Mul", "Div", "Add", "BatchNormalization"];
        let mut users = graph.node.iter().filter(|n| n.input.contains(input)).peekable();
        users.peek().is_some() && users.all(|n| arithmetic.contains(&n.op_type.as_str()))
    }

    /// The graph with `shape` as its input shape. The stored weights become inputs of the graph.
    pub fn with_input_shape(&self, shape: &[usize]) -> ModelProto {
        let mut proto = self.reshaped(shape);
        if let Some(graph) = proto.graph.as_mut() {
            graph.input.retain(|i| self.weights.index(&i.name).is_none());
            graph.input.extend(self.weights.iter().map(|(name, shape)| weight_input(name, shape)));
        }
        proto
    }

    /// The graph with `shape` as its input shape and with all weights.
    pub fn complete(&self, shape: &[usize]) -> Result<ModelProto, ImportError> {
        let mut proto = self.reshaped(shape);
        if let Some(graph) = proto.graph.as_mut() {
            for (index, (name, shape)) in self.weights.iter().enumerate() {
                graph.initializer.push(weight_tensor(name, shape, &self.weights.read(index)?));
            }
        }
        Ok(proto)
    }

    /// The graph with `shape` as its input shape, without the stored weights.
    fn reshaped(&self, shape: &[usize]) -> ModelProto {
        let mut proto = self.proto.clone();
        let graph = proto.graph.as_mut().expect("decode() checked that there is a graph");
        let declared = declared_shape(&graph.input[self.input_index]);
        let old_batch = declared.first().copied().flatten();
        if let (&[_, _, Some(h), Some(w)], &[_, _, height, width]) = (declared.as_slice(), shape)
            && (h, w) != (height, width)
        {
            resize_constants(graph, [h, w], [height, width]);
        }
        set_shape(&mut graph.input[self.input_index], shape);
        graph.value_info.clear();
        for output in &mut graph.output {
            drop_shape(output);
        }
        if let Some((old, new)) = old_batch.zip(shape.first().copied()).filter(|(old, new)| old != new) {
            rebatch_reshapes(graph, old as i64, new as i64);
        }
        proto
    }
}

/// Returns weights to the graph that any operation except a convolution or matrix product reads.
fn return_small_uses(graph: &mut GraphProto, weights: &mut Weights) -> Result<(), ImportError> {
    let mut packed = HashSet::new();
    let mut other: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    for node in &graph.node {
        let takes_weights = matches!(node.op_type.as_str(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
        for (position, input) in node.input.iter().enumerate() {
            let set = if takes_weights && position == 1 { &mut packed } else { &mut other };
            set.insert(input.as_str());
        }
    }
    let keep = |name: &str| packed.contains(name) && !other.contains(name);
    let mut returned = vec![];
    for (index, (name, shape)) in weights.iter().enumerate().filter(|(_, (name, _))| !keep(name)) {
        returned.push(weight_tensor(name, shape, &weights.read(index)?));
    }
    weights.retain(|name| !returned.iter().any(|t| t.name == name));
    graph.initializer.extend(returned);
    Ok(())
}

fn weight_tensor(name: &str, shape: &[usize], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: tensor_proto::DataType::Float as i32,
        raw_data: data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn weight_input(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| tensor_shape_proto::Dimension {
        value: Some(dimension::Value::DimValue(d as i64)),
        ..Default::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: tensor_proto::DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
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

/// Replaces the old batch size by the new one at the start of the target shapes of all reshapes and resizes of variable
/// tensors.
fn rebatch_reshapes(graph: &mut GraphProto, old: i64, new: i64) {
    let initializers: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    let targets: HashSet<String> = graph
        .node
        .iter()
        .filter_map(|n| match (n.op_type.as_str(), n.input.as_slice()) {
            ("Reshape", [x, shape]) if !initializers.contains(x) => Some(shape.clone()),
            ("Resize", [_, _, _, sizes]) => Some(sizes.clone()),
            _ => None,
        })
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
