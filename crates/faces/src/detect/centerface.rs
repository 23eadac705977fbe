//! CenterFace: a heat map of face centers at stride 4, with size, offset and landmarks for each cell.
//!
//! Source: `centerface.py` of Star-Clouds/CenterFace ("CenterFace: Joint Face Detection and Alignment Using Face as
//! Point").

use super::anchors::{cells, over};
use super::head::{Detection, DetectorHead, image_values};
use crate::image::Normalization;
use ndarray::ArrayD;

const STRIDE: usize = 4;

/// Decoder of a CenterFace network.
#[derive(Debug)]
pub struct CenterFace {
    canvas: (usize, usize),
    heat: usize,
    scale: usize,
    offset: usize,
    landmarks: usize,
}

impl CenterFace {
    /// Expected outputs, for error messages.
    pub const EXPECTED: &'static str = "4 maps of 1, 2, 2 and 10 channels at stride 4";

    /// Identifies the four maps by the shapes of the outputs. `None` if the shapes are not those of CenterFace.
    ///
    /// Size and offset have the same shape; size comes first in every published export. `canvas` is (width, height) in
    /// pixels.
    pub fn new(shapes: &[Vec<usize>], batch: usize, canvas: (usize, usize)) -> Option<CenterFace> {
        let (columns, rows) = cells(canvas, STRIDE);
        let maps = |channels: usize| {
            let wanted = [batch, channels, rows, columns];
            shapes.iter().enumerate().filter(move |(_, s)| **s == wanted).map(|(i, _)| i)
        };
        let mut pairs = maps(2);
        let found = CenterFace {
            canvas,
            heat: maps(1).next()?,
            scale: pairs.next()?,
            offset: pairs.next()?,
            landmarks: maps(10).next()?,
        };
        (shapes.len() == 4).then_some(found)
    }
}

impl DetectorHead for CenterFace {
    fn family(&self) -> &'static str {
        "CenterFace"
    }

    fn normalization(&self) -> Normalization {
        Normalization::NONE
    }

    fn nms_threshold(&self) -> f32 {
        0.3
    }

    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>) {
        let (columns, rows) = cells(self.canvas, STRIDE);
        let plane = columns * rows;
        let map =
            |output: usize, channels: usize| outputs.get(output).and_then(|t| image_values(t, index, plane * channels));
        let (Some(heat), Some(scale), Some(offset), Some(points)) =
            (map(self.heat, 1), map(self.scale, 2), map(self.offset, 2), map(self.landmarks, 10))
        else {
            return;
        };
        let stride = STRIDE as f32;
        let (width, height) = (self.canvas.0 as f32, self.canvas.1 as f32);
        for cell in over(heat, threshold) {
            let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
            // The maps store y before x.
            let (h, w) = (scale[cell].exp() * stride, scale[plane + cell].exp() * stride);
            let center_x = (column + offset[plane + cell] + 0.5) * stride;
            let center_y = (row + offset[cell] + 0.5) * stride;
            let x1 = (center_x - w / 2.0).max(0.0).min(width);
            let y1 = (center_y - h / 2.0).max(0.0).min(height);
            found.push(Detection {
                bbox: [x1, y1, (x1 + w).min(width), (y1 + h).min(height)],
                // Relative to the clamped corner, as in the published decoder and in the original.
                landmarks: std::array::from_fn(|p| {
                    [points[(2 * p + 1) * plane + cell] * w + x1, points[2 * p * plane + cell] * h + y1]
                }),
                score: heat[cell],
                mask: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<Vec<usize>> {
        [1, 2, 2, 10].map(|c| vec![1, c, 8, 16]).to_vec()
    }

    #[test]
    fn shapes_of_other_families_are_refused() {
        assert!(CenterFace::new(&shapes(), 1, (64, 32)).is_some());
        assert!(CenterFace::new(&shapes(), 1, (32, 64)).is_none());
        assert!(CenterFace::new(&shapes()[..3], 1, (64, 32)).is_none());
    }

    #[test]
    fn a_single_peak_gives_a_box_clamped_to_the_canvas() {
        let head = CenterFace::new(&shapes(), 1, (64, 32)).unwrap();
        let mut outputs: Vec<ArrayD<f32>> = shapes().into_iter().map(ArrayD::zeros).collect();
        let cell = 2 * 16 + 1;
        outputs[0].as_slice_mut().unwrap()[cell] = 0.9;
        outputs[1].as_slice_mut().unwrap()[cell] = 2f32.ln();
        outputs[1].as_slice_mut().unwrap()[128 + cell] = 4f32.ln();
        for p in 0..5 {
            outputs[3].as_slice_mut().unwrap()[2 * p * 128 + cell] = 0.25;
            outputs[3].as_slice_mut().unwrap()[(2 * p + 1) * 128 + cell] = 0.5;
        }
        let mut found = vec![];
        head.proposals(&outputs, 0, 0.5, &mut found);
        // Center (6, 10), 16 wide, 8 high: the left edge would be at -2.
        assert_eq!(found.len(), 1);
        for (got, want) in found[0].bbox.iter().zip([0.0, 6.0, 16.0, 14.0]) {
            assert!((got - want).abs() < 1e-4, "{:?}", found[0]);
        }
        assert!((found[0].landmarks[3][0] - 8.0).abs() < 1e-4 && (found[0].landmarks[3][1] - 8.0).abs() < 1e-4);
    }
}
