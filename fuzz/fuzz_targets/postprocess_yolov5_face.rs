//! Decoding and suppression of any outputs of a network: no panic, and no face that was not proposed.
#![no_main]

mod support;

use ifr_faces::detect::Yolov5Face;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 32);
/// Number of proposals: three anchors per cell at strides 8, 16 and 32.
const ROWS: usize = 3 * (8 * 4 + 4 * 2 + 2);
const BATCH: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    let shapes = [vec![BATCH, ROWS, 16]];
    let head = Yolov5Face::new(&shapes, BATCH, CANVAS).expect("the shape is YOLOv5-face's");
    support::check(bytes, &shapes, BATCH, &head);
});
