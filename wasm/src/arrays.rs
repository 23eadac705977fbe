//! Copies JavaScript arrays into the memory of this module. Values of another type, or too large ones, are errors.

use js_sys::{Array, ArrayBuffer, Float32Array, Uint8Array, Uint32Array};
use wasm_bindgen::prelude::*;

/// The bytes of a file. `what` is the subject of the error message, such as "the detector".
pub fn bytes(value: &JsValue, what: &str) -> Result<Vec<u8>, JsError> {
    let array = match (value.dyn_ref::<Uint8Array>(), value.dyn_ref::<ArrayBuffer>()) {
        (Some(array), _) => array.clone(),
        // Includes transferred buffers, for which a view cannot be created.
        (_, Some(buffer)) if buffer.byte_length() == 0 => return Ok(vec![]),
        (_, Some(buffer)) => Uint8Array::new(buffer),
        _ => {
            let found = describe(value);
            return Err(JsError::new(&format!("{what} must be a Uint8Array or an ArrayBuffer, not {found}")));
        }
    };
    let mut bytes = zeros(array.length() as usize, what)?;
    array.copy_to(&mut bytes);
    Ok(bytes)
}

/// The numbers of a `Float32Array` or a plain array.
pub fn floats(value: &JsValue, what: &str) -> Result<Vec<f32>, JsError> {
    if let Some(array) = value.dyn_ref::<Float32Array>() {
        let mut floats = zeros(array.length() as usize, what)?;
        array.copy_to(&mut floats);
        return Ok(floats);
    }
    let numbers = value.dyn_ref::<Array>().map(|array| array.iter().map(|v| Some(v.as_f64()? as f32)).collect());
    numbers.flatten().ok_or_else(|| {
        JsError::new(&format!("{what} must be a Float32Array or an array of numbers, not {}", describe(value)))
    })
}

/// The shape of a tensor with `count` values.
pub fn shape(value: &JsValue, count: usize) -> Result<Vec<usize>, JsError> {
    let whole = |v: JsValue| v.as_f64().filter(|v| v.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(v));
    let sides: Option<Vec<usize>> = match (value.dyn_ref::<Uint32Array>(), value.dyn_ref::<Array>()) {
        (Some(array), _) => Some(array.to_vec().into_iter().map(|v| v as usize).collect()),
        (_, Some(array)) => array.iter().map(|v| whole(v).map(|v| v as usize)).collect(),
        _ => None,
    };
    let Some(sides) = sides.filter(|sides| !sides.is_empty() && !sides.contains(&0)) else {
        let found = describe(value);
        return Err(JsError::new(&format!("the shape must be an array of whole numbers from 1, not {found}")));
    };
    if sides.iter().try_fold(1usize, |product, side| product.checked_mul(*side)) != Some(count) {
        let sides = sides.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        return Err(JsError::new(&format!("an input of shape {sides} cannot have {count} values")));
    }
    Ok(sides)
}

/// `count` zeros. Returns an error if the memory is exhausted, which would otherwise stop the module.
fn zeros<T: Default + Clone>(count: usize, what: &str) -> Result<Vec<T>, JsError> {
    let mut values = vec![];
    if values.try_reserve_exact(count).is_err() {
        let megabytes = (count * size_of::<T>()) / 1_000_000;
        return Err(JsError::new(&format!("{what} has {megabytes} MB, for which there is not enough memory")));
    }
    values.resize(count, T::default());
    Ok(values)
}

/// A short description of a JavaScript value for messages.
pub fn describe(value: &JsValue) -> String {
    match (value.as_string(), value.as_f64()) {
        (Some(text), _) => format!("'{}'", text.chars().take(40).collect::<String>()),
        (_, Some(number)) => number.to_string(),
        _ if value.is_undefined() => "undefined".into(),
        _ if value.is_null() => "null".into(),
        _ => {
            let kind: String = value.js_typeof().as_string().unwrap_or_default();
            if kind == "object" { "an object of another kind".into() } else { format!("a {kind}") }
        }
    }
}
