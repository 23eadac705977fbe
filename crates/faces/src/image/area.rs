//! Reduction by exact pixel coverage: OpenCV's `INTER_AREA`.
//!
//! A destination pixel is the mean of the source rectangle that it covers. Partly covered pixels are weighted by the
//! covered fraction. Rows are summed first: this pass reads every source byte once or twice in long vectorizable runs,
//! so the pass over columns has one row in `src_h / dst_h`.

use std::ops::Range;

use ifr_engine::simd::vectorized;

/// Source pixels that a destination pixel covers along an axis, and their weights: `first`, `last`, and `inner` for
/// each other pixel.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    pixels: Range<usize>,
    first: f32,
    inner: f32,
    last: f32,
}

impl Span {
    fn weight(&self, index: usize) -> f32 {
        if index == self.pixels.start {
            self.first
        } else if index + 1 == self.pixels.end {
            self.last
        } else {
            self.inner
        }
    }
}

/// Spans of `dst` cells, each `step` source pixels wide, over `src` pixels. The weights of a span sum to 1.
///
/// The last cell may end beyond the source or before its end, because the original scales by a factor and rounds the
/// size.
fn spans(src: usize, dst: usize, step: f64) -> Vec<Span> {
    // A covered fraction below this is a rounding error of the multiplication. Value of OpenCV.
    const SLIVER: f64 = 1e-3;
    (0..dst)
        .map(|i| {
            let from = (i as f64 * step).min(src as f64 - 1.0);
            let to = (i as f64 * step + step).min(src as f64).max(from + SLIVER);
            let mut start = from.floor() as usize;
            if start as f64 + 1.0 - from <= SLIVER && start + 1 < src {
                start += 1;
            }
            let mut end = (to.ceil() as usize).clamp(start + 1, src);
            if to - (end as f64 - 1.0) <= SLIVER && end > start + 1 {
                end -= 1;
            }
            let cover = |p: usize| ((p as f64 + 1.0).min(to) - (p as f64).max(from)).clamp(0.0, 1.0);
            let inner_count = (end - start).saturating_sub(2) as f64;
            let (first, last) = (cover(start), if end - start > 1 { cover(end - 1) } else { 0.0 });
            let total = first + inner_count + last;
            Span {
                pixels: start..end,
                first: (first / total) as f32,
                inner: (1.0 / total) as f32,
                last: (last / total) as f32,
            }
        })
        .collect()
}

/// Reduces `src` (RGB, `src_size` is (width, height)) to `dst_size`. A destination pixel is `step` >= 1 source pixels
/// wide and high. Rows of `dst` are `dst_stride` bytes apart.
///
/// `dst_size` must be `src_size / step`, rounded and at least 1, and `dst` must have room for the rows.
pub(super) fn downscale(
    src: &[u8],
    src_size: (usize, usize),
    dst: &mut [u8],
    dst_size: (usize, usize),
    dst_stride: usize,
    step: f64,
) {
    let row_len = src_size.0 * 3;
    let columns = spans(src_size.0, dst_size.0, step);
    let mut sums = vec![0f32; row_len];
    for (span, out) in spans(src_size.1, dst_size.1, step).iter().zip(dst.chunks_mut(dst_stride)) {
        sums.fill(0.0);
        for y in span.pixels.clone() {
            add_weighted(&mut sums, &src[y * row_len..(y + 1) * row_len], span.weight(y));
        }
        let pixels = sums.as_chunks::<3>().0;
        for (column, pixel) in columns.iter().zip(out.as_chunks_mut::<3>().0) {
            average(&pixels[column.pixels.clone()], column, pixel);
        }
    }
}

vectorized! {
    /// `sums += weight * row`.
    fn add_weighted(sums: &mut [f32], row: &[u8], weight: f32) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += weight * f32::from(value);
        }
    }
}

/// Writes the mean of the covered values of a row of sums.
#[inline(always)]
fn average(covered: &[[f32; 3]], column: &Span, pixel: &mut [u8; 3]) {
    let Some((first, rest)) = covered.split_first() else { return };
    let mut sum = first.map(|value| value * column.first);
    let mut inner = [0f32; 3];
    if let Some((last, between)) = rest.split_last() {
        for value in between {
            for c in 0..3 {
                inner[c] += value[c];
            }
        }
        for c in 0..3 {
            sum[c] += last[c] * column.last;
        }
    }
    for c in 0..3 {
        // Halves are rounded up, as in OpenCV's mean of 2x2 pixels, where they are frequent.
        pixel[c] = (sum[c] + inner[c] * column.inner + 0.5) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn oracle(src: &[u8], (sw, sh): (usize, usize), (dw, dh): (usize, usize), step: f64) -> Vec<f64> {
        let cover = |p: usize, i: usize, len: usize| {
            let to = ((i + 1) as f64 * step).min(len as f64);
            ((p as f64 + 1.0).min(to) - (p as f64).max(i as f64 * step)).max(0.0)
        };
        let mut out = vec![];
        for y in 0..dh {
            for x in 0..dw {
                for c in 0..3 {
                    let (mut sum, mut total) = (0.0, 0.0);
                    for sy in 0..sh {
                        for sx in 0..sw {
                            let weight = cover(sx, x, sw) * cover(sy, y, sh);
                            sum += weight * f64::from(src[(sy * sw + sx) * 3 + c]);
                            total += weight;
                        }
                    }
                    out.push(sum / total);
                }
            }
        }
        out
    }

    fn rounded((w, h): (usize, usize), step: f64) -> (usize, usize) {
        let side = |v: usize| ((v as f64 / step).round() as usize).max(1);
        (side(w), side(h))
    }

    #[test]
    fn agrees_with_the_definition() {
        for (src_size, step) in
            [((7, 5), 2.2), ((31, 17), 1.04), ((12, 12), 2.0), ((9, 1), 4.5), ((5, 5), 1.0), ((40, 23), 2.5)]
        {
            let src: Vec<u8> = (0..src_size.0 * src_size.1 * 3).map(|i| (i * 97 % 251) as u8).collect();
            let dst_size = rounded(src_size, step);
            let stride = dst_size.0 * 3 + 6;
            let mut dst = vec![7u8; stride * dst_size.1];
            downscale(&src, src_size, &mut dst, dst_size, stride, step);
            let expected = oracle(&src, src_size, dst_size, step);
            for y in 0..dst_size.1 {
                for x in 0..dst_size.0 * 3 {
                    let (got, want) = (f64::from(dst[y * stride + x]), expected[y * dst_size.0 * 3 + x]);
                    assert!((got - want).abs() <= 0.51, "{src_size:?} by {step} at {x},{y}: {got} for {want}");
                }
                assert_eq!(dst[y * stride + dst_size.0 * 3..(y + 1) * stride], [7; 6], "bytes beyond the row");
            }
        }
    }

    #[test]
    fn spans_are_inside_the_source_and_their_weights_sum_to_one() {
        for src in [1usize, 2, 3, 641, 1600, 4000, 20_000] {
            for step in [1.0, 1.0 + 1e-9, 1.5, 2.0, 2.5, 6.25, 31.25, 20_000.0] {
                let dst = ((src as f64 / step).round() as usize).max(1);
                for span in spans(src, dst, step) {
                    assert!(!span.pixels.is_empty() && span.pixels.end <= src, "{src} by {step}: {span:?}");
                    let sum: f64 = span.pixels.clone().map(|p| f64::from(span.weight(p))).sum();
                    assert!((sum - 1.0).abs() < 1e-4, "{src} by {step}: {span:?}");
                }
            }
        }
    }
}
