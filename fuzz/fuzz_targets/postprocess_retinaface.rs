//! Decoding and suppression of any outputs of a network: no panic, and no face that was not proposed.
#![no_main]

mod support;

use ifr_faces::detect::RetinaFace;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 96);
const BATCH: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    // With and without masks.
    let with_masks = bytes.first().is_some_and(|first| first & 4 == 4);
    let channels: &[usize] = if with_masks { &[4, 8, 20, 6] } else { &[4, 8, 20] };
    let shapes: Vec<Vec<usize>> = [32, 16, 8]
        .iter()
        .flat_map(|s| channels.iter().map(move |&c| vec![BATCH, c, CANVAS.1 / s, CANVAS.0 / s]))
        .collect();
    let head = RetinaFace::new(&shapes, BATCH, CANVAS, None).expect("the shapes are RetinaFace's");
    support::check(bytes, &shapes, BATCH, &head);
});
