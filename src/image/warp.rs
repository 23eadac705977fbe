//! Affine warp with bilinear sampling and a black border, as OpenCV's `warpAffine` does it.

use image::RgbImage;

/// A 2x3 matrix `[[a, b, c], [d, e, f]]` that maps (x, y) to (a x + b y + c, d x + e y + f).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine(pub [[f64; 3]; 2]);

impl Affine {
    /// The opposite mapping, or `None` when the matrix flattens the plane.
    pub fn inverse(&self) -> Option<Affine> {
        let [[a, b, c], [d, e, f]] = self.0;
        let det = a * e - b * d;
        if !det.is_finite() || det.abs() < 1e-12 {
            return None;
        }
        let (ia, ib, id, ie) = (e / det, -b / det, -d / det, a / det);
        Some(Affine([[ia, ib, -(ia * c + ib * f)], [id, ie, -(id * c + ie * f)]]))
    }

    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [[a, b, c], [d, e, f]] = self.0;
        [a * x + b * y + c, d * x + e * y + f]
    }
}

/// Samples lie on a grid of 1/32 pixel and are mixed in integers, as in OpenCV: embeddings were made from such crops.
const GRID_BITS: u32 = 5;
const GRID: i64 = 1 << GRID_BITS;
/// Coordinates are carried with this many fractional bits along a row.
const FRACTION_BITS: u32 = 10;

/// Fills a `width` x `height` picture whose pixel (x, y) is `source` at `to_source.apply([x, y])`; outside is black.
pub fn warp_affine(source: &RgbImage, to_source: &Affine, width: u32, height: u32) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    let [[a, b, c], [d, e, f]] = to_source.0;
    let fixed = |v: f64| (v * f64::from(1 << FRACTION_BITS)).round_ties_even() as i64;
    let steps: Vec<(i64, i64)> = (0..width).map(|x| (fixed(a * f64::from(x)), fixed(d * f64::from(x)))).collect();
    let half_cell = 1i64 << (FRACTION_BITS - GRID_BITS - 1);
    let sampler = Sampler::new(source);
    for (y, row) in out.chunks_exact_mut(width as usize * 3).enumerate() {
        let y = y as f64;
        let (x0, y0) = (fixed(b * y + c) + half_cell, fixed(e * y + f) + half_cell);
        for (pixel, (dx, dy)) in row.chunks_exact_mut(3).zip(&steps) {
            let shift = FRACTION_BITS - GRID_BITS;
            sampler.sample((x0 + dx) >> shift, (y0 + dy) >> shift, pixel);
        }
    }
    out
}

struct Sampler<'a> {
    pixels: &'a [u8],
    width: i64,
    height: i64,
}

impl<'a> Sampler<'a> {
    fn new(source: &'a RgbImage) -> Self {
        Sampler { pixels: source.as_raw(), width: source.width().into(), height: source.height().into() }
    }

    /// Mixes the four neighbours of a position given in grid cells.
    #[inline(always)]
    fn sample(&self, x: i64, y: i64, out: &mut [u8]) {
        let (left, top) = (x >> GRID_BITS, y >> GRID_BITS);
        let (fx, fy) = ((x & (GRID - 1)) as u32, (y & (GRID - 1)) as u32);
        let grid = GRID as u32;
        let weights = [(grid - fx) * (grid - fy), fx * (grid - fy), (grid - fx) * fy, fx * fy];
        let stride = self.width as usize * 3;
        let inside = left >= 0 && top >= 0 && left + 1 < self.width && top + 1 < self.height;
        let start = (top * self.width + left) * 3;
        if inside
            && let Some(above) = self.pixels.get(start as usize..).and_then(|s| s.first_chunk::<6>())
            && let Some(below) = self.pixels.get(start as usize + stride..).and_then(|s| s.first_chunk::<6>())
        {
            for c in 0..3 {
                out[c] = mix([above[c], above[c + 3], below[c], below[c + 3]], weights);
            }
        } else {
            for c in 0..3 {
                let at = |x: i64, y: i64| {
                    let inside = (0..self.width).contains(&x) && (0..self.height).contains(&y);
                    if inside { self.pixels[((y * self.width + x) * 3) as usize + c] } else { 0 }
                };
                let corners = [at(left, top), at(left + 1, top), at(left, top + 1), at(left + 1, top + 1)];
                out[c] = mix(corners, weights);
            }
        }
    }
}

/// Weighted mean of four values; the weights sum to `GRID * GRID`.
#[inline(always)]
fn mix(corners: [u8; 4], weights: [u32; 4]) -> u8 {
    let sum: u32 = corners.iter().zip(weights).map(|(&v, w)| u32::from(v) * w).sum();
    ((sum + (1 << (2 * GRID_BITS - 1))) >> (2 * GRID_BITS)) as u8
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
        assert_eq!(warp_affine(&source, &Affine([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), 20, 15), source);
    }

    #[test]
    fn outside_is_black() {
        let source = RgbImage::from_pixel(4, 4, image::Rgb([255; 3]));
        let warped = warp_affine(&source, &Affine([[1.0, 0.0, -100.0], [0.0, 1.0, 2e9]]), 8, 8);
        assert!(warped.as_raw().iter().all(|&v| v == 0));
        let shifted = warp_affine(&source, &Affine([[1.0, 0.0, 3.5], [0.0, 1.0, 0.0]]), 1, 1);
        assert_eq!(shifted.get_pixel(0, 0).0, [128; 3], "half a pixel over the edge mixes with black");
    }

    #[test]
    fn close_to_exact_bilinear() {
        let source = gradient(40, 30);
        let map = Affine([[0.31, -0.12, 9.4], [0.12, 0.31, 5.7]]);
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
                    assert!((got - exact).abs() < 4.5, "{x},{y}: {got} for {exact}");
                }
            }
        }
    }

    #[test]
    fn inverse_undoes_and_rejects_flat_maps() {
        let map = Affine([[1.5, -0.4, 3.0], [0.4, 1.5, -8.0]]);
        let [x, y] = map.inverse().unwrap().apply(map.apply([12.0, 34.0]));
        assert!((x - 12.0).abs() < 1e-9 && (y - 34.0).abs() < 1e-9);
        assert!(Affine([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]).inverse().is_none());
        assert!(Affine([[f64::NAN; 3]; 2]).inverse().is_none());
    }
}
