//! The common part of the targets of the detector heads.

use ifr_faces::detect::{DetectorHead, nms};
use ifr_faces::engine::ndarray::{Array1, ArrayD};

/// Decodes outputs of these shapes, filled with `bytes`, for one picture of the batch, and suppresses overlapping
/// proposals: no panic, and no face that was not proposed. The first byte can make one output too short.
pub fn check(bytes: &[u8], shapes: &[Vec<usize>], batch: usize, head: &impl DetectorHead) {
    let Some(&[first, ..]) = bytes.first_chunk::<4>() else { return };
    let mut values = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).cycle();
    let mut outputs: Vec<ArrayD<f32>> =
        shapes.iter().map(|s| ArrayD::from_shape_simple_fn(s.as_slice(), || values.next().unwrap())).collect();
    if first & 1 == 1 {
        let cut = &mut outputs[bytes.len() % shapes.len()];
        let kept = bytes.len() * 7 % cut.len();
        *cut = cut.iter().copied().take(kept).collect::<Array1<f32>>().into_dyn();
    }
    let mut found = vec![];
    head.proposals(&outputs, usize::from(first >> 1 & 1) % batch, 0.5, &mut found);
    let proposed = found.len();
    nms(&mut found, head.nms_threshold());
    assert!(found.len() <= proposed && found.windows(2).all(|w| w[0].score >= w[1].score));
}
