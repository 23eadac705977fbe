//! Whatever a network answers, decoding and suppressing it neither panics nor invents faces.
#![no_main]

use ifr::detect::{DetectorHead, Yolov5Face, nms};
use ifr::engine::Tensor;
use libfuzzer_sys::fuzz_target;

const CANVAS: (usize, usize) = (64, 32);
/// Three anchors a cell at strides 8, 16 and 32.
const ROWS: usize = 3 * (8 * 4 + 4 * 2 + 2);
const BATCH: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() < 4 {
        return;
    }
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).cycle();
    let shapes = [vec![BATCH, ROWS, 16]];
    let mut outputs = [Tensor { shape: shapes[0].clone(), data: values.by_ref().take(BATCH * ROWS * 16).collect() }];
    let head = Yolov5Face::new(&shapes, BATCH, CANVAS).expect("the shape is YOLOv5-face's");
    if bytes[0] & 1 == 1 {
        outputs[0].data.truncate(bytes.len() * 7 % (BATCH * ROWS * 16));
    }
    let mut found = vec![];
    head.proposals(&outputs, usize::from(bytes[0] >> 1 & 1), 0.5, &mut found);
    let proposed = found.len();
    nms(&mut found, head.nms_threshold());
    assert!(found.len() <= proposed && found.windows(2).all(|w| w[0].score >= w[1].score));
});
