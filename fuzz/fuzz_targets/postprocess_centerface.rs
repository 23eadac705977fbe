//! Decoding and suppression of any outputs of a network: no panic, and no face that was not proposed.
#![no_main]

mod support;

use ifr_faces::detect::CenterFace;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 32);

fuzz_target!(|bytes: &[u8]| {
    let shapes = [1, 2, 2, 10].map(|c| vec![1, c, CANVAS.1 / 4, CANVAS.0 / 4]);
    let head = CenterFace::new(&shapes, 1, CANVAS).expect("the shapes are CenterFace's");
    support::check(bytes, &shapes, 1, &head);
});
