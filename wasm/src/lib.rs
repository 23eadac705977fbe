//! `ifr` in the browser: the same pictures give the same faces as the native program, without a server.
//!
//! The crate holds no logic of its own: it reads JavaScript values, calls the library, and writes JavaScript values. Types that
//! JavaScript sees are declared in `types.d.ts`. Every error is an `Error` whose message is a sentence.

mod analyzer;
mod arrays;
mod input;
mod network;
mod output;
#[cfg(feature = "threads")]
mod threads;

use wasm_bindgen::prelude::*;

pub use analyzer::FaceAnalyzer;
pub use network::Network;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &'static str = include_str!("types.d.ts");

/// Runs once when the module is loaded: a panic inside becomes an exception that says what happened.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| {
        wasm_bindgen::throw_str(&format!("ifr stopped on an internal error, load it again to go on: {panic}"));
    }));
}

/// Cosine of the angle between two embeddings of the same network, -1 to 1; over about 0.4 it is probably one person.
///
/// Throws when the embeddings differ in length, or one has no direction: no numbers, all zeros, or some that are not finite.
#[wasm_bindgen]
pub fn similarity(
    #[wasm_bindgen(unchecked_param_type = "Float32Array | number[]")] a: JsValue,
    #[wasm_bindgen(unchecked_param_type = "Float32Array | number[]")] b: JsValue,
) -> Result<f32, JsError> {
    let (a, b) = (arrays::floats(&a, "an embedding")?, arrays::floats(&b, "an embedding")?);
    if a.len() != b.len() {
        return Err(JsError::new(&format!(
            "embeddings of {} and {} numbers cannot be compared: they come from different networks",
            a.len(),
            b.len()
        )));
    }
    let product = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let lengths = (product(&a, &a) * product(&b, &b)).sqrt();
    if !lengths.is_normal() {
        return Err(JsError::new("an embedding must hold finite numbers that are not all zero"));
    }
    Ok((product(&a, &b) / lengths).clamp(-1.0, 1.0) as f32)
}

/// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF to upright pixels, as `analyze` does. Opaque RGBA, shaped like an `ImageData`.
///
/// Throws on unknown or damaged data and on pictures of more than 50 megapixels.
#[wasm_bindgen(unchecked_return_type = "Pixels")]
pub fn decode(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array | ArrayBuffer")] bytes: JsValue,
) -> Result<JsValue, JsError> {
    let bytes = arrays::bytes(&bytes, "the picture")?;
    output::pixels(&ifr_faces::image::decode(&bytes, &Default::default()).map_err(output::sentence)?)
}

/// The version of this package.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}
