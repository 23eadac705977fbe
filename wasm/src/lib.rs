//! `ifr` for JavaScript: finds and compares faces in a browser, with the same results as the native program.
//!
//! This crate converts values between JavaScript and the library and has no logic of its own. `types.d.ts` declares the
//! JavaScript types. Every error is an `Error` with a message in one sentence.

mod analyzer;
mod arrays;
mod input;
mod network;
mod output;
#[cfg(feature = "threads")]
mod threads;

use ifr_faces::engine::ndarray::ArrayView1;
use ifr_faces::image::{self, DecodeError};
use ifr_faces::recognize::Embedding;
use wasm_bindgen::prelude::*;

pub use analyzer::FaceAnalyzer;
pub use network::Network;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &'static str = include_str!("types.d.ts");

/// Runs once when the module is loaded. Converts panics to exceptions with a message and the code `crashed`.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| {
        let message = format!("ifr has stopped on an internal error and must be loaded again: {panic}");
        wasm_bindgen::throw_val(output::coded("crashed", message));
    }));
}

/// Cosine of two embeddings of the same network, -1 to 1. Above about 0.4 they are probably of the same person.
///
/// Throws if the embeddings differ in length, or one is empty, all zeros, or contains numbers that are not finite.
#[wasm_bindgen]
pub fn similarity(
    #[wasm_bindgen(unchecked_param_type = "Float32Array | number[]")] a: JsValue,
    #[wasm_bindgen(unchecked_param_type = "Float32Array | number[]")] b: JsValue,
) -> Result<f32, JsError> {
    let (a, b) = (arrays::floats(&a, "an embedding")?, arrays::floats(&b, "an embedding")?);
    let embedding = |values: Vec<f32>| Embedding::from_raw(ArrayView1::from(&values));
    embedding(a).similarity(&embedding(b)).map_err(output::sentence)
}

/// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF file, as `analyze` does, to upright, opaque RGBA pixels.
///
/// Throws with the code `unknown_format` if the format is unknown, and with `bad_picture` on damaged data and on
/// pictures of more than 50 megapixels.
#[wasm_bindgen(unchecked_return_type = "Pixels")]
pub fn decode(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array | ArrayBuffer")] bytes: JsValue,
) -> Result<JsValue, JsValue> {
    let bytes = arrays::bytes(&bytes, "the picture")?;
    let picture = image::decode(&bytes, &Default::default()).map_err(|error| match error {
        DecodeError::UnknownFormat => output::coded("unknown_format", error),
        error => output::coded("bad_picture", error),
    })?;
    Ok(output::pixels(&picture)?)
}

/// The version of this package.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}
