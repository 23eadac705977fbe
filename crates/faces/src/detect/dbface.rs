//! DBFace: a heat map of face centers at stride 4, with the distances to the sides and landmarks for each cell.
//!
//! Source: `dbface.py` of InsightFace-REST; network of dlunion/DBFace.

use super::anchors::{at_least, cells};
use super::head::{Detection, DetectorHead, image_values};
use crate::image::{ChannelOrder, Normalization};
use ndarray::ArrayD;

const STRIDE: usize = 4;
/// Maximum number of decoded peaks; peaks with the highest scores are kept.
const MAX_PEAKS: usize = 1000;

/// Decoder of a DBFace network.
#[derive(Debug)]
pub struct DbFace {
    canvas: (usize, usize),
    heat: usize,
    bbox: usize,
    landmarks: usize,
}

impl DbFace {
    /// Expected outputs, for error messages.
    pub const EXPECTED: &'static str = "3 maps of 1, 4 and 10 channels at stride 4";

    /// Identifies the three maps by the shapes of the outputs. `None` if the shapes are not those of DBFace.
    ///
    /// `canvas` is (width, height) in pixels.
    pub fn new(shapes: &[Vec<usize>], batch: usize, canvas: (usize, usize)) -> Option<DbFace> {
        let (columns, rows) = cells(canvas, STRIDE);
        let find = |channels: usize| shapes.iter().position(|s| *s == [batch, channels, rows, columns]);
        let found = DbFace { canvas, heat: find(1)?, bbox: find(4)?, landmarks: find(10)? };
        (shapes.len() == 3).then_some(found)
    }
}

impl DetectorHead for DbFace {
    fn family(&self) -> &'static str {
        "DBFace"
    }

    fn normalization(&self) -> Normalization {
        // The network takes blue, green, red; means and deviations are in this order.
        Normalization {
            mean: [0.408 * 255.0, 0.447 * 255.0, 0.47 * 255.0],
            std: [0.289 * 255.0, 0.274 * 255.0, 0.278 * 255.0],
            order: ChannelOrder::Bgr,
        }
    }

    fn nms_threshold(&self) -> f32 {
        0.45
    }

    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>) {
        let (columns, rows) = cells(self.canvas, STRIDE);
        let plane = columns * rows;
        let map =
            |output: usize, channels: usize| outputs.get(output).and_then(|t| image_values(t, index, plane * channels));
        let (Some(heat), Some(sides), Some(points)) = (map(self.heat, 1), map(self.bbox, 4), map(self.landmarks, 10))
        else {
            return;
        };
        let mut peaks: Vec<usize> =
            at_least(heat, threshold).filter(|&cell| is_peak(heat, (columns, rows), cell)).collect();
        if peaks.len() > MAX_PEAKS {
            peaks.sort_by(|&a, &b| heat[b].total_cmp(&heat[a]));
            peaks.truncate(MAX_PEAKS);
        }
        let stride = STRIDE as f32;
        for cell in peaks {
            let (x, y) = ((cell % columns) as f32, (cell / columns) as f32);
            let side = |k: usize| sides[k * plane + cell];
            let point = |k: usize| stretch(points[k * plane + cell] * 4.0);
            found.push(Detection {
                bbox: [(x - side(0)) * stride, (y - side(1)) * stride, (x + side(2)) * stride, (y + side(3)) * stride],
                landmarks: std::array::from_fn(|p| [(point(p) + x) * stride, (point(p + 5) + y) * stride]),
                score: heat[cell],
                mask: None,
            });
        }
    }
}

/// Whether no neighboring cell has a higher value.
fn is_peak(heat: &[f32], (columns, rows): (usize, usize), cell: usize) -> bool {
    let (column, row) = (cell % columns, cell / columns);
    let across = column.saturating_sub(1)..(column + 2).min(columns);
    (row.saturating_sub(1)..(row + 2).min(rows))
        .all(|r| heat[r * columns..][across.clone()].iter().all(|&v| v <= heat[cell]))
}

/// Decodes a landmark value: linear for magnitudes below 1, exponential above.
fn stretch(value: f32) -> f32 {
    match value {
        v if v.abs() < 1.0 => v * std::f32::consts::E,
        v if v > 0.0 => v.exp(),
        v => -(-v).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<Vec<usize>> {
        [1, 4, 10].map(|c| vec![1, c, 8, 16]).to_vec()
    }

    #[test]
    fn shapes_of_other_families_are_refused() {
        assert!(DbFace::new(&shapes(), 1, (64, 32)).is_some());
        assert!(DbFace::new(&shapes(), 1, (32, 64)).is_none());
        assert!(DbFace::new(&shapes()[..2], 1, (64, 32)).is_none());
    }

    #[test]
    fn only_local_maxima_give_boxes() {
        let head = DbFace::new(&shapes(), 1, (64, 32)).unwrap();
        let mut outputs: Vec<ArrayD<f32>> = shapes().into_iter().map(ArrayD::zeros).collect();
        let (plane, cell) = (128, 2 * 16 + 3);
        outputs[0].as_slice_mut().unwrap()[cell] = 0.9;
        outputs[0].as_slice_mut().unwrap()[cell + 17] = 0.8;
        for (side, value) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            outputs[1].as_slice_mut().unwrap()[side * plane + cell] = value;
        }
        outputs[2].as_slice_mut().unwrap()[cell] = 0.125;
        outputs[2].as_slice_mut().unwrap()[6 * plane + cell] = -0.5;
        let mut found = vec![];
        head.proposals(&outputs, 0, 0.5, &mut found);
        let [face] = found[..] else { panic!("{found:?}") };
        assert_eq!((face.bbox, face.score), ([8.0, 0.0, 24.0, 24.0], 0.9));
        assert!((face.landmarks[0][0] - (3.0 + 0.5 * std::f32::consts::E) * 4.0).abs() < 1e-4);
        assert!((face.landmarks[1][1] - (2.0 - 2f32.exp()) * 4.0).abs() < 1e-4, "{:?}", face.landmarks);
    }
}
