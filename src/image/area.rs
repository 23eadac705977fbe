//! Downscaling by exact pixel coverage, as OpenCV's `INTER_AREA` does it.
//!
//! Every destination pixel is the average of the source rectangle it covers, partly covered pixels by their share. Rows
//! are summed first: that pass touches every source byte once or twice in long vectorisable runs, and leaves only one row in
//! `src_h / dst_h` for the pass across.

use std::ops::Range;

/// The source pixels one destination pixel covers along an axis: the inner ones fully, the outer two by `first` and `last`.
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

/// Coverage of each of `dst` cells over `src` pixels; the weights of a span sum to 1.
fn spans(src: usize, dst: usize) -> Vec<Span> {
    let scale = src as f64 / dst as f64;
    // Coverage below this share of a pixel is rounding error of the multiplication.
    const SLIVER: f64 = 1e-3;
    (0..dst)
        .map(|i| {
            let (from, to) = (i as f64 * scale, ((i + 1) as f64 * scale).min(src as f64));
            let mut start = from.floor() as usize;
            if start as f64 + 1.0 - from < SLIVER && start + 1 < src {
                start += 1;
            }
            let mut end = (to.ceil() as usize).min(src);
            if to - (end as f64 - 1.0) < SLIVER && end > start + 1 {
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

/// Averages `src` (RGB, `src_size` width and height) down to `dst_size`, into rows of `dst` that are `dst_stride` bytes apart.
///
/// `dst_size` must not exceed `src_size` in either direction, and `dst` must hold the rows.
pub(super) fn downscale(
    src: &[u8],
    src_size: (usize, usize),
    dst: &mut [u8],
    dst_size: (usize, usize),
    dst_stride: usize,
) {
    let row_len = src_size.0 * 3;
    let columns = spans(src_size.0, dst_size.0);
    let mut sums = vec![0f32; row_len];
    for (span, out) in spans(src_size.1, dst_size.1).iter().zip(dst.chunks_mut(dst_stride)) {
        sums.fill(0.0);
        for y in span.pixels.clone() {
            add_weighted(&mut sums, &src[y * row_len..(y + 1) * row_len], span.weight(y));
        }
        for (column, pixel) in columns.iter().zip(out.chunks_exact_mut(3)) {
            average(&sums[column.pixels.start * 3..column.pixels.end * 3], column, pixel);
        }
    }
}

/// `sums += weight * row`.
fn add_weighted(sums: &mut [f32], row: &[u8], weight: f32) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has just been seen to have AVX2, the only requirement of the function.
        return unsafe { add_weighted_avx2(sums, row, weight) };
    }
    add_weighted_plain(sums, row, weight);
}

/// The plain loop, compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_weighted_avx2(sums: &mut [f32], row: &[u8], weight: f32) {
    add_weighted_plain(sums, row, weight);
}

#[inline(always)]
fn add_weighted_plain(sums: &mut [f32], row: &[u8], weight: f32) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += weight * f32::from(value);
    }
}

#[inline(always)]
fn average(covered: &[f32], column: &Span, pixel: &mut [u8]) {
    let mut inner = [0f32; 3];
    let count = covered.len() / 3;
    let mut pixels = covered.chunks_exact(3);
    let first = pixels.next().unwrap_or(&[0.0; 3]);
    let mut sum = [first[0] * column.first, first[1] * column.first, first[2] * column.first];
    for value in pixels.by_ref().take(count.saturating_sub(2)) {
        for c in 0..3 {
            inner[c] += value[c];
        }
    }
    if let Some(last) = pixels.next() {
        for c in 0..3 {
            sum[c] += last[c] * column.last;
        }
    }
    for c in 0..3 {
        pixel[c] = (sum[c] + inner[c] * column.inner).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Straight from the definition, in f64.
    fn oracle(src: &[u8], (sw, sh): (usize, usize), (dw, dh): (usize, usize)) -> Vec<f64> {
        let (fx, fy) = (sw as f64 / dw as f64, sh as f64 / dh as f64);
        let cover = |p: usize, i: usize, f: f64| {
            ((p as f64 + 1.0).min((i + 1) as f64 * f) - (p as f64).max(i as f64 * f)).max(0.0)
        };
        let mut out = vec![];
        for y in 0..dh {
            for x in 0..dw {
                for c in 0..3 {
                    let mut sum = 0.0;
                    for sy in 0..sh {
                        for sx in 0..sw {
                            sum += cover(sx, x, fx) * cover(sy, y, fy) * f64::from(src[(sy * sw + sx) * 3 + c]);
                        }
                    }
                    out.push(sum / (fx * fy));
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_definition() {
        for (src_size, dst_size) in
            [((7, 5), (3, 2)), ((31, 17), (30, 4)), ((12, 12), (6, 4)), ((9, 1), (2, 1)), ((5, 5), (5, 5))]
        {
            let src: Vec<u8> = (0..src_size.0 * src_size.1 * 3).map(|i| (i * 97 % 251) as u8).collect();
            let stride = dst_size.0 * 3 + 6;
            let mut dst = vec![7u8; stride * dst_size.1];
            downscale(&src, src_size, &mut dst, dst_size, stride);
            let expected = oracle(&src, src_size, dst_size);
            for y in 0..dst_size.1 {
                for x in 0..dst_size.0 * 3 {
                    let (got, want) = (f64::from(dst[y * stride + x]), expected[y * dst_size.0 * 3 + x]);
                    assert!((got - want).abs() <= 0.51, "{src_size:?} -> {dst_size:?} at {x},{y}: {got} for {want}");
                }
                assert_eq!(dst[y * stride + dst_size.0 * 3..(y + 1) * stride], [7; 6], "bytes beyond the row");
            }
        }
    }

    #[test]
    fn weights_of_every_span_sum_to_one() {
        for (src, dst) in [(4000, 640), (1600, 640), (641, 640), (3, 1), (20000, 1), (640, 640)] {
            for span in spans(src, dst) {
                let sum: f64 = span.pixels.clone().map(|p| f64::from(span.weight(p))).sum();
                assert!((sum - 1.0).abs() < 1e-4, "{src} -> {dst}: {span:?}");
            }
        }
    }
}
