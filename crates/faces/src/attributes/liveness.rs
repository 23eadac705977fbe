//! Liveness: distinguishes live faces from prints and screens.
//!
//! The score is the mean over several networks, each with a different margin around the face.
//! Source: minivision-ai/Silent-Face-Anti-Spoofing.

use super::network::{Expected, FaceNetwork, PixelLayout};
use super::{AttributeError, FaceView};
use crate::image::{ChannelOrder, Normalization, RgbImage, resize_bilinear};
use ifr_engine::Network;

const EXPECTED: Expected = Expected {
    what: "liveness network",
    shapes: "input 1x3xSxS and one output of 3 numbers",
    layout: PixelLayout::Planar,
    side: 80,
    values: &[3],
};
/// Index of the class of live faces. The other classes are prints and screens.
const LIVE: usize = 1;
/// Blue, green, red, 0 to 255.
const NORMALIZATION: Normalization = Normalization { order: ChannelOrder::Bgr, ..Normalization::NONE };
/// Scale of a network without a scale in its name.
const DEFAULT_SCALE: f32 = 2.7;

/// Scores liveness. `&self` methods may run on several threads at once.
pub struct Liveness {
    networks: Vec<(f32, FaceNetwork)>,
}

impl Liveness {
    /// Prepares networks for batches of up to `batch` faces. Each network has a scale: side of its crop divided by side
    /// of the box.
    ///
    /// The published networks are MiniFASNetV2 with scale 2.7 and MiniFASNetV1SE with scale 4.0.
    ///
    /// # Errors
    ///
    /// If there are no networks, the engine cannot prepare one, or its shapes are not those of a liveness network.
    pub fn new(networks: Vec<(f32, Network)>, batch: usize) -> Result<Liveness, AttributeError> {
        if networks.is_empty() {
            return Err(AttributeError::NoNetworks);
        }
        let prepare = |(scale, network)| Ok((scale, FaceNetwork::new(network, &EXPECTED, batch)?));
        Ok(Liveness { networks: networks.into_iter().map(prepare).collect::<Result<_, AttributeError>>()? })
    }

    /// Scale in the name of a published file, e.g. `2.7_80x80_MiniFASNetV2` or `4_0_0_80x80_MiniFASNetV1SE`. Default:
    /// 2.7.
    pub fn scale_of(name: &str) -> f32 {
        let first = name.split('_').next().and_then(|s| s.parse().ok());
        first.filter(|s| (1.0..=10.0).contains(s)).unwrap_or(DEFAULT_SCALE)
    }

    /// Names of the networks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.networks.iter().map(|(_, n)| n.name())
    }

    /// Probability of a live face for each face, 0 to 1: the mean over the networks.
    ///
    /// # Errors
    ///
    /// If the engine fails.
    pub fn score(&self, faces: &[FaceView]) -> Result<Vec<f32>, AttributeError> {
        let mut scores = vec![0f32; faces.len()];
        for (scale, network) in &self.networks {
            let side = network.side();
            let rows = network.run(faces, |face, planes| {
                let area = crop_area(face.image.dimensions(), face.bbox, *scale);
                let crop = match area {
                    Some(area) => resize_bilinear(face.image, area, side, side),
                    None => RgbImage::new(side, side),
                };
                NORMALIZATION.planes(crop.as_raw(), planes);
            })?;
            for (score, row) in scores.iter_mut().zip(&rows) {
                *score += softmax(row, LIVE) / self.networks.len() as f32;
            }
        }
        Ok(scores)
    }
}

/// x, y, width and height of the box enlarged by `scale`. The area is moved into the picture, and reduced if it is
/// larger.
///
/// `None` for boxes without area or with numbers that are not finite.
fn crop_area(picture: (u32, u32), bbox: [f32; 4], scale: f32) -> Option<(u32, u32, u32, u32)> {
    if !bbox.iter().all(|v| v.is_finite()) {
        return None;
    }
    let [x1, y1, x2, y2] = bbox.map(|v| v.trunc());
    let (box_w, box_h) = (x2 - x1, y2 - y1);
    if box_w <= 0.0 || box_h <= 0.0 {
        return None;
    }
    let (last_x, last_y) = ((picture.0.max(1) - 1) as f32, (picture.1.max(1) - 1) as f32);
    let scale = scale.min(last_x / box_w).min(last_y / box_h);
    let span = |start: f32, length: f32, last: f32| {
        let center = start + length / 2.0;
        let (mut low, mut high) = (center - length * scale / 2.0, center + length * scale / 2.0);
        if low < 0.0 {
            high -= low;
            low = 0.0;
        }
        if high > last {
            low -= high - last;
            high = last;
        }
        // Whole pixels, including both ends.
        let low = low.clamp(0.0, last) as u32;
        (low, (high.clamp(0.0, last) as u32).max(low) - low + 1)
    };
    let ((x, w), (y, h)) = (span(x1, box_w, last_x), span(y1, box_h, last_y));
    Some((x, y, w, h))
}

/// The softmax of a row at index `class`.
fn softmax(row: &[f32], class: usize) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = row.iter().map(|v| (v - max).exp()).sum();
    (row[class] - max).exp() / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crop_areas_are_inside_the_picture() {
        assert_eq!(crop_area((1000, 1000), [450.0, 450.0, 550.0, 550.0], 2.0), Some((400, 400, 201, 201)));
        assert_eq!(crop_area((1000, 1000), [0.0, 450.0, 100.0, 550.0], 2.0), Some((0, 400, 201, 201)), "moved");
        assert_eq!(crop_area((1000, 1000), [900.0, 450.0, 1000.0, 550.0], 2.0), Some((799, 400, 201, 201)));
        assert_eq!(crop_area((101, 51), [10.0, 10.0, 60.0, 60.0], 4.0), Some((10, 0, 51, 51)), "reduced");
        assert_eq!(crop_area((100, 100), [5.0, 5.0, 5.0, 9.0], 2.0), None);
        assert_eq!(crop_area((100, 100), [f32::NAN; 4], 2.0), None);
        for bbox in [[-500.0, -500.0, -400.0, -400.0], [1e9, 0.0, 2e9, 3.0], [0.0, 0.0, 1e30, 1.0]] {
            let (x, y, w, h) = crop_area((100, 80), bbox, 2.7).unwrap();
            assert!(x + w <= 100 && y + h <= 80 && w > 0 && h > 0, "{bbox:?}: {x} {y} {w} {h}");
        }
    }

    #[test]
    fn the_scale_is_read_from_the_name() {
        assert_eq!(Liveness::scale_of("2.7_80x80_MiniFASNetV2"), 2.7);
        assert_eq!(Liveness::scale_of("4_0_0_80x80_MiniFASNetV1SE"), 4.0);
        assert_eq!(Liveness::scale_of("my_net"), DEFAULT_SCALE);
    }

    #[test]
    fn softmax_sums_to_one() {
        let row = [100.0, 101.0, -5.0];
        let sum: f32 = (0..3).map(|c| softmax(&row, c)).sum();
        assert!((sum - 1.0).abs() < 1e-6 && softmax(&row, 1) > 0.7);
    }
}
