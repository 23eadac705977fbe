//! Gender and age.
//!
//! Two networks are known. `genderage_v1` (202 numbers) looks at the aligned crop; source: InsightFace-REST. The newer `genderage`
//! (3 numbers) looks at a square around the box; source: `insightface/model_zoo/attribute.py`.

use image::RgbImage;

use super::network::{Expected, FaceNetwork, Layout};
use super::{AttributeError, FaceView};
use crate::image::{AffineTransform, Normalization, warp_affine};
use ifr_engine::Network;

/// Numbers of `genderage_v1`: two for the gender, a pair for each year.
const BY_YEARS: usize = 202;
/// Numbers of the newer network: two for the gender, age in centuries.
const DIRECT: usize = 3;
/// How much wider than the box the newer network's square is.
const MARGIN: f32 = 1.5;

const EXPECTED: Expected = Expected {
    what: "gender and age network",
    shapes: "input 1x3xSxS and one output of 202 or 3 numbers",
    layout: Layout::Planar,
    side: 112,
    values: &[BY_YEARS, DIRECT],
};

/// Estimates gender and age. Shared between threads.
pub struct GenderAge {
    network: FaceNetwork,
    normalization: Normalization,
}

impl GenderAge {
    /// Prepares `network` for up to `batch` faces a pass. Which of the two kinds it is is read from its output.
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
    pub fn estimate(&self, faces: &[FaceView]) -> Result<Vec<(u8, u32)>, AttributeError> {
        let side = self.network.side();
        let rows = if self.network.values() == DIRECT {
            self.network.run(faces, |face, planes| {
                self.normalization.planes(around(face.image, face.bbox, side).as_raw(), planes);
            })?
        } else {
            if let Some(face) = faces.iter().find(|f| f.crop.dimensions() != (side, side)) {
                let (width, height) = face.crop.dimensions();
                return Err(AttributeError::CropSize { name: self.name().into(), expected: side, width, height });
            }
            self.network.run(faces, |face, planes| self.normalization.planes(face.crop.as_raw(), planes))?
        };
        Ok(rows.iter().map(|row| read(row)).collect())
    }
}

/// Gender and age from a network's numbers for one face.
fn read(row: &[f32]) -> (u8, u32) {
    let gender = u8::from(row.get(1) > row.first());
    let age = match row {
        [_, _, centuries] => (centuries * 100.0).round().clamp(0.0, 150.0) as u32,
        _ => row[2.min(row.len())..].as_chunks::<2>().0.iter().map(|[no, yes]| u32::from(yes > no)).sum(),
    };
    (gender, age)
}

/// The square of `side` pixels that shows the box and a margin. Black beyond the picture, and all black for a box without size.
fn around(image: &RgbImage, [x1, y1, x2, y2]: [f32; 4], side: u32) -> RgbImage {
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
        assert_eq!(read(&row), (1, 37));
        assert_eq!(read(&[0.9, 0.1, 0.256]), (0, 26));
        assert_eq!(read(&[0.1, 0.9, -3.0]), (1, 0));
        assert_eq!(read(&[f32::NAN; 3]), (0, 0));
    }

    #[test]
    fn the_square_is_centered_on_the_box() {
        let image = RgbImage::from_fn(100, 80, |x, y| image::Rgb([x as u8, y as u8, 0]));
        // 40 pixels wide with the margin 60: two thirds of a pixel a step.
        let crop = around(&image, [30.0, 25.0, 70.0, 55.0], 90);
        assert_eq!(crop.get_pixel(45, 45).0, [50, 40, 0]);
        assert_eq!(crop.get_pixel(0, 0).0, [20, 10, 0]);
        let black = around(&image, [30.0, 20.0, 30.0, 20.0], 90);
        assert!(black.as_raw().iter().all(|&v| v == 0));
        around(&image, [f32::NAN; 4], 90);
        around(&image, [-1e30, 0.0, 1e30, 1.0], 90);
    }
}
