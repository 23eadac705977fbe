//! Affine warp with bilinear sampling and a black border: OpenCV's `warpAffine`.

use image::RgbImage;

use ifr_engine::simd::vectorized;

/// A 2x3 matrix `[[a, b, c], [d, e, f]]` that maps (x, y) to (a x + b y + c, d x + e y + f).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineTransform(pub [[f64; 3]; 2]);

impl AffineTransform {
    /// The inverse mapping. `None` if the matrix is singular or not finite.
    pub fn inverse(&self) -> Option<AffineTransform> {
        let [[a, b, c], [d, e, f]] = self.0;
        let det = a * e - b * d;
        if !det.is_finite() || det.abs() < 1e-12 {
            return None;
        }
        let (ia, ib, id, ie) = (e / det, -b / det, -d / det, a / det);
        Some(AffineTransform([[ia, ib, -(ia * c + ib * f)], [id, ie, -(id * c + ie * f)]]))
    }

    /// Maps a point.
    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [[a, b, c], [d, e, f]] = self.0;
        [a * x + b * y + c, d * x + e * y + f]
    }
}

/// Creates a picture of `width` x `height` pixels. Pixel (x, y) is `source` at `to_source.apply([x, y])`, black outside
/// of it.
pub fn warp_affine(source: &RgbImage, to_source: &AffineTransform, width: u32, height: u32) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    let sampler = Sampler::new(source);
    for (y, row) in out.chunks_exact_mut(width as usize * 3).enumerate() {
        warp_row(&sampler, to_source, y as f64, row);
    }
    out
}

/// Number of pixels in a block. The arithmetic of a block runs in vector registers.
const BLOCK: usize = 16;

vectorized! {
    /// Fills row `y` of the result.
    fn warp_row(sampler: &Sampler, to_source: &AffineTransform, y: f64, row: &mut [u8]) {
        let mut x = 0.0;
        for pixels in row.chunks_mut(3 * BLOCK) {
            sampler.sample_block(to_source, x, y, pixels);
            x += BLOCK as f64;
        }
    }
}

/// Reads pixels of the source.
struct Sampler<'a> {
    pixels: &'a [u8],
    width: i32,
    height: i32,
}

impl<'a> Sampler<'a> {
    fn new(source: &'a RgbImage) -> Self {
        Sampler { pixels: source.as_raw(), width: source.width() as i32, height: source.height() as i32 }
    }

    /// Fills the pixels of one block that starts at (`x`, `y`).
    #[inline(always)]
    fn sample_block(&self, to_source: &AffineTransform, x: f64, y: f64, pixels: &mut [u8]) {
        let (mut left, mut top) = ([0i32; BLOCK], [0i32; BLOCK]);
        let (mut fx, mut fy) = ([0f32; BLOCK], [0f32; BLOCK]);
        for i in 0..BLOCK {
            let [sx, sy] = to_source.apply([x + i as f64, y]);
            (left[i], fx[i]) = split(sx);
            (top[i], fy[i]) = split(sy);
        }
        let inside = (0..BLOCK).all(|i| {
            // One pixel of margin, because four bytes are loaded for three.
            left[i] >= 0 && top[i] >= 0 && left[i] < self.width - 2 && top[i] < self.height - 1
        });
        let mut corners = [[0u32; BLOCK]; 4];
        if inside {
            let stride = self.width as usize * 3;
            for i in 0..BLOCK {
                let start = top[i] as usize * stride + left[i] as usize * 3;
                // One bounds check: the pixels of the upper row start the span, the pixels of the lower row end it.
                let Some(span) = self.pixels.get(start..start + stride + 7) else { continue };
                let (Some(above), Some(below)) = (span.first_chunk(), span.last_chunk()) else { continue };
                [corners[0][i], corners[1][i]] = pair(above);
                [corners[2][i], corners[3][i]] = pair(below);
            }
        } else {
            for i in 0..BLOCK {
                for (corner, (dx, dy)) in corners.iter_mut().zip([(0, 0), (1, 0), (0, 1), (1, 1)]) {
                    corner[i] = self.pixel(left[i].saturating_add(dx), top[i].saturating_add(dy));
                }
            }
        }
        let mut mixed = [[0u8; BLOCK]; 3];
        for (c, mixed) in mixed.iter_mut().enumerate() {
            for i in 0..BLOCK {
                let value = |corner: usize| ((corners[corner][i] >> (8 * c)) & 255) as i32 as f32;
                let above = value(0) + (value(1) - value(0)) * fx[i];
                let below = value(2) + (value(3) - value(2)) * fx[i];
                mixed[i] = (above + (below - above) * fy[i] + 0.5) as i32 as u8;
            }
        }
        for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[mixed[0][i], mixed[1][i], mixed[2][i]]);
        }
    }

    /// Red, green and blue in the low bytes; black outside.
    fn pixel(&self, x: i32, y: i32) -> u32 {
        if !(0..self.width).contains(&x) || !(0..self.height).contains(&y) {
            return 0;
        }
        let start = (y as usize * self.width as usize + x as usize) * 3;
        let [r, g, b] = [self.pixels[start], self.pixels[start + 1], self.pixels[start + 2]];
        u32::from_le_bytes([r, g, b, 0])
    }
}

/// Two neighboring pixels, each with one additional byte.
#[inline(always)]
fn pair(&[a, b, c, d, e, f, g]: &[u8; 7]) -> [u32; 2] {
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([d, e, f, g])]
}

/// Integer part (rounded down) and fraction. Positions beyond the range of i32 are clamped, outside of any picture.
#[inline(always)]
fn split(position: f64) -> (i32, f32) {
    let floor = position.floor();
    (floor as i32, (position - floor) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(w: u32, h: u32) -> RgbImage {
        RgbImage::from_fn(w, h, |x, y| image::Rgb([(x * 5) as u8, (y * 7) as u8, ((x + y) * 3) as u8]))
    }

    #[test]
    fn identity_copies() {
        let source = gradient(20, 15);
        assert_eq!(warp_affine(&source, &AffineTransform([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), 20, 15), source);
    }

    #[test]
    fn outside_is_black() {
        let source = RgbImage::from_pixel(4, 4, image::Rgb([255; 3]));
        let warped = warp_affine(&source, &AffineTransform([[1.0, 0.0, -100.0], [0.0, 1.0, 2e9]]), 8, 8);
        assert!(warped.as_raw().iter().all(|&v| v == 0));
        let shifted = warp_affine(&source, &AffineTransform([[1.0, 0.0, 3.5], [0.0, 1.0, 0.0]]), 1, 1);
        assert_eq!(shifted.get_pixel(0, 0).0, [128; 3], "half a pixel beyond the edge is mixed with black");
    }

    #[test]
    fn agrees_with_exact_bilinear_sampling() {
        let source = gradient(40, 30);
        let map = AffineTransform([[0.31, -0.12, 9.4], [0.12, 0.31, 5.7]]);
        let warped = warp_affine(&source, &map, 60, 40);
        for y in 0..40u32 {
            for x in 0..60u32 {
                let [sx, sy] = map.apply([x.into(), y.into()]);
                let (x0, y0) = (sx.floor(), sy.floor());
                for c in 0..3 {
                    let at = |x: f64, y: f64| {
                        if x < 0.0 || y < 0.0 || x >= 40.0 || y >= 30.0 {
                            0.0
                        } else {
                            f64::from(source.get_pixel(x as u32, y as u32).0[c])
                        }
                    };
                    let (fx, fy) = (sx - x0, sy - y0);
                    let exact = (at(x0, y0) * (1.0 - fx) + at(x0 + 1.0, y0) * fx) * (1.0 - fy)
                        + (at(x0, y0 + 1.0) * (1.0 - fx) + at(x0 + 1.0, y0 + 1.0) * fx) * fy;
                    let got = f64::from(warped.get_pixel(x, y).0[c]);
                    assert!((got - exact).abs() < 0.51, "{x},{y}: {got} for {exact}");
                }
            }
        }
    }

    #[test]
    fn the_inverse_reverts_the_map_and_singular_maps_have_none() {
        let map = AffineTransform([[1.5, -0.4, 3.0], [0.4, 1.5, -8.0]]);
        let [x, y] = map.inverse().unwrap().apply(map.apply([12.0, 34.0]));
        assert!((x - 12.0).abs() < 1e-9 && (y - 34.0).abs() < 1e-9);
        assert!(AffineTransform([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]).inverse().is_none());
        assert!(AffineTransform([[f64::NAN; 3]; 2]).inverse().is_none());
    }
}
