//! Whatever a network answers, decoding and suppressing it neither panics nor invents faces.
#![no_main]

use ifr::detect::{DbFace, DetectorHead, nms};
use ifr::engine::Tensor;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 32);
const BATCH: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() < 4 {
        return;
    }
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).cycle();
    let shapes: Vec<Vec<usize>> = [1, 4, 10].map(|c| vec![BATCH, c, CANVAS.1 / 4, CANVAS.0 / 4]).to_vec();
    let mut outputs: Vec<Tensor> = shapes
        .iter()
        .map(|s| Tensor { shape: s.clone(), data: values.by_ref().take(s.iter().product()).collect() })
        .collect();
    let head = DbFace::new(&shapes, BATCH, CANVAS).expect("the shapes are DBFace's");
    if bytes[0] & 1 == 1 {
        let at = bytes.len() % outputs.len();
        outputs[at].data.truncate(bytes.len() % 97);
    }
    let mut found = vec![];
    head.proposals(&outputs, usize::from(bytes[0] >> 1 & 1), 0.5, &mut found);
    let proposed = found.len();
    nms(&mut found, head.nms_threshold());
    assert!(found.len() <= proposed && found.windows(2).all(|w| w[0].score >= w[1].score));
});
