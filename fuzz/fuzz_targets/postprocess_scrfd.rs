//! Whatever a network answers, decoding and suppressing it neither panics nor invents faces.
#![no_main]

use ifr::detect::{DetectorHead, Scrfd, nms};
use ifr::engine::Tensor;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 96);

fuzz_target!(|bytes: &[u8]| {
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).cycle();
    if bytes.len() < 4 {
        return;
    }
    let mut outputs = vec![];
    for width in [1, 4, 10] {
        for stride in [8, 16, 32] {
            let anchors = (CANVAS.0 / stride) * (CANVAS.1 / stride) * 2;
            let data = values.by_ref().take(anchors * width).collect();
            outputs.push(Tensor { shape: vec![1, anchors, width], data });
        }
    }
    let shapes: Vec<Vec<usize>> = outputs.iter().map(|t| t.shape.clone()).collect();
    let head = Scrfd::new(&shapes, 1, CANVAS, false).expect("the shapes are SCRFD's");
    // A short tensor must not be read beyond its end either.
    if bytes[0] & 1 == 1 {
        outputs[3].data.truncate(bytes.len() % 7);
    }
    let mut found = vec![];
    head.proposals(&outputs, 0, 0.5, &mut found);
    let proposed = found.len();
    nms(&mut found, head.nms_threshold());
    assert!(found.len() <= proposed && found.windows(2).all(|w| w[0].score >= w[1].score));
});
