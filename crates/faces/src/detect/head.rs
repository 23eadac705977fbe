//! The detector head: the part of a detector that differs by family.

use crate::image::Normalization;
use ndarray::ArrayD;

/// One detected face. Positions are in pixels: of the canvas in a [`DetectorHead`], of the picture in a
/// [`Detector`](super::Detector)'s result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// x1, y1, x2, y2.
    pub bbox: [f32; 4],
    /// Left eye, right eye, nose tip, left and right mouth corner, as seen in the picture.
    pub landmarks: [[f32; 2]; 5],
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Probability that a mask covers the face, 0 to 1; `None` for detectors without a mask head (all but
    /// RetinaFaceAntiCov).
    pub mask: Option<f32>,
}

impl Detection {
    /// Width of the box in pixels.
    pub fn width(&self) -> f32 {
        self.bbox[2] - self.bbox[0]
    }

    /// Area of the box in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * (self.bbox[3] - self.bbox[1])
    }
}

/// Input format of a detector family and the decoding of its outputs to proposals.
pub trait DetectorHead: Send + Sync {
    /// Name of the family, e.g. "SCRFD".
    fn family(&self) -> &'static str;

    /// Conversion of pixels to the network's input.
    fn normalization(&self) -> Normalization;

    /// IoU above which [`nms`](super::nms) drops the proposal with the lower score.
    fn nms_threshold(&self) -> f32;

    /// Appends to `found` the proposals of image `index` of the batch with scores above `threshold`, in canvas pixels,
    /// unsorted.
    ///
    /// `outputs` are row-major arrays in the order of the graph, as `Plan::run` returns them.
    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>);
}

/// The `values` values of image `index` in an output. Outputs for one image may lack the batch axis.
///
/// `None` if the index is outside the output, or the output is not row-major.
pub(super) fn image_values(output: &ArrayD<f32>, index: usize, values: usize) -> Option<&[f32]> {
    output.as_slice()?.get(index * values..(index + 1) * values)
}
