//! What the targets of all detector heads do with a network's answers.

use ifr_faces::detect::{DetectorHead, nms};
use ifr_faces::engine::ndarray::{Array1, ArrayD};

/// Fills outputs of these shapes with `bytes`, cuts one of them short if the first byte says so, and decodes and
/// suppresses what they propose for one of the batch: no panic, and no face that was not proposed.
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
