//! The JavaScript class `FaceAnalyzer`.

use std::sync::Arc;

use ifr_faces::analyzer;
use ifr_faces::detect::Detector;
use ifr_faces::engine;
use ifr_faces::recognize::Recognizer;
use js_sys::{Function, Reflect};
use wasm_bindgen::prelude::*;

use crate::output::sentence;
use crate::{arrays, input, output};

/// Finds faces in pictures and computes their embeddings. Call `free()` at the end, because it holds the networks.
#[wasm_bindgen]
pub struct FaceAnalyzer {
    inner: analyzer::FaceAnalyzer,
}

#[wasm_bindgen]
impl FaceAnalyzer {
    /// Prepares the networks from the bytes of ONNX files. Without a recognizer faces have no embeddings.
    ///
    /// Throws if a file is not an ONNX file, is not a supported detector or recognizer, or an option is out of range.
    /// Takes up to a second, so call it in a worker.
    pub fn create(
        #[wasm_bindgen(unchecked_param_type = "Uint8Array | ArrayBuffer")] detector: JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "Uint8Array | ArrayBuffer | null")] recognizer: JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "CreateOptions | null")] options: JsValue,
    ) -> Result<FaceAnalyzer, JsError> {
        let options = input::create_options(&options)?;
        let network = |bytes: &JsValue, name: &str| {
            let bytes = arrays::bytes(bytes, &format!("the {name}"))?;
            engine::Network::from_onnx(&bytes, name).map_err(sentence)
        };
        let detector = Detector::new(network(&detector, "detector")?, options.canvas, 1).map_err(sentence)?;
        let recognizer = if recognizer.is_undefined() || recognizer.is_null() {
            None
        } else {
            let network = network(&recognizer, "recognizer")?;
            Some(Arc::new(Recognizer::new(network, options.kind, 1).map_err(sentence)?))
        };
        Ok(FaceAnalyzer {
            inner: analyzer::FaceAnalyzer { detector: Some(Arc::new(detector)), recognizer, ..Default::default() },
        })
    }

    /// Finds the faces of one picture. Throws if it cannot be decoded or an option is out of range; the analyzer stays
    /// usable.
    #[wasm_bindgen(unchecked_return_type = "Analysis")]
    pub fn analyze(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Picture")] picture: JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "AnalyzeOptions | null")] options: JsValue,
    ) -> Result<JsValue, JsError> {
        let options = input::analyze_options(&options, self.inner.recognizer.is_some())?;
        let started = now();
        let picture = input::picture(&picture)?;
        let decode = now() - started;
        let analysis = self.inner.analyze(&[picture], &options).map_err(sentence)?;
        output::analysis(analysis, decode)
    }

    /// Length of an embedding; 0 without a recognizer.
    #[wasm_bindgen(getter)]
    pub fn dimension(&self) -> usize {
        self.inner.recognizer.as_ref().map_or(0, |r| r.dimension())
    }

    /// The detector's family, such as "CenterFace".
    #[wasm_bindgen(getter, js_name = detectorFamily)]
    pub fn detector_family(&self) -> String {
        self.inner.detector.as_ref().map_or_else(String::new, |d| d.family().into())
    }
}

/// `performance.now()` in milliseconds; `Date.now()` if the environment has no `performance`.
fn now() -> f64 {
    let clock = Reflect::get(&js_sys::global(), &"performance".into()).unwrap_or_default();
    let function = Reflect::get(&clock, &"now".into()).ok().and_then(|f| f.dyn_into::<Function>().ok());
    let reading = function.and_then(|f| f.call0(&clock).ok()).and_then(|v| v.as_f64());
    reading.unwrap_or_else(js_sys::Date::now)
}
