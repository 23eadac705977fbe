//! What else networks tell of a face: gender and age, whether a mask covers it, whether it is live.

#![deny(missing_docs)]

mod gender_age;
mod liveness;
mod mask;
mod network;

pub use gender_age::GenderAge;
pub use liveness::Liveness;
pub use mask::{MASK_THRESHOLD, MaskDetector, MaskResult};

use crate::image::RgbImage;
use ifr_engine::EngineError;

/// One detected face, as the attribute networks see it.
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
    /// An aligned crop without its picture. The box is where faces lie in such crops.
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
    /// The graph's shapes are not those of such a network.
    #[error("{name}: not a {what}: expected {expected}, found input {input:?} and outputs {found:?}")]
    Shapes {
        /// Of the network.
        name: String,
        /// What it was to be, as people call it.
        what: &'static str,
        /// The shapes that would do, in words.
        expected: &'static str,
        /// Sides of the input; `None` where the graph leaves them open.
        input: Vec<Option<usize>>,
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
    /// Crops are not as large as the network's input.
    #[error("{name}: expected crops of {expected}x{expected} pixels, got {width}x{height}")]
    CropSize {
        /// Of the network.
        name: String,
        /// Side of the input, in pixels.
        expected: u32,
        /// Of the crop, in pixels.
        width: u32,
        /// Of the crop, in pixels.
        height: u32,
    },
    /// A [`Liveness`] of nothing.
    #[error("a liveness score needs at least one network")]
    NoNetworks,
}
