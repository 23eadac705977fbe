//! What one detector family does with its network's outputs.

use super::{CenterFace, DbFace, RetinaFace, Scrfd, Yolov5Face};
use crate::image::Normalization;
use ifr_engine::EngineError;
use ndarray::ArrayD;

/// One face: pixels of the canvas inside this module, of the picture outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// x1, y1, x2, y2.
    pub bbox: [f32; 4],
    /// Left eye, right eye, nose tip, left and right mouth corner, as seen in the picture.
    pub landmarks: [[f32; 2]; 5],
    /// 0 to 1.
    pub score: f32,
    /// Probability that the face is covered, from detectors that tell (RetinaFaceAntiCov).
    pub mask: Option<f32>,
}

impl Detection {
    /// In pixels.
    pub fn width(&self) -> f32 {
        self.bbox[2] - self.bbox[0]
    }

    /// In square pixels.
    pub fn area(&self) -> f32 {
        self.width() * (self.bbox[3] - self.bbox[1])
    }
}

/// Failure to load or run a detector.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The engine cannot load or run the network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The outputs are not those of the family that was asked for.
    #[error("{name}: not a {family} network: expected {expected}, found outputs {found:?}")]
    Outputs {
        /// Of the network.
        name: String,
        /// Which family.
        family: &'static str,
        /// What its outputs are, in words.
        expected: String,
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
    /// The outputs are those of no family that is known.
    #[error("{name}: not a face detector this program knows: {}", describe(.canvas, .found))]
    UnknownFamily {
        /// Of the network.
        name: String,
        /// Width and height, in pixels.
        canvas: (usize, usize),
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
    /// The graph takes one size only.
    #[error("{name}: this graph is fixed at {width}x{height}; set MAX_SIZE={width},{height}")]
    FixedSize {
        /// Of the network.
        name: String,
        /// In pixels.
        width: usize,
        /// In pixels.
        height: usize,
    },
    /// The canvas is smaller than the detector's largest stride.
    #[error("{name}: the canvas must be at least 32x32, got {width}x{height}")]
    Canvas {
        /// Of the network.
        name: String,
        /// As asked for, in pixels.
        width: usize,
        /// As asked for, in pixels.
        height: usize,
    },
}

/// What was seen, and what would have been understood.
fn describe(canvas: &(usize, usize), found: &[Vec<usize>]) -> String {
    let known = [
        ("SCRFD", Scrfd::EXPECTED),
        ("RetinaFace", RetinaFace::EXPECTED),
        ("CenterFace", CenterFace::EXPECTED),
        ("YOLOv5-face", Yolov5Face::EXPECTED),
        ("DBFace", DbFace::EXPECTED),
    ];
    let known = known.map(|(family, outputs)| format!("{family} has {outputs}")).join("; ");
    format!("for a picture of {}x{} its outputs have shapes {found:?}; {known}", canvas.0, canvas.1)
}

/// The part of a detector that differs by family: what the network eats and how its outputs become proposals.
pub trait DetectorHead: Send + Sync {
    /// The family's name, as people write it.
    fn family(&self) -> &'static str;

    /// How pictures are turned into the network's input.
    fn normalization(&self) -> Normalization;

    /// Proposals that overlap a better one by more than this are dropped.
    fn nms_threshold(&self) -> f32;

    /// Appends the proposals of image `index` of the batch that reach `threshold`, in canvas pixels, in any order.
    ///
    /// `outputs` are row-major arrays in the order of the graph, as `Plan::run` returns them.
    fn proposals(&self, outputs: &[ArrayD<f32>], index: usize, threshold: f32, found: &mut Vec<Detection>);
}

/// The values of image `index` in an output that may lack a batch axis when the batch is one image.
///
/// `None` when the index is outside the tensor, or the tensor is not row-major.
pub(super) fn of_image(output: &ArrayD<f32>, index: usize, values: usize) -> Option<&[f32]> {
    output.as_slice()?.get(index * values..(index + 1) * values)
}
