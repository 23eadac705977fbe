//! Decoding and suppression of any outputs of a network: no panic, and no face that was not proposed.
#![no_main]

mod support;

use ifr_faces::detect::DbFace;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 32);
const BATCH: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    let shapes = [1, 4, 10].map(|c| vec![BATCH, c, CANVAS.1 / 4, CANVAS.0 / 4]);
    let head = DbFace::new(&shapes, BATCH, CANVAS).expect("the shapes are DBFace's");
    support::check(bytes, &shapes, BATCH, &head);
});
