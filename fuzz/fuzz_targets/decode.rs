//! Decoding of any bytes: a picture within the limit, or an error of one line.
//!
//! `seeds/decode` contains files that caused a problem before, or that a fuzzer rarely finds:
//! `cargo fuzz run decode fuzz/corpus/decode fuzz/seeds/decode`.
#![no_main]

use ifr_faces::image::{DecodeLimits, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode(bytes, &DecodeLimits { max_pixels: 1 << 20 }) {
        Ok(image) => assert!(u64::from(image.width()) * u64::from(image.height()) <= 1 << 20),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
