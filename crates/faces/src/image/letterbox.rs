//! Letterbox: scales a picture of any size to the fixed canvas of a detector.

use image::RgbImage;

use super::{area, bilinear};

/// Position of a picture in the canvas: scaled by `scale`, at the top left. The rest of the canvas is black.
///
/// Sizes are (width, height) in pixels. Small pictures are enlarged; a factor above 2 is multiplied by 0.7, so that
/// faces are not blurrier than in the training data. Source: `resize_image` of InsightFace-REST.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Size of the canvas of the detector.
    pub canvas: (usize, usize),
    /// Size of the scaled picture.
    pub inner: (usize, usize),
    /// Factor from picture to canvas.
    pub scale: f64,
}

impl Letterbox {
    /// The letterbox of a picture of size `image` in `canvas`. All sides must be at least 1.
    pub fn fit(image: (usize, usize), canvas: (usize, usize)) -> Letterbox {
        let (w, h) = (image.0 as f64, image.1 as f64);
        let mut scale = (canvas.0 as f64 / w).min(canvas.1 as f64 / h);
        if scale > 2.0 {
            scale *= 0.7;
        }
        let side = |length: f64, limit: usize| ((length * scale).round() as usize).clamp(1, limit);
        Letterbox { canvas, inner: (side(w, canvas.0), side(h, canvas.1)), scale }
    }

    /// Converts an x or y coordinate of the canvas to the picture.
    pub fn to_image(&self, position: f32) -> f32 {
        (f64::from(position) / self.scale) as f32
    }

    /// Writes the scaled `image` to `canvas`: RGB rows of `self.canvas.0 * 3` bytes. Every byte of the canvas is
    /// written.
    ///
    /// Reduction is OpenCV's `INTER_AREA`, enlargement is OpenCV's `INTER_LINEAR`; golden tests require both.
    pub fn apply(&self, image: &RgbImage, canvas: &mut [u8]) {
        let stride = self.canvas.0 * 3;
        let size = (image.width() as usize, image.height() as usize);
        let (inner_rows, below) = canvas.split_at_mut(stride * self.inner.1);
        below.fill(0);
        if self.inner == size {
            for (row, source) in inner_rows.chunks_exact_mut(stride).zip(image.as_raw().chunks_exact(size.0 * 3)) {
                row[..size.0 * 3].copy_from_slice(source);
            }
        } else if self.scale <= 1.0 {
            area::downscale(image.as_raw(), size, inner_rows, self.inner, stride, 1.0 / self.scale);
        } else {
            bilinear::enlarge(image.as_raw(), size, inner_rows, self.inner, stride, 1.0 / self.scale);
        }
        for row in inner_rows.chunks_exact_mut(stride) {
            row[self.inner.0 * 3..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn large_factors_are_reduced() {
        let fit = Letterbox::fit((220, 269), (640, 640));
        assert!((fit.scale - 1.665_427_509).abs() < 1e-8);
        assert_eq!(fit.inner, (366, 448));
    }

    #[test]
    fn extreme_pictures_have_at_least_one_pixel() {
        assert_eq!(Letterbox::fit((20_000, 1), (640, 640)).inner, (640, 1));
        assert_eq!(Letterbox::fit((1, 1), (640, 640)).inner, (448, 448));
        assert_eq!(Letterbox::fit((1, 50_000), (320, 640)).inner, (1, 640));
    }

    #[test]
    fn the_rest_of_the_canvas_is_black() {
        for size in [(40, 20), (300, 500), (64, 96), (1, 1), (2000, 1)] {
            let fit = Letterbox::fit(size, (64, 96));
            let image = RgbImage::from_pixel(size.0 as u32, size.1 as u32, image::Rgb([200, 100, 50]));
            let mut canvas = vec![9u8; 64 * 96 * 3];
            fit.apply(&image, &mut canvas);
            for (i, pixel) in canvas.chunks_exact(3).enumerate() {
                let inside = i % 64 < fit.inner.0 && i / 64 < fit.inner.1;
                assert_eq!(pixel, if inside { [200, 100, 50] } else { [0, 0, 0] }, "{size:?} at {i}");
            }
        }
    }

    /// Mean of the pixel centers of a canvas, weighted by the pixel values.
    fn centroid(canvas: &[u8], width: usize) -> Option<(f32, f32)> {
        let (mut x, mut y, mut sum) = (0.0, 0.0, 0.0);
        for (i, pixel) in canvas.chunks_exact(3).enumerate() {
            let light = f64::from(pixel[0]);
            x += light * ((i % width) as f64 + 0.5);
            y += light * ((i / width) as f64 + 0.5);
            sum += light;
        }
        (sum > 0.0).then_some(((x / sum) as f32, (y / sum) as f32))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn to_image_converts_positions_on_the_canvas_to_the_picture(w in 1usize..900, h in 1usize..900, cw in 1usize..12, ch in 1usize..12,
                                                         fx in 0f64..1.0, fy in 0f64..1.0) {
            let fit = Letterbox::fit((w, h), (cw * 32, ch * 32));
            prop_assert!(fit.inner.0 <= fit.canvas.0 && fit.inner.1 <= fit.canvas.1);
            // A blob that is a few pixels wide on the canvas and completely inside the picture.
            let radius = (2.0 / fit.scale).max(1.0).ceil() as usize;
            let at = |fraction: f64, side: usize| {
                let from = (fraction * side.saturating_sub(2 * radius) as f64) as usize;
                (from, (from + 2 * radius).min(side))
            };
            let ((x1, x2), (y1, y2)) = (at(fx, w), at(fy, h));
            let inside = |x: u32, y: u32| (x1..x2).contains(&(x as usize)) && (y1..y2).contains(&(y as usize));
            let image = RgbImage::from_fn(w as u32, h as u32, |x, y| image::Rgb([if inside(x, y) { 255 } else { 0 }; 3]));
            let mut canvas = vec![0u8; 3 * fit.canvas.0 * fit.canvas.1];
            fit.apply(&image, &mut canvas);
            let (x, y) = centroid(&canvas, fit.canvas.0).expect("the blob is on the canvas");
            let tolerance = (1.0 / fit.scale + 1.0) as f32;
            for (seen, from, to) in [(x, x1, x2), (y, y1, y2)] {
                let (found, there) = (fit.to_image(seen), (from + to) as f32 / 2.0);
                prop_assert!((found - there).abs() <= tolerance, "{found} for {there}: {fit:?}");
            }
        }
    }
}
