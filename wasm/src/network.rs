//! A network by itself, for measurements and for uses other than faces.

use ifr::engine;
use js_sys::Array;
use wasm_bindgen::prelude::*;

use crate::output;

/// A network read from the bytes of an ONNX file with one image input.
#[wasm_bindgen]
pub struct Network {
    inner: engine::Network,
}

#[wasm_bindgen]
impl Network {
    /// Throws when `bytes` are no such network. `name` is what errors call it.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8], name: &str) -> Result<Network, JsError> {
        Ok(Network { inner: engine::Network::from_onnx(bytes, name)? })
    }

    /// Runs the network on `input`, row-major in `shape` (batch first). The first run with a shape prepares it.
    ///
    /// Throws when the network cannot take that shape or `input` has another length.
    #[wasm_bindgen(unchecked_return_type = "Tensor[]")]
    pub fn run(&self, shape: Vec<usize>, input: &[f32]) -> Result<Array, JsError> {
        let outputs = self.inner.plan(&shape)?.run(input)?;
        output::tensors(&outputs)
    }

    /// A table of the network's steps on `input` with the least time each took in `runs` runs: what runs where, and how fast.
    ///
    /// Throws as [`Network::run`] does.
    pub fn explain(&self, shape: Vec<usize>, input: &[f32], runs: usize) -> Result<String, JsError> {
        Ok(self.inner.plan(&shape)?.explain(input, runs)?.to_string())
    }
}
