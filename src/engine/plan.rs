//! A network and its plans: tract loads, types and optimises the graph for one input shape; the result runs any number of times.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::*;

use super::EngineError;
use super::onnx::{OnnxModel, TensorInfo};

/// A dense f32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// A network read from ONNX bytes, with its plans. Cheap to share: put it in an [`Arc`].
pub struct Network {
    name: String,
    onnx: OnnxModel,
    plans: Mutex<HashMap<Vec<usize>, Arc<Plan>>>,
}

impl Network {
    /// Decodes `bytes`; `name` is what errors call the network. Nothing is optimised yet: see [`Network::plan`].
    pub fn from_onnx(bytes: &[u8], name: &str) -> Result<Network, EngineError> {
        Ok(Network { name: name.into(), onnx: OnnxModel::decode(bytes, name)?, plans: Mutex::default() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image input; its shape has four dimensions, batch first.
    pub fn input(&self) -> TensorInfo {
        self.onnx.input()
    }

    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.onnx.outputs()
    }

    /// Whether the graph normalises its input itself and so takes bytes as they are, 0 to 255.
    pub fn normalizes_input(&self) -> bool {
        self.onnx.normalizes_input()
    }

    /// The plan for one input shape, prepared at the first call and kept. Errs when the graph cannot take that shape.
    pub fn plan(&self, shape: &[usize]) -> Result<Arc<Plan>, EngineError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(shape) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(Plan::new(&self.name, &self.onnx, shape)?);
        plans.insert(shape.to_vec(), plan.clone());
        Ok(plan)
    }
}

/// A network prepared for one input shape; may run on several threads at once.
pub struct Plan {
    name: String,
    input_shape: Vec<usize>,
    output_shapes: Vec<Vec<usize>>,
    runnable: Arc<TypedRunnableModel>,
}

impl Plan {
    fn new(name: &str, onnx: &OnnxModel, shape: &[usize]) -> Result<Plan, EngineError> {
        let fail = |detail: String| EngineError::Prepare { name: name.into(), shape: shape.to_vec(), detail };
        let prepare = || -> TractResult<Arc<TypedRunnableModel>> {
            tract_onnx::onnx().model_for_proto_model(&onnx.with_input_shape(shape))?.into_optimized()?.into_runnable()
        };
        // tract asserts here and there on graphs it did not expect; a strange file must not take the process down.
        let runnable = catch_unwind(AssertUnwindSafe(prepare))
            .map_err(|_| fail("the graph is inconsistent".into()))?
            .map_err(|e| fail(format!("{e:#}")))?;
        let output_shapes = runnable
            .model()
            .output_outlets()
            .and_then(|outlets| {
                outlets
                    .iter()
                    .map(|&o| {
                        let fact = runnable.model().outlet_fact(o)?;
                        let dims = fact.shape.as_concrete().map(|d| d.to_vec());
                        dims.ok_or_else(|| TractError::msg("an output has no fixed shape"))
                    })
                    .collect::<TractResult<Vec<_>>>()
            })
            .map_err(|e| fail(format!("{e:#}")))?;
        Ok(Plan { name: name.into(), input_shape: shape.to_vec(), output_shapes, runnable })
    }

    pub fn input_shape(&self) -> &[usize] {
        &self.input_shape
    }

    /// Shapes of the outputs, in the graph's order.
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    /// Runs the network on one input, row-major in [`Plan::input_shape`]. Outputs come in the graph's order.
    pub fn run(&self, input: &[f32]) -> Result<Vec<Tensor>, EngineError> {
        let expected = self.input_shape.iter().product::<usize>();
        if input.len() != expected {
            return Err(EngineError::InputLength { name: self.name.clone(), expected, got: input.len() });
        }
        let fail = |e: TractError| EngineError::Run { name: self.name.clone(), detail: format!("{e:#}") };
        let tensor = tract_onnx::prelude::Tensor::from_shape(&self.input_shape, input).map_err(fail)?;
        let outputs = self.runnable.run(tvec!(tensor.into())).map_err(fail)?;
        outputs
            .iter()
            .map(|t| {
                let view = t.to_plain_array_view::<f32>().map_err(fail)?;
                Ok(Tensor { shape: view.shape().to_vec(), data: view.iter().copied().collect() })
            })
            .collect()
    }
}
