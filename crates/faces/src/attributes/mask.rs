//! Mask detection.
//!
//! Source: `MaskDetection` of InsightFace-REST; networks of chandrikadeb7/Face-Mask-Detection, exported from Keras.

use image::RgbImage;

use super::network::{Expected, FaceNetwork, PixelLayout};
use super::{AttributeError, FaceView};
use crate::image::resize_bilinear;
use ifr_engine::Network;

/// Minimum probability of a mask for [`MaskResult::mask`].
pub const MASK_THRESHOLD: f32 = 0.89;

const EXPECTED: Expected = Expected {
    what: "mask detector",
    shapes: "input 1xSxSx3 and one output of 2 numbers",
    layout: PixelLayout::Interleaved,
    side: 224,
    values: &[2],
};

/// Result of the mask detector for one face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskResult {
    /// Whether the face wears a mask: `mask_prob` exceeds `no_mask_prob` and is at least [`MASK_THRESHOLD`].
    pub mask: bool,
    /// Probability of a mask, 0 to 1.
    pub mask_prob: f32,
    /// Probability of a face without a mask, 0 to 1.
    pub no_mask_prob: f32,
}

impl MaskResult {
    /// The result for two probabilities, 0 to 1.
    pub fn new(mask_prob: f32, no_mask_prob: f32) -> MaskResult {
        MaskResult { mask: mask_prob > no_mask_prob && mask_prob >= MASK_THRESHOLD, mask_prob, no_mask_prob }
    }
}

/// Detects masks. `&self` methods may run on several threads at once.
pub struct MaskDetector {
    network: FaceNetwork,
}

impl MaskDetector {
    /// Prepares `network` for batches of up to `batch` faces.
    ///
    /// # Errors
    ///
    /// If the engine cannot prepare the network, or its shapes are not those of a mask detector.
    pub fn new(network: Network, batch: usize) -> Result<MaskDetector, AttributeError> {
        Ok(MaskDetector { network: FaceNetwork::new(network, &EXPECTED, batch)? })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// Detects masks on the aligned crop of each face.
    ///
    /// # Errors
    ///
    /// If the engine fails.
    pub fn detect(&self, faces: &[FaceView]) -> Result<Vec<MaskResult>, AttributeError> {
        let side = self.network.side();
        let rows = self.network.run(faces, |face, input| {
            if face.crop.dimensions() == (side, side) {
                fill(face.crop, input);
            } else {
                let whole = (0, 0, face.crop.width(), face.crop.height());
                fill(&resize_bilinear(face.crop, whole, side, side), input);
            }
        })?;
        Ok(rows.iter().map(|row| MaskResult::new(row[0], row[1])).collect())
    }
}

/// Writes blue, green, red of each pixel as -1 to 1, the format of the training data.
fn fill(crop: &RgbImage, input: &mut [f32]) {
    for (values, pixel) in input.as_chunks_mut::<3>().0.iter_mut().zip(crop.as_raw().as_chunks::<3>().0) {
        let [r, g, b] = pixel.map(|v| f32::from(v) * (1.0 / 127.5) - 1.0);
        *values = [b, g, r];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_needs_the_minimum_probability() {
        assert!(MaskResult::new(0.89, 0.11).mask);
        assert!(!MaskResult::new(0.88, 0.12).mask);
        assert!(!MaskResult::new(0.9, 0.95).mask);
        assert!(!MaskResult::new(f32::NAN, 0.0).mask);
    }

    #[test]
    fn pixels_are_written_blue_first() {
        let mut input = [0.0; 6];
        fill(&RgbImage::from_raw(2, 1, vec![0, 127, 255, 255, 0, 0]).unwrap(), &mut input);
        for (got, want) in input.iter().zip([1.0, 127.0 / 127.5 - 1.0, -1.0, -1.0, -1.0, 1.0]) {
            assert!((got - want).abs() < 1e-6, "{input:?}");
        }
    }
}
