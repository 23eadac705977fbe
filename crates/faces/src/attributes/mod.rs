//! Attribute networks: gender and age, masks, liveness.

mod gender_age;
mod liveness;
mod mask;
mod network;

pub use gender_age::GenderAge;
pub use liveness::Liveness;
pub use mask::{MASK_THRESHOLD, MaskDetector, MaskResult};

use crate::image::RgbImage;
use ifr_engine::EngineError;

/// Input of the attribute networks for one face.
#[derive(Clone, Copy)]
pub struct FaceView<'a> {
    /// The whole picture.
    pub image: &'a RgbImage,
    /// x1, y1, x2, y2 in pixels of the picture.
    pub bbox: [f32; 4],
    /// The aligned 112x112 crop.
    pub crop: &'a RgbImage,
}

impl<'a> FaceView<'a> {
    /// A view of an aligned crop without its picture. The box is the usual position of the face in the crop.
    pub fn of_crop(crop: &'a RgbImage) -> FaceView<'a> {
        let (w, h) = (crop.width() as f32, crop.height() as f32);
        FaceView { image: crop, bbox: [w / 6.0, h / 6.0, w * 5.0 / 6.0, h * 5.0 / 6.0], crop }
    }
}

/// Failure to load or run an attribute network.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// The engine cannot load or run the network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The shapes of the graph do not fit.
    #[error("{name}: not a {what}: expected {expected}, found input {input:?} and outputs {found:?}")]
    Shapes {
        /// Name of the network.
        name: String,
        /// Expected kind of network.
        what: &'static str,
        /// Expected shapes, in words.
        expected: &'static str,
        /// Shape of the input; `None` for open dimensions.
        input: Vec<Option<usize>>,
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
    /// A crop does not have the size of the network's input.
    #[error("{name}: expected crops of {expected}x{expected} pixels, got {width}x{height}")]
    CropSize {
        /// Name of the network.
        name: String,
        /// Side of the input, in pixels.
        expected: u32,
        /// Width of the crop in pixels.
        width: u32,
        /// Height of the crop in pixels.
        height: u32,
    },
    /// A [`Liveness`] without networks.
    #[error("a liveness score needs at least one network")]
    NoNetworks,
}
