//! What else networks tell of a face: gender and age, whether a mask covers it, whether it is live.

mod gender_age;
mod liveness;
mod mask;
mod network;

pub use gender_age::GenderAge;
pub use liveness::Liveness;
pub use mask::{MASK_THRESHOLD, MaskDetector, MaskResult};

use crate::engine::EngineError;
use crate::image::RgbImage;

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
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{name}: not a {what}: expected {expected}, found input {input:?} and outputs {found:?}")]
    Shapes {
        name: String,
        what: &'static str,
        expected: &'static str,
        input: Vec<Option<usize>>,
        found: Vec<Vec<usize>>,
    },
    #[error("{name}: expected crops of {expected}x{expected} pixels, got {width}x{height}")]
    CropSize { name: String, expected: u32, width: u32, height: u32 },
    #[error("a liveness score needs at least one network")]
    NoNetworks,
}
