//! Converts JavaScript pictures and options to the library's types. Invalid values are errors.

use std::fmt::Display;

use ifr_faces::analyzer::AnalyzeOptions;
use ifr_faces::image::{DecodeLimits, RgbImage, decode};
use ifr_faces::recognize::RecognizerKind;
use js_sys::{Array, ArrayBuffer, Object, Reflect, Uint8Array, Uint8ClampedArray};
use wasm_bindgen::prelude::*;

use crate::arrays::{self, describe};
use crate::output::sentence;

/// Options of `FaceAnalyzer.create`.
pub struct CreateOptions {
    /// Width and height in pixels.
    pub canvas: (usize, usize),
    pub kind: Option<RecognizerKind>,
}

/// Maximum side of a canvas in pixels: its three planes of floats take 200 MB.
const MAX_CANVAS: f64 = 4096.0;

pub fn create_options(value: &JsValue) -> Result<CreateOptions, JsError> {
    let fields = OptionFields::of(value, "create", &["canvas", "recognizerKind"])?;
    let canvas = match fields.get("canvas")? {
        None => (640, 640),
        Some(value) => canvas(&value)
            .ok_or_else(|| refuse("canvas", format_args!("[width, height], each from 32 to {MAX_CANVAS}"), &value))?,
    };
    let kind = match fields.get("recognizerKind")? {
        None => None,
        Some(value) => Some(match value.as_string().as_deref() {
            Some("arcface_torch") => RecognizerKind::ArcfaceTorch,
            Some("arcface_mxnet") => RecognizerKind::ArcfaceMxnet,
            Some("adaface") => RecognizerKind::Adaface,
            _ => return Err(refuse("recognizerKind", "'arcface_torch', 'arcface_mxnet' or 'adaface'", &value)),
        }),
    };
    Ok(CreateOptions { canvas, kind })
}

fn canvas(value: &JsValue) -> Option<(usize, usize)> {
    let sides = value.dyn_ref::<Array>().filter(|a| a.length() == 2)?;
    let side = |i| sides.get(i).as_f64().filter(|v| (32.0..=MAX_CANVAS).contains(v)).map(|v| v as usize);
    Some((side(0)?, side(1)?))
}

/// Options of `FaceAnalyzer.analyze`. Embeddings are on by default if there is a recognizer.
pub fn analyze_options(value: &JsValue, has_recognizer: bool) -> Result<AnalyzeOptions, JsError> {
    let known = ["threshold", "limitFaces", "minFaceSize", "embedding", "crops"];
    let fields = OptionFields::of(value, "analyze", &known)?;
    let default = AnalyzeOptions::default();
    Ok(AnalyzeOptions {
        threshold: fields.number("threshold", 0.0, 1.0)?.map_or(default.threshold, |v| v as f32),
        limit_faces: fields.number("limitFaces", 0.0, 1e6)?.map_or(default.limit_faces, |v| v as usize),
        min_face_size: fields.number("minFaceSize", 0.0, 1e6)?.map_or(default.min_face_size, |v| v as u32),
        embedding: fields.boolean("embedding")?.unwrap_or(has_recognizer),
        keep_crops: fields.boolean("crops")?.unwrap_or(false),
        ..default
    })
}

/// A picture from file bytes or from pixels.
pub fn picture(value: &JsValue) -> Result<RgbImage, JsError> {
    if value.is_instance_of::<Uint8Array>() || value.is_instance_of::<ArrayBuffer>() {
        return decode(&arrays::bytes(value, "the picture")?, &DecodeLimits::default()).map_err(sentence);
    }
    pixels(value).unwrap_or_else(|| {
        let found = describe(value);
        Err(JsError::new(&format!("a picture must be a Uint8Array, an ArrayBuffer or an ImageData, not {found}")))
    })
}

/// `None` if `value` has no pixel data; an error if its data does not match its width and height.
fn pixels(value: &JsValue) -> Option<Result<RgbImage, JsError>> {
    let get = |name: &str| Reflect::get(value, &name.into()).ok();
    let data = get("data")?.dyn_into::<Uint8ClampedArray>().ok()?;
    let side = |name| get(name)?.as_f64().filter(|v| v.fract() == 0.0 && (1.0..=65_535.0).contains(v));
    let (Some(width), Some(height)) = (side("width"), side("height")) else {
        return Some(Err(JsError::new("the width and height of pixels must be whole numbers from 1 to 65535")));
    };
    if f64::from(data.length()) != width * height * 4.0 {
        let length = data.length();
        let sentence = format!("pixels of {width}x{height} must be {} RGBA bytes, got {length}", width * height * 4.0);
        return Some(Err(JsError::new(&sentence)));
    }
    let limit = DecodeLimits::default().max_pixels as f64;
    if width * height > limit {
        let sentence = format!("picture of {width}x{height} pixels exceeds the limit of {} megapixels", limit / 1e6);
        return Some(Err(JsError::new(&sentence)));
    }
    let rgb: Vec<u8> = data.to_vec().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    RgbImage::from_raw(width as u32, height as u32, rgb).map(Ok)
}

/// The fields of an options object.
struct OptionFields<'a>(Option<&'a Object>);

impl<'a> OptionFields<'a> {
    /// Returns an error if `value` is not an object or has a field that is not in `known`, such as a misspelled option.
    fn of(value: &'a JsValue, call: &str, known: &[&str]) -> Result<OptionFields<'a>, JsError> {
        if value.is_undefined() || value.is_null() {
            return Ok(OptionFields(None));
        }
        let Some(object) = value.dyn_ref::<Object>() else {
            return Err(JsError::new(&format!("the options of {call} must be an object, not {}", describe(value))));
        };
        for key in Object::keys(object).iter().filter_map(|k| k.as_string()) {
            if !known.contains(&key.as_str()) {
                return Err(JsError::new(&format!("{call} has no option '{key}'; it has: {}", known.join(", "))));
            }
        }
        Ok(OptionFields(Some(object)))
    }

    fn get(&self, name: &str) -> Result<Option<JsValue>, JsError> {
        let Some(object) = self.0 else { return Ok(None) };
        let value = Reflect::get(object, &name.into())
            .map_err(|_| JsError::new(&format!("option '{name}' cannot be read: its getter throws")))?;
        Ok(Some(value).filter(|v| !v.is_undefined()))
    }

    fn number(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>, JsError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        match value.as_f64().filter(|v| (min..=max).contains(v)) {
            Some(number) => Ok(Some(number)),
            None => Err(refuse(name, format_args!("a number from {min} to {max}"), &value)),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, JsError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| refuse(name, "true or false", &value))
    }
}

fn refuse(name: &str, expected: impl Display, value: &JsValue) -> JsError {
    JsError::new(&format!("option '{name}' must be {expected}, not {}", describe(value)))
}
