//! SCRFD: one score, one box and five points for each of two anchors per cell, at strides 8, 16 and 32.
//!
//! Source: `insightface/model_zoo/scrfd.py` ("Sample and Computation Redistribution for Efficient Face Detection").

use super::anchors::{cells, over};
use super::head::{Detection, DetectorHead, image_values};
use crate::image::Normalization;
use ndarray::ArrayD;

const STRIDES: [usize; 3] = [8, 16, 32];
const ANCHORS: usize = 2;

/// Indices of the outputs at one stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScrfdLevel {
    stride: usize,
    score: usize,
    bbox: usize,
    points: usize,
}

/// Decoder of an SCRFD network with landmarks.
#[derive(Debug)]
pub struct Scrfd {
    canvas: (usize, usize),
    levels: [ScrfdLevel; 3],
    normalization: Normalization,
}

impl Scrfd {
    /// Expected outputs, for error messages.
    pub const EXPECTED: &'static str = "9 outputs of 1, 4 and 10 values for two anchors a cell at strides 8, 16 and 32";

    /// Identifies scores, boxes and points by the shapes of the outputs, in any order, with or without a batch axis.
    /// `None` if the shapes are not those of SCRFD.
    ///
    /// `canvas` is (width, height) in pixels. `normalized_inside`: the graph normalizes its input and takes values from
    /// 0 to 255.
    pub fn new(shapes: &[Vec<usize>], batch: usize, canvas: (usize, usize), normalized_inside: bool) -> Option<Scrfd> {
        if shapes.len() != 3 * STRIDES.len() {
            return None;
        }
        let find = |stride: usize, width: usize| {
            let (columns, rows) = cells(canvas, stride);
            let values = batch * columns * rows * ANCHORS * width;
            shapes.iter().position(|s| s.last() == Some(&width) && s.iter().product::<usize>() == values)
        };
        let level = |stride| {
            Some(ScrfdLevel { stride, score: find(stride, 1)?, bbox: find(stride, 4)?, points: find(stride, 10)? })
        };
        let levels = [level(8)?, level(16)?, level(32)?];
        let normalization = if normalized_inside { Normalization::NONE } else { Normalization::rgb(127.5, 128.0) };
        Some(Scrfd { canvas, levels, normalization })
    }
}

impl DetectorHead for Scrfd {
    fn family(&self) -> &'static str {
        "SCRFD"
    }

    fn normalization(&self) -> Normalization {
        self.normalization
    }

    fn nms_threshold(&self) -> f32 {
        0.4
    }

    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>) {
        for level in &self.levels {
            let (columns, rows) = cells(self.canvas, level.stride);
            let anchors = columns * rows * ANCHORS;
            let values =
                |output: usize, width: usize| outputs.get(output).and_then(|t| image_values(t, index, anchors * width));
            let (Some(scores), Some(boxes), Some(points)) =
                (values(level.score, 1), values(level.bbox, 4), values(level.points, 10))
            else {
                continue;
            };
            let stride = level.stride as f32;
            for anchor in over(scores, threshold) {
                let cell = anchor / ANCHORS;
                let (x, y) = ((cell % columns) as f32 * stride, (cell / columns) as f32 * stride);
                let distance = &boxes[anchor * 4..anchor * 4 + 4];
                let offsets = &points[anchor * 10..anchor * 10 + 10];
                found.push(Detection {
                    bbox: [
                        x - distance[0] * stride,
                        y - distance[1] * stride,
                        x + distance[2] * stride,
                        y + distance[3] * stride,
                    ],
                    landmarks: std::array::from_fn(|p| [x + offsets[2 * p] * stride, y + offsets[2 * p + 1] * stride]),
                    score: scores[anchor],
                    mask: None,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(batched: bool) -> Vec<Vec<usize>> {
        let mut shapes = vec![];
        for width in [1, 4, 10] {
            for stride in STRIDES {
                let anchors = (64 / stride) * (96 / stride) * ANCHORS;
                shapes.push(if batched { vec![2, anchors, width] } else { vec![anchors, width] });
            }
        }
        shapes
    }

    #[test]
    fn outputs_are_identified_in_any_order() {
        for (batched, batch) in [(true, 2), (false, 1)] {
            let mut shapes = shapes(batched);
            shapes.reverse();
            let head = Scrfd::new(&shapes, batch, (64, 96), false).unwrap();
            assert_eq!(head.levels[0], ScrfdLevel { stride: 8, score: 8, bbox: 5, points: 2 });
        }
        assert!(Scrfd::new(&shapes(true), 2, (64, 64), false).is_none(), "another canvas");
        assert!(Scrfd::new(&shapes(true)[..6], 2, (64, 96), false).is_none(), "no landmarks");
    }

    #[test]
    fn a_single_anchor_gives_a_box() {
        let shapes = shapes(true);
        let head = Scrfd::new(&shapes, 2, (64, 96), false).unwrap();
        let mut outputs: Vec<ArrayD<f32>> = shapes.iter().map(|s| ArrayD::zeros(s.as_slice())).collect();
        // Second image, stride 16 (4 columns): cell (2, 3), second anchor.
        let anchors = 4 * 6 * ANCHORS;
        let anchor = (3 * 4 + 2) * ANCHORS + 1;
        outputs[1].as_slice_mut().unwrap()[anchors + anchor] = 0.8;
        outputs[4].as_slice_mut().unwrap()[(anchors + anchor) * 4..][..4].copy_from_slice(&[1.0, 0.5, 2.0, 1.5]);
        outputs[7].as_slice_mut().unwrap()[(anchors + anchor) * 10..][..10].copy_from_slice(&[0.25; 10]);
        let mut found = vec![];
        head.proposals(&outputs, 0, 0.5, &mut found);
        assert!(found.is_empty());
        head.proposals(&outputs, 1, 0.5, &mut found);
        assert_eq!(
            found,
            [Detection { bbox: [16.0, 40.0, 64.0, 72.0], landmarks: [[36.0, 52.0]; 5], score: 0.8, mask: None }]
        );
        found.clear();
        head.proposals(&outputs, 2, 0.5, &mut found);
        assert!(found.is_empty(), "an index outside of the batch");
    }
}
