//! Alignment: a crop with the landmarks at the positions that recognizers are trained with.

use image::RgbImage;

use crate::image::{AffineTransform, warp_affine};

/// Side of an aligned crop in pixels.
pub const CROP_SIDE: u32 = 112;

/// x and y in the crop, in pixels, of left eye, right eye, nose tip, left and right mouth corner, as seen in the
/// picture. Source: ArcFace, `insightface/utils/face_align.py`.
pub const TEMPLATE: [[f32; 2]; 5] =
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];

/// The similarity transform (scale, rotation, translation; no reflection) from `from` to `to` with the least squared
/// error.
///
/// `None` if the points coincide or are not finite. Source: Umeyama 1991. In the plane and without reflections, the
/// solution needs no singular values: scale times rotation is the complex regression coefficient of `to` on `from`.
pub fn similarity_transform(from: &[[f32; 2]; 5], to: &[[f32; 2]; 5]) -> Option<AffineTransform> {
    let mean = |points: &[[f32; 2]; 5], axis: usize| points.iter().map(|p| f64::from(p[axis])).sum::<f64>() / 5.0;
    let (fx, fy, tx, ty) = (mean(from, 0), mean(from, 1), mean(to, 0), mean(to, 1));
    let (mut real, mut imaginary, mut spread) = (0.0, 0.0, 0.0);
    for (f, t) in from.iter().zip(to) {
        let (x, y) = (f64::from(f[0]) - fx, f64::from(f[1]) - fy);
        let (u, v) = (f64::from(t[0]) - tx, f64::from(t[1]) - ty);
        real += x * u + y * v;
        imaginary += x * v - y * u;
        spread += x * x + y * y;
    }
    if !spread.is_finite() || spread < 1e-9 {
        return None;
    }
    let (a, b) = (real / spread, imaginary / spread);
    Some(AffineTransform([[a, -b, tx - a * fx + b * fy], [b, a, ty - b * fx - a * fy]]))
}

/// Warps the picture to a 112x112 crop in which `landmarks` (in pixels of the picture) are at [`TEMPLATE`].
///
/// Landmarks that coincide or are not finite give a black crop.
pub fn align(image: &RgbImage, landmarks: &[[f32; 2]; 5]) -> RgbImage {
    match similarity_transform(landmarks, &TEMPLATE).and_then(|to_crop| to_crop.inverse()) {
        Some(to_source) => warp_affine(image, &to_source, CROP_SIDE, CROP_SIDE),
        None => RgbImage::new(CROP_SIDE, CROP_SIDE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn coinciding_points_have_no_transform() {
        assert!(similarity_transform(&[[3.0, 4.0]; 5], &TEMPLATE).is_none());
        assert!(similarity_transform(&[[f32::NAN, 4.0]; 5], &TEMPLATE).is_none());
        let crop = align(&RgbImage::from_pixel(9, 9, image::Rgb([200; 3])), &[[3.0, 4.0]; 5]);
        assert!(crop.as_raw().iter().all(|&v| v == 0));
    }

    proptest! {
        #[test]
        fn recovers_any_similarity_transform(scale in 0.05f64..20.0, angle in -3.1f64..3.1, x in -500f64..500.0, y in -500f64..500.0) {
            let (a, b) = (scale * angle.cos(), scale * angle.sin());
            let truth = AffineTransform([[a, -b, x], [b, a, y]]);
            let moved = TEMPLATE.map(|[px, py]| truth.apply([px.into(), py.into()]).map(|v| v as f32));
            let found = similarity_transform(&TEMPLATE, &moved).unwrap();
            for (f, t) in found.0.iter().flatten().zip(truth.0.iter().flatten()) {
                prop_assert!((f - t).abs() < 1e-2 * (1.0 + scale), "{found:?} for {truth:?}");
            }
        }

        #[test]
        fn no_other_transform_has_a_smaller_error(points in proptest::array::uniform5(proptest::array::uniform2(0f32..100.0)),
                                            da in -0.1f64..0.1, db in -0.1f64..0.1, dx in -3f64..3.0, dy in -3f64..3.0) {
            let error = |m: &AffineTransform| -> f64 {
                points.iter().zip(&TEMPLATE).map(|(p, t)| {
                    let [u, v] = m.apply([p[0].into(), p[1].into()]);
                    (u - f64::from(t[0])).powi(2) + (v - f64::from(t[1])).powi(2)
                }).sum()
            };
            if let Some(best) = similarity_transform(&points, &TEMPLATE) {
                let [[a, _, c], [b, _, f]] = best.0;
                let other = AffineTransform([[a + da, -(b + db), c + dx], [b + db, a + da, f + dy]]);
                prop_assert!(error(&best) <= error(&other) + 1e-6);
            }
        }
    }
}
