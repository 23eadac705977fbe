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

/// Fills a `width` x `height` picture whose pixel (x, y) is `source` at `to_source.apply([x, y])`; outside is black.
pub fn warp_affine(source: &RgbImage, to_source: &Affine, width: u32, height: u32) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    let sampler = Sampler::new(source);
    for (y, row) in out.chunks_exact_mut(width as usize * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let [sx, sy] = to_source.apply([x as f64, y as f64]);
            sampler.sample(sx, sy, pixel);
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

    /// Mixes the four neighbours of a position.
    #[inline(always)]
    fn sample(&self, x: f64, y: f64, out: &mut [u8]) {
        // Casts saturate, so positions at infinity are outside like any other far ones.
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = ((x - left) as f32, (y - top) as f32);
        let (left, top) = (left as i64, top as i64);
        let stride = self.width as usize * 3;
        let inside = left >= 0 && top >= 0 && left < self.width - 1 && top < self.height - 1;
        if inside
            && let start = (top * self.width + left) as usize * 3
            && let Some(above) = self.pixels.get(start..).and_then(|s| s.first_chunk::<6>())
            && let Some(below) = self.pixels.get(start + stride..).and_then(|s| s.first_chunk::<6>())
        {
            for c in 0..3 {
                out[c] = mix([above[c], above[c + 3], below[c], below[c + 3]], fx, fy);
            }
        } else {
            let at = |dx: i64, dy: i64, c: usize| {
                let (x, y) = (left.saturating_add(dx), top.saturating_add(dy));
                let inside = (0..self.width).contains(&x) && (0..self.height).contains(&y);
                if inside { self.pixels[(y * self.width + x) as usize * 3 + c] } else { 0 }
            };
            for (c, out) in out.iter_mut().enumerate() {
                *out = mix([at(0, 0, c), at(1, 0, c), at(0, 1, c), at(1, 1, c)], fx, fy);
            }
        }
    }
}

/// Bilinear mean of the corners (top left, top right, bottom left, bottom right).
#[inline(always)]
fn mix(corners: [u8; 4], fx: f32, fy: f32) -> u8 {
    let [tl, tr, bl, br] = corners.map(f32::from);
    let top = tl + (tr - tl) * fx;
    let bottom = bl + (br - bl) * fx;
    (top + (bottom - top) * fy + 0.5) as u8
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
                    assert!((got - exact).abs() < 0.51, "{x},{y}: {got} for {exact}");
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
