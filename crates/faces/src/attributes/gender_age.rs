//! Estimation of gender and age.
//!
//! There are two kinds of networks. `genderage_v1` (202 output values) takes the aligned crop; source:
//! InsightFace-REST. The newer `genderage` (3 output values) takes a square around the box; source:
//! `insightface/model_zoo/attribute.py`.

use image::RgbImage;

use super::network::{Expected, FaceNetwork, PixelLayout};
use super::{AttributeError, FaceView};
use crate::image::{AffineTransform, Normalization, warp_affine};
use ifr_engine::Network;

/// Output values of `genderage_v1`: two for the gender, and two for each year of age.
const BY_YEARS: usize = 202;
/// Output values of `genderage`: two for the gender, and the age in centuries.
const DIRECT: usize = 3;
/// Side of the square that `genderage` takes, as a multiple of the longer side of the box.
const MARGIN: f32 = 1.5;

const EXPECTED: Expected = Expected {
    what: "gender and age network",
    shapes: "input 1x3xSxS and one output of 202 or 3 numbers",
    layout: PixelLayout::Planar,
    side: 112,
    values: &[BY_YEARS, DIRECT],
};

/// Estimates gender and age. `&self` methods may run on several threads at once.
pub struct GenderAge {
    network: FaceNetwork,
    normalization: Normalization,
}

impl GenderAge {
    /// Prepares `network` for batches of up to `batch` faces. The number of output values determines its kind.
    ///
    /// # Errors
    ///
    /// If the engine cannot prepare the network, or its shapes are those of neither kind.
    pub fn new(network: Network, batch: usize) -> Result<GenderAge, AttributeError> {
        let network = FaceNetwork::new(network, &EXPECTED, batch)?;
        let normalization = match network.values() {
            DIRECT if !network.normalizes_input() => Normalization::rgb(127.5, 128.0),
            _ => Normalization::NONE,
        };
        Ok(GenderAge { network, normalization })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// Gender (0 female, 1 male) and age in years of each face.
    ///
    /// # Errors
    ///
    /// If a crop has the wrong size or the engine fails.
    pub fn estimate(&self, faces: &[FaceView]) -> Result<Vec<(u8, u32)>, AttributeError> {
        let side = self.network.side();
        let rows = if self.network.values() == DIRECT {
            self.network.run(faces, |face, planes| {
                self.normalization.planes(square_around(face.image, face.bbox, side).as_raw(), planes);
            })?
        } else {
            if let Some(face) = faces.iter().find(|f| f.crop.dimensions() != (side, side)) {
                let (width, height) = face.crop.dimensions();
                return Err(AttributeError::CropSize { name: self.name().into(), expected: side, width, height });
            }
            self.network.run(faces, |face, planes| self.normalization.planes(face.crop.as_raw(), planes))?
        };
        Ok(rows.iter().map(|row| decode(row)).collect())
    }
}

/// Gender and age from the output values for one face.
fn decode(row: &[f32]) -> (u8, u32) {
    let gender = u8::from(row.get(1) > row.first());
    let age = match row {
        [_, _, centuries] => (centuries * 100.0).round().clamp(0.0, 150.0) as u32,
        _ => row[2.min(row.len())..].as_chunks::<2>().0.iter().map(|[no, yes]| u32::from(yes > no)).sum(),
    };
    (gender, age)
}

/// The square around the box with its margin, resampled to `side` x `side` pixels.
///
/// Pixels outside of the picture are black. A box without width and height gives a black square.
fn square_around(image: &RgbImage, [x1, y1, x2, y2]: [f32; 4], side: u32) -> RgbImage {
    let step = f64::from((x2 - x1).max(y2 - y1) * MARGIN) / f64::from(side);
    if !step.is_finite() || step <= 0.0 {
        return RgbImage::new(side, side);
    }
    let half = f64::from(side) / 2.0;
    let (x, y) = (f64::from(x1 + x2) / 2.0, f64::from(y1 + y2) / 2.0);
    warp_affine(image, &AffineTransform([[step, 0.0, x - half * step], [0.0, step, y - half * step]]), side, side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_are_counted() {
        let mut row = vec![0.0; BY_YEARS];
        row[1] = 1.0;
        for year in 0..37 {
            row[2 + 2 * year + 1] = 0.5;
        }
        assert_eq!(decode(&row), (1, 37));
        assert_eq!(decode(&[0.9, 0.1, 0.256]), (0, 26));
        assert_eq!(decode(&[0.1, 0.9, -3.0]), (1, 0));
        assert_eq!(decode(&[f32::NAN; 3]), (0, 0));
    }

    #[test]
    fn the_square_is_centered_on_the_box() {
        let image = RgbImage::from_fn(100, 80, |x, y| image::Rgb([x as u8, y as u8, 0]));
        // 40 pixels wide, 60 with the margin: two thirds of a source pixel for each pixel.
        let crop = square_around(&image, [30.0, 25.0, 70.0, 55.0], 90);
        assert_eq!(crop.get_pixel(45, 45).0, [50, 40, 0]);
        assert_eq!(crop.get_pixel(0, 0).0, [20, 10, 0]);
        let black = square_around(&image, [30.0, 20.0, 30.0, 20.0], 90);
        assert!(black.as_raw().iter().all(|&v| v == 0));
        square_around(&image, [f32::NAN; 4], 90);
        square_around(&image, [-1e30, 0.0, 1e30, 1.0], 90);
    }
}
