//! Color conversion with the 16-bit constants of libjpeg's `jdcolor`.

// The constants of ITU-R BT.601 times 2^16, rounded.
const CR_TO_R: i32 = 91_881;
const CB_TO_B: i32 = 116_130;
const CR_TO_G: i32 = -46_802;
const CB_TO_G: i32 = -22_554;
const HALF: i32 = 1 << 15;

/// One pixel of YCbCr as RGB.
#[inline(always)]
pub(crate) fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((CR_TO_R * cr + HALF) >> 16);
    let g = y + ((CB_TO_G * cb + CR_TO_G * cr + HALF) >> 16);
    let b = y + ((CB_TO_B * cb + HALF) >> 16);
    [r, g, b].map(|v| v.clamp(0, 255) as u8)
}

/// Rows of Y, Cb and Cr into a row of RGB.
#[inline(always)]
pub(crate) fn ycc_row(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if crate::simd::has_avx2() {
        // SAFETY: the CPU has AVX2.
        done = unsafe { crate::color_avx2::ycc_row(y, cb, cr, out) };
    }
    let (y, cb, cr, out) = (&y[done..], &cb[done..], &cr[done..], &mut out[3 * done..]);
    for (((rgb, &y), &cb), &cr) in out.as_chunks_mut::<3>().0.iter_mut().zip(y).zip(cb).zip(cr) {
        *rgb = ycc_to_rgb(y, cb, cr);
    }
}

/// Three rows into pixels without conversion.
#[inline(always)]
pub(crate) fn interleave_row(r: &[u8], g: &[u8], b: &[u8], out: &mut [u8]) {
    for (((rgb, &r), &g), &b) in out.as_chunks_mut::<3>().0.iter_mut().zip(r).zip(g).zip(b) {
        *rgb = [r, g, b];
    }
}

/// Gray on all three channels.
#[inline(always)]
pub(crate) fn gray_row(gray: &[u8], out: &mut [u8]) {
    for (rgb, &gray) in out.as_chunks_mut::<3>().0.iter_mut().zip(gray) {
        *rgb = [gray; 3];
    }
}

/// Inks from YCCK as libjpeg converts them: the complement of RGB; black is copied.
#[inline(always)]
pub(crate) fn ycck_to_cmyk(y: u8, cb: u8, cr: u8, k: u8) -> [u8; 4] {
    let [r, g, b] = ycc_to_rgb(y, cb, cr);
    [255 - r, 255 - g, 255 - b, k]
}

/// Inverted inks (255 is no ink), as Adobe programs store them, as RGB.
#[inline(always)]
pub(crate) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        // Division by 255 with rounding.
        let product = u32::from(ink) * u32::from(k) + 128;
        ((product + (product >> 8)) >> 8) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_is_the_rounded_one_of_bt_601() {
        for y in (0..=255u8).step_by(5) {
            for cb in (0..=255u8).step_by(3) {
                for cr in 0..=255u8 {
                    let (fy, fb, fr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
                    let exact = [fy + 1.402 * fr, fy - 0.34414 * fb - 0.71414 * fr, fy + 1.772 * fb];
                    for (is, exact) in ycc_to_rgb(y, cb, cr).into_iter().zip(exact) {
                        assert!((f64::from(is) - exact.clamp(0.0, 255.0)).abs() < 0.503, "{y} {cb} {cr}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_and_pixels_agree() {
        let all: Vec<[u8; 3]> = (0..1 << 18)
            .map(|i: u32| [(i >> 12 << 2) as u8 | 3 & (i >> 5) as u8, (i >> 6 << 2) as u8 | 1, (i << 2) as u8])
            .chain((0..=255).flat_map(|cb| (0..=255).map(move |cr| [128, cb, cr])))
            .collect();
        for pixels in all.chunks(997) {
            let [y, cb, cr]: [Vec<u8>; 3] = std::array::from_fn(|c| pixels.iter().map(|p| p[c]).collect());
            let mut out = vec![0; pixels.len() * 3];
            ycc_row(&y, &cb, &cr, &mut out);
            for (rgb, p) in out.chunks(3).zip(pixels) {
                assert_eq!(rgb, ycc_to_rgb(p[0], p[1], p[2]), "{p:?}");
            }
        }
    }

    #[test]
    fn inverted_inks() {
        assert_eq!(cmyk_to_rgb([255, 255, 255, 255]), [255; 3]);
        assert_eq!(cmyk_to_rgb([255, 0, 128, 255]), [255, 0, 128]);
        assert_eq!(cmyk_to_rgb([255, 100, 0, 0]), [0; 3]);
        assert_eq!(ycck_to_cmyk(255, 128, 128, 7), [0, 0, 0, 7]);
    }
}
