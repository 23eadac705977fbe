//! Parsing of any JSON body: a request within the limits, or an error with a status from 400 to 499.
#![no_main]

use ifr::server::fuzzing::{BodyDraw, BodyExtract, Encoding, Value};
use libfuzzer_sys::fuzz_target;

const MAX_IMAGES: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let parse = || Value::parse(bytes, Encoding::Json);
    match parse().and_then(|value| BodyExtract::from_value(value, MAX_IMAGES)) {
        Ok(body) => assert!(body.images.count() <= MAX_IMAGES),
        Err(error) => assert!(error.status().is_client_error()),
    }
    if let Err(error) = parse().and_then(|value| BodyDraw::from_value(value, MAX_IMAGES)) {
        assert!(error.status().is_client_error());
    }
});
