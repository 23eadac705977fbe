//! Converts the library's values to the plain JavaScript objects that `types.d.ts` declares.

use std::fmt::Display;

use ifr_faces::analyzer::{Analysis, Face};
use ifr_faces::engine::ndarray::ArrayD;
use ifr_faces::image::RgbImage;
use js_sys::{Array, Float32Array, Object, Reflect, Uint8ClampedArray};
use wasm_bindgen::prelude::*;

/// Maximum length of a message in characters; longer ones are cut.
const MAX_MESSAGE: usize = 300;

/// An error of the library as one line. Errors about graphs can have many lines of details, which are dropped.
pub fn sentence(error: impl Display) -> JsError {
    let text = error.to_string();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error");
    match line.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => JsError::new(&format!("{}…", line[..end].trim_end())),
        None => JsError::new(line),
    }
}

/// An `Error` with a `code`, so that callers need not parse messages.
pub fn coded(code: &str, error: impl Display) -> JsValue {
    let value = JsValue::from(sentence(error));
    // Setting a property of a new object cannot fail.
    let _ = Reflect::set(&value, &"code".into(), &code.into());
    value
}

/// The `Analysis` of one picture; `decode` is the time of its decoding in milliseconds.
pub fn analysis(analysis: Analysis, decode: f64) -> Result<JsValue, JsError> {
    let image = analysis.images.into_iter().next().ok_or_else(|| JsError::new("the analysis holds no picture"))?;
    let faces = image.faces.iter().map(face).collect::<Result<Array, _>>()?;
    let ms = |duration: std::time::Duration| JsValue::from(duration.as_secs_f64() * 1e3);
    let timings = object([
        ("decode", decode.into()),
        ("detect", ms(analysis.timings.detect)),
        ("align", ms(analysis.timings.align)),
        ("recognize", ms(analysis.timings.recognize)),
    ])?;
    object([
        ("width", image.width.into()),
        ("height", image.height.into()),
        ("faces", faces.into()),
        ("timings", timings),
    ])
}

fn face(face: &Face) -> Result<JsValue, JsError> {
    let numbers = |values: &[f32]| values.iter().map(|&v| JsValue::from(v)).collect::<Array>();
    let landmarks = face.landmarks.iter().map(|p| numbers(p)).collect::<Array>();
    let mut fields =
        vec![("bbox", numbers(&face.bbox).into()), ("landmarks", landmarks.into()), ("prob", face.prob.into())];
    if let Some(embedding) = &face.embedding {
        fields.push(("embedding", Float32Array::from(embedding.vector.as_slice().unwrap_or_default()).into()));
        fields.push(("norm", embedding.norm.into()));
    }
    if let Some(crop) = &face.crop {
        fields.push(("crop", pixels(crop)?));
    }
    object(fields)
}

/// Opaque RGBA `Pixels`.
pub fn pixels(image: &RgbImage) -> Result<JsValue, JsError> {
    let mut rgba = vec![255u8; image.as_raw().len() / 3 * 4];
    for (to, from) in rgba.chunks_exact_mut(4).zip(image.as_raw().chunks_exact(3)) {
        to[..3].copy_from_slice(from);
    }
    let data = Uint8ClampedArray::from(rgba.as_slice());
    object([("width", image.width().into()), ("height", image.height().into()), ("data", data.into())])
}

pub fn tensors(tensors: &[ArrayD<f32>]) -> Result<Array, JsError> {
    let tensor = |t: &ArrayD<f32>| {
        let shape = t.shape().iter().map(|&d| JsValue::from(d as f64)).collect::<Array>();
        object([("shape", shape.into()), ("data", Float32Array::from(t.as_slice().unwrap_or_default()).into())])
    };
    tensors.iter().map(tensor).collect()
}

fn object(fields: impl IntoIterator<Item = (&'static str, JsValue)>) -> Result<JsValue, JsError> {
    let object = Object::new();
    for (name, value) in fields {
        Reflect::set(&object, &name.into(), &value)
            .map_err(|_| JsError::new(&format!("the result's field '{name}' could not be set")))?;
    }
    Ok(object.into())
}
