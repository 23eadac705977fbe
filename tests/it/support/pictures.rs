//! Pictures and requests with pictures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::imageops::{FilterType, overlay, resize};
use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};
use std::io::Cursor;

/// A file with one face, 512x512.
pub const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/astronaut.jpg");

/// The picture of the self check: one face.
pub fn portrait() -> &'static [u8] {
    ifr::models::health_picture()
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn portrait64() -> String {
    base64(portrait())
}

/// The portrait as the `images` of a request.
pub fn data() -> Value {
    json!({"data": [portrait64()]})
}

/// A request for detection alone, `count` times the portrait.
pub fn portraits(count: usize) -> Value {
    json!({"images": {"data": vec![portrait64(); count]}, "extract_embedding": false})
}

/// Three copies of the portrait in a row, each smaller than the one before: three faces of different sizes.
pub fn three_faces() -> Vec<u8> {
    let portrait = image::load_from_memory(portrait()).unwrap().to_rgb8();
    let (w, h) = portrait.dimensions();
    let mut canvas = RgbImage::new(w * 9 / 4, h);
    let mut x = 0;
    for divisor in [1.0f32, 1.5, 2.0] {
        let (tw, th) = ((w as f32 / divisor) as u32, (h as f32 / divisor) as u32);
        overlay(&mut canvas, &resize(&portrait, tw, th, FilterType::Triangle), x, 0);
        x += i64::from(tw);
    }
    encode(&canvas, ImageFormat::Jpeg)
}

/// A picture without a face.
pub fn empty_scene() -> Vec<u8> {
    let gradient = RgbImage::from_fn(200, 150, |x, y| image::Rgb([x as u8, y as u8, 128]));
    encode(&gradient, ImageFormat::Png)
}

pub fn encode(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}
