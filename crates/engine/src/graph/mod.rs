//! The graph of the engine: layers of a network before they get memory and kernels.
//!
//! [`lower`] fills it from tract's typed graph, [`passes`] fuse its layers, and [`compile`](crate::compile) turns it
//! into steps. Layers are in execution order. Every value has one producer.

mod affine;
pub(crate) mod lower;
mod op;
pub(crate) mod passes;

use std::sync::Arc;

pub(crate) use self::affine::Affine;
pub(crate) use self::op::{
    BinaryKind, ConvOp, ConvWeights, ConvWeightsPart, DeconvOp, DenseOp, GroupNormOp, Op, PoolKind, PoolOp, TractOp,
    TractOperand, UnaryKind, WeightSource,
};
pub(crate) use crate::kernels::activation::Activation;

/// Index into [`Graph::values`].
pub(crate) type ValueId = usize;

/// A tensor that flows between layers. Shapes are row-major, batch first.
#[derive(Clone, Debug)]
pub(crate) struct GraphValue {
    pub shape: Vec<usize>,
    /// The elements of a constant.
    pub constant: Option<Arc<Vec<f32>>>,
    /// False only for values that pass from one operation of tract to another.
    pub is_f32: bool,
}

impl GraphValue {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One layer: an operation with its operands.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Name of the ONNX node whose result this layer computes.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// A network for one input shape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub values: Vec<GraphValue>,
    pub layers: Vec<Layer>,
    pub input: ValueId,
    pub outputs: Vec<ValueId>,
}

impl Graph {
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.values[value].shape
    }

    /// Adds an f32 value that a layer will compute.
    pub fn add_value(&mut self, shape: Vec<usize>) -> ValueId {
        self.values.push(GraphValue { shape, constant: None, is_f32: true });
        self.values.len() - 1
    }

    pub fn add_constant(&mut self, shape: Vec<usize>, data: Vec<f32>) -> ValueId {
        self.values.push(GraphValue { shape, constant: Some(Arc::new(data)), is_f32: true });
        self.values.len() - 1
    }

    /// For each value, the number of operands and outputs that refer to it.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let operands = self.layers.iter().flat_map(|l| &l.inputs).chain(&self.outputs);
        operands.for_each(|&v| counts[v] += 1);
        counts
    }

    /// Whether all readers of the value copy it into another layout.
    pub fn is_only_copied(&self, value: ValueId) -> bool {
        let mut readers = self.layers.iter().filter(|l| l.inputs.contains(&value));
        readers.all(|l| matches!(l.op, Op::Transpose { .. } | Op::Reshape | Op::Pixels { .. }))
    }

    /// For each value, the index of the layer that computes it.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.values.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.outputs.iter().for_each(|&v| producers[v] = Some(index));
        }
        producers
    }

    /// Removes layers without a used result.
    pub fn remove_dead(&mut self) {
        let mut live = vec![false; self.values.len()];
        self.outputs.iter().for_each(|&v| live[v] = true);
        let mut keep = vec![false; self.layers.len()];
        for (index, layer) in self.layers.iter().enumerate().rev() {
            if layer.outputs.iter().any(|&v| live[v]) {
                keep[index] = true;
                layer.inputs.iter().for_each(|&v| live[v] = true);
            }
        }
        let mut kept = keep.into_iter();
        self.layers.retain(|_| kept.next().unwrap_or(false));
    }
}
