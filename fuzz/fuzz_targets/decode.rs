//! Any bytes either become a picture within the limit or an error of one line.
//!
//! Files that once were a problem, or that few fuzzers come upon, are in `seeds/decode`:
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
