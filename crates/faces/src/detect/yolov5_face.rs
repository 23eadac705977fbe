//! YOLOv5-face: one row of 16 numbers for each anchor, decoded to canvas pixels inside the graph.
//!
//! Source: `yolov5_face.py` of InsightFace-REST; networks of deepcam-cn/yolov5-face ("YOLO5Face: Why Reinventing a Face
//! Detector").

use super::anchors::cells;
use super::head::{Detection, DetectorHead, image_values};
use crate::image::Normalization;
use ndarray::ArrayD;

/// Number of values of a row: center x, center y, width, height, score, x and y of five points, class score.
const ROW: usize = 16;
/// Index of the score in a row.
const SCORE: usize = 4;
/// Number of anchors per cell.
const ANCHORS: usize = 3;

/// Decoder of a YOLOv5-face network.
#[derive(Debug)]
pub struct Yolov5Face {
    rows: usize,
}

impl Yolov5Face {
    /// Expected outputs, for error messages.
    pub const EXPECTED: &'static str =
        "one output of 16 numbers for three anchors a cell at strides 8, 16 and 32 (and 64)";

    /// `None` if the shapes of the outputs are not those of YOLOv5-face. `canvas` is (width, height) in pixels.
    pub fn new(shapes: &[Vec<usize>], batch: usize, canvas: (usize, usize)) -> Option<Yolov5Face> {
        let rows = |strides: &[usize]| {
            let cells = strides.iter().map(|&s| cells(canvas, s)).map(|(c, r)| c * r);
            cells.sum::<usize>() * ANCHORS
        };
        let [shape] = shapes else { return None };
        let &[found_batch, found, ROW] = shape.as_slice() else { return None };
        let known = [rows(&[8, 16, 32]), rows(&[8, 16, 32, 64])];
        (found_batch == batch && known.contains(&found)).then_some(Yolov5Face { rows: found })
    }
}

impl DetectorHead for Yolov5Face {
    fn family(&self) -> &'static str {
        "YOLOv5-face"
    }

    fn normalization(&self) -> Normalization {
        Normalization::rgb(0.0, 255.0)
    }

    fn nms_threshold(&self) -> f32 {
        0.4
    }

    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>) {
        let Some(values) = outputs.first().and_then(|t| image_values(t, index, self.rows * ROW)) else { return };
        for row in values.as_chunks::<ROW>().0.iter().filter(|row| row[SCORE] >= threshold) {
            let &[x, y, w, h, score, ..] = row;
            let (x1, y1) = (x - w / 2.0, y - h / 2.0);
            found.push(Detection {
                bbox: [x1, y1, x1 + w, y1 + h],
                landmarks: std::array::from_fn(|p| [row[5 + 2 * p], row[6 + 2 * p]]),
                score,
                mask: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_other_families_are_refused() {
        assert!(Yolov5Face::new(&[vec![1, 25200, 16]], 1, (640, 640)).is_some());
        assert!(Yolov5Face::new(&[vec![2, 25500, 16]], 2, (640, 640)).is_some(), "with stride 64");
        for other in [vec![1, 25200, 85], vec![1, 25201, 16], vec![2, 25200, 16], vec![25200, 16]] {
            assert!(Yolov5Face::new(&[other], 1, (640, 640)).is_none());
        }
        assert!(Yolov5Face::new(&[vec![1, 25200, 16]], 1, (320, 640)).is_none(), "another canvas");
    }

    #[test]
    fn rows_from_the_threshold_give_boxes() {
        let rows = 3 * (4 * 4 + 2 * 2 + 1);
        let head = Yolov5Face::new(&[vec![2, rows, 16]], 2, (32, 32)).unwrap();
        let mut output = ArrayD::zeros(vec![2, rows, 16]);
        let row: Vec<f32> =
            [10.0, 20.0, 6.0, 8.0, 0.5].into_iter().chain((1..=10).map(|v| v as f32)).chain([0.9]).collect();
        output.as_slice_mut().unwrap()[(rows + 7) * 16..][..16].copy_from_slice(&row);
        let mut found = vec![];
        head.proposals(std::slice::from_ref(&output), 0, 0.5, &mut found);
        assert!(found.is_empty());
        head.proposals(std::slice::from_ref(&output), 1, 0.5, &mut found);
        let landmarks = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]];
        assert_eq!(found, [Detection { bbox: [7.0, 16.0, 13.0, 24.0], landmarks, score: 0.5, mask: None }]);
        found.clear();
        head.proposals(std::slice::from_ref(&output), 2, 0.5, &mut found);
        assert!(found.is_empty(), "an index outside of the batch");
    }
}
