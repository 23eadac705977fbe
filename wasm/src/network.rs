//! The JavaScript class `Network`, for measurements and for networks that are not about faces.

use ifr_faces::engine;
use js_sys::Array;
use wasm_bindgen::prelude::*;

use crate::output::sentence;
use crate::{arrays, output};

/// A network read from the bytes of an ONNX file with one image input.
#[wasm_bindgen]
pub struct Network {
    inner: engine::Network,
}

#[wasm_bindgen]
impl Network {
    /// Reads a network. Error messages contain `name`. Throws if `bytes` are not an ONNX file with one image input.
    #[wasm_bindgen(constructor)]
    pub fn new(
        #[wasm_bindgen(unchecked_param_type = "Uint8Array | ArrayBuffer")] bytes: JsValue,
        name: Option<String>,
    ) -> Result<Network, JsError> {
        let bytes = arrays::bytes(&bytes, "the network")?;
        let inner = engine::Network::from_onnx(&bytes, name.as_deref().unwrap_or("network")).map_err(sentence)?;
        Ok(Network { inner })
    }

    /// Runs the network on `input`, row-major in `shape` (batch first). The first run with a shape prepares the network
    /// for it.
    ///
    /// Throws if the network does not support the shape or the length of `input` does not match it.
    #[wasm_bindgen(unchecked_return_type = "Tensor[]")]
    pub fn run(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Uint32Array | number[]")] shape: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Float32Array | number[]")] input: JsValue,
    ) -> Result<Array, JsError> {
        let input = arrays::floats(&input, "the input")?;
        let shape = arrays::shape(&shape, input.len())?;
        let outputs = self.inner.plan(&shape).and_then(|plan| plan.run(plan.view(&input)?)).map_err(sentence)?;
        output::tensors(&outputs)
    }

    /// A table of the network's steps with their kernels and the minimum time of each over `runs` runs on `input`.
    ///
    /// Throws as [`Network::run`] does, and if `runs` is not a whole number from 1 to 1000.
    pub fn explain(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Uint32Array | number[]")] shape: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Float32Array | number[]")] input: JsValue,
        runs: f64,
    ) -> Result<String, JsError> {
        if runs.fract() != 0.0 || !(1.0..=1000.0).contains(&runs) {
            return Err(JsError::new(&format!("'runs' must be a whole number from 1 to 1000, not {runs}")));
        }
        let input = arrays::floats(&input, "the input")?;
        let shape = arrays::shape(&shape, input.len())?;
        let plan = self.inner.plan(&shape).map_err(sentence)?;
        let explanation = plan.view(&input).and_then(|input| plan.explain(input, runs as usize)).map_err(sentence)?;
        Ok(explanation.to_string())
    }
}
