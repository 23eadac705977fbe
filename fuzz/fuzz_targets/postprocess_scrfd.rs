//! Decoding and suppression of any outputs of a network: no panic, and no face that was not proposed.
#![no_main]

mod support;

use ifr_faces::detect::Scrfd;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 96);

fuzz_target!(|bytes: &[u8]| {
    let anchors = |stride: usize| (CANVAS.0 / stride) * (CANVAS.1 / stride) * 2;
    let shapes: Vec<Vec<usize>> =
        [1, 4, 10].iter().flat_map(|&width| [8, 16, 32].map(|stride| vec![1, anchors(stride), width])).collect();
    let head = Scrfd::new(&shapes, 1, CANVAS, false).expect("the shapes are SCRFD's");
    support::check(bytes, &shapes, 1, &head);
});
