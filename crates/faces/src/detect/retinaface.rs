//! RetinaFace as exported from MXNet: class probabilities, box and landmark deltas for two anchors per cell at strides
//! 32, 16 and 8; RetinaFaceAntiCov also has a mask probability.
//!
//! Source: `retinaface.py` of deepinsight/insightface ("RetinaFace: Single-stage Dense Face Localisation in the Wild").

use super::anchors::{at_least, cells};
use super::head::{Detection, DetectorHead, image_values};
use crate::image::Normalization;
use ndarray::ArrayD;

const ANCHORS: usize = 2;
/// Stride, and the sides of its two square anchors as multiples of [`BASE_SIZE`].
const LEVELS: [(usize, [f32; ANCHORS]); 3] = [(32, [32.0, 16.0]), (16, [8.0, 4.0]), (8, [2.0, 1.0])];
const BASE_SIZE: f32 = 16.0;
/// Number of classes of the mask head: background, face without a mask, face with a mask.
const MASK_CLASSES: usize = 3;

/// Indices of the outputs at one stride.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RetinaFaceLevel {
    stride: usize,
    sides: [f32; ANCHORS],
    score: usize,
    bbox: usize,
    points: usize,
    masks: Option<usize>,
}

/// Decoder of a RetinaFace network.
#[derive(Debug)]
pub struct RetinaFace {
    canvas: (usize, usize),
    levels: [RetinaFaceLevel; 3],
    landmark_std: f32,
}

impl RetinaFace {
    /// Expected outputs, for error messages.
    pub const EXPECTED: &'static str = "maps of 4, 8 and 20 channels (and 6 with masks) at strides 32, 16 and 8";

    /// Identifies the maps by the shapes of the outputs, in any order. `None` if the shapes are not those of
    /// RetinaFace.
    ///
    /// `canvas` is (width, height) in pixels. `landmark_std` is the scale of the landmark deltas, which the graph does
    /// not contain: 1.0 for retinaface_r50_v1 and mnet025_v0/v1, 0.2 for mnet025_v2 and mnet_cov2. Default: 0.2 for
    /// networks with a mask head, else 1.0.
    pub fn new(
        shapes: &[Vec<usize>],
        batch: usize,
        canvas: (usize, usize),
        landmark_std: Option<f32>,
    ) -> Option<RetinaFace> {
        let masks = shapes.len() == 4 * LEVELS.len();
        if !masks && shapes.len() != 3 * LEVELS.len() {
            return None;
        }
        let level = |(stride, sides): (usize, [f32; ANCHORS])| {
            let (columns, rows) = cells(canvas, stride);
            let find = |channels: usize| shapes.iter().position(|s| *s == [batch, channels * ANCHORS, rows, columns]);
            let masks = if masks { Some(find(MASK_CLASSES)?) } else { None };
            Some(RetinaFaceLevel { stride, sides, score: find(2)?, bbox: find(4)?, points: find(10)?, masks })
        };
        let levels = [level(LEVELS[0])?, level(LEVELS[1])?, level(LEVELS[2])?];
        Some(RetinaFace { canvas, levels, landmark_std: landmark_std.unwrap_or(if masks { 0.2 } else { 1.0 }) })
    }
}

impl DetectorHead for RetinaFace {
    fn family(&self) -> &'static str {
        "RetinaFace"
    }

    fn normalization(&self) -> Normalization {
        Normalization::NONE
    }

    fn nms_threshold(&self) -> f32 {
        0.4
    }

    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>) {
        for level in &self.levels {
            let (columns, rows) = cells(self.canvas, level.stride);
            let plane = columns * rows;
            let map = |output: usize, channels: usize| {
                outputs.get(output).and_then(|t| image_values(t, index, plane * channels * ANCHORS))
            };
            let (Some(scores), Some(deltas), Some(points)) =
                (map(level.score, 2), map(level.bbox, 4), map(level.points, 10))
            else {
                continue;
            };
            let masks = level.masks.and_then(|k| map(k, MASK_CLASSES));
            let stride = level.stride as f32;
            for (anchor, &side) in level.sides.iter().enumerate() {
                let scores = &scores[(ANCHORS + anchor) * plane..][..plane];
                let deltas = &deltas[anchor * 4 * plane..][..4 * plane];
                let points = &points[anchor * 10 * plane..][..10 * plane];
                let covered = masks.map(|k| &k[(2 * ANCHORS + anchor) * plane..][..plane]);
                let side = side * BASE_SIZE;
                for cell in at_least(scores, threshold) {
                    // The base anchor covers pixels 0 to 15, so its center is at 7.5.
                    let x = (cell % columns) as f32 * stride + (BASE_SIZE - 1.0) / 2.0;
                    let y = (cell / columns) as f32 * stride + (BASE_SIZE - 1.0) / 2.0;
                    let delta = |k: usize| deltas[k * plane + cell];
                    let (center_x, center_y) = (delta(0) * side + x, delta(1) * side + y);
                    // Widths are inclusive numbers of pixels, so 1 is subtracted.
                    let (half_w, half_h) = ((delta(2).exp() * side - 1.0) / 2.0, (delta(3).exp() * side - 1.0) / 2.0);
                    let point = |k: usize| points[k * plane + cell] * self.landmark_std * side;
                    found.push(Detection {
                        bbox: [center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h],
                        landmarks: std::array::from_fn(|p| [point(2 * p) + x, point(2 * p + 1) + y]),
                        score: scores[cell],
                        mask: covered.map(|c| c[cell]),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(masks: bool) -> Vec<Vec<usize>> {
        let channels: &[usize] = if masks { &[4, 8, 20, 6] } else { &[4, 8, 20] };
        [32, 16, 8].iter().flat_map(|s| channels.iter().map(move |&c| vec![1, c, 96 / s, 64 / s])).collect()
    }

    #[test]
    fn maps_are_identified_in_any_order() {
        for masks in [false, true] {
            let mut shapes = shapes(masks);
            let head = RetinaFace::new(&shapes, 1, (64, 96), None).unwrap();
            assert_eq!(head.landmark_std, if masks { 0.2 } else { 1.0 });
            assert_eq!(head.levels[0].masks, masks.then_some(3));
            shapes.reverse();
            let head = RetinaFace::new(&shapes, 1, (64, 96), Some(0.5)).unwrap();
            assert_eq!((head.levels[0].score, head.landmark_std), (shapes.len() - 1, 0.5));
        }
        assert!(RetinaFace::new(&shapes(true), 1, (96, 64), None).is_none(), "another canvas");
        assert!(RetinaFace::new(&shapes(true)[..9], 1, (64, 96), None).is_none(), "a level is missing");
    }

    #[test]
    fn a_single_anchor_gives_a_box_with_points_and_a_mask_score() {
        let shapes = shapes(true);
        let head = RetinaFace::new(&shapes, 1, (64, 96), None).unwrap();
        let mut outputs: Vec<ArrayD<f32>> = shapes.iter().map(|s| ArrayD::zeros(s.as_slice())).collect();
        // Stride 16 (4 columns, 6 rows), second anchor (4 * 16 = 64 wide), cell (2, 3).
        let (plane, cell) = (24, 3 * 4 + 2);
        outputs[4].as_slice_mut().unwrap()[3 * plane + cell] = 0.7;
        outputs[5].as_slice_mut().unwrap()[4 * plane + cell] = 0.25;
        outputs[5].as_slice_mut().unwrap()[6 * plane + cell] = 2f32.ln();
        outputs[6].as_slice_mut().unwrap()[10 * plane + cell] = 0.5;
        outputs[7].as_slice_mut().unwrap()[5 * plane + cell] = 0.9;
        let mut found = vec![];
        head.proposals(&outputs, 0, 0.7, &mut found);
        let [face] = found[..] else { panic!("{found:?}") };
        // Anchor center (39.5, 55.5); moved by a quarter of 64, twice as wide.
        for (got, want) in face.bbox.iter().zip([-8.0, 24.0, 119.0, 87.0]) {
            assert!((got - want).abs() < 1e-3, "{:?}", face.bbox);
        }
        assert_eq!(face.landmarks[0], [39.5 + 0.5 * 0.2 * 64.0, 55.5]);
        assert_eq!(face.mask, Some(0.9));
        found.clear();
        head.proposals(&outputs, 1, 0.7, &mut found);
        assert!(found.is_empty(), "an index outside of the batch");
    }
}
