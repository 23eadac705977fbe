//! Pictures of the tests.

use std::path::Path;

use ifr_faces::image::{DecodeLimits, RgbImage, decode};

/// Decodes a picture file.
pub fn read(file: &Path) -> RgbImage {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    decode(&bytes, &DecodeLimits::default()).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Mean difference of all color values of two pictures of the same size, 0 to 255.
pub fn mean_difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: f64 = a.as_raw().iter().zip(b.as_raw()).map(|(&x, &y)| f64::from(x.abs_diff(y))).sum();
    sum / a.as_raw().len() as f64
}
