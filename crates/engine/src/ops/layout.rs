//! Conversions between row-major and blocked tensors.

use crate::layout::blocked::Blocked;
use crate::ops::blocked::BlockedView;
use crate::ops::elementwise;
use crate::ops::elementwise::BlockActivation;
use crate::ops::{for_bands, for_chunks, for_rows};
use crate::simd::Isa;

/// Row-major `[n][c][h][w]` to blocked; lanes beyond the last channel become zero.
pub(crate) fn block(src: &[f32], dst: &mut [f32], shape: &Blocked) {
    let (pixels, lanes) = (shape.h * shape.w, shape.lanes);
    for_rows(dst, shape, |index, y, row| {
        let (image, block) = (index / shape.blocks(), index % shape.blocks());
        for lane in 0..lanes {
            let channel = block * lanes + lane;
            if channel < shape.c {
                let source = &src[(image * shape.c + channel) * pixels + y * shape.w..][..shape.w];
                for (d, s) in row[lane..].iter_mut().step_by(lanes).zip(source) {
                    *d = *s;
                }
            } else {
                row[lane..].iter_mut().step_by(lanes).for_each(|d| *d = 0.0);
            }
        }
    });
}

/// Channels `first..first + channels` of a blocked tensor to row-major `[n][c][h][w]`, with a uniform activation.
pub(crate) fn to_planes(
    isa: Isa,
    src: BlockedView,
    first: usize,
    channels: usize,
    dst: &mut [f32],
    act: &BlockActivation,
) {
    let (h, w, lanes) = (src.shape.h, src.shape.w, src.shape.lanes);
    for_bands(dst, w, |first_row, band| {
        for (row, y) in band.chunks_exact_mut(w).zip(first_row..) {
            let (plane, y) = (y / h, y % h);
            let (image, channel) = (plane / channels, first + plane % channels);
            let source = src.row(image * src.shape.blocks() + channel / lanes, y);
            for (d, s) in row.iter_mut().zip(source[channel % lanes..].iter().step_by(lanes)) {
                *d = *s;
            }
        }
        elementwise::activate_uniform(isa, band, act);
    });
}

/// Channels `first..first + groups * per_group` of a blocked tensor to `[n][groups][h][w][per_group]`, with a uniform
/// activation. With one group, the result is NHWC.
pub(crate) fn to_pixels(
    isa: Isa,
    src: BlockedView,
    first: usize,
    [groups, per_group]: [usize; 2],
    dst: &mut [f32],
    act: &BlockActivation,
) {
    let (h, w, lanes) = (src.shape.h, src.shape.w, src.shape.lanes);
    for_chunks(dst, w * per_group, |index, row| {
        let (y, image) = (index % h, index / h / groups);
        let start = first + index / h % groups * per_group;
        let mut done = 0;
        while done < per_group {
            let channel = start + done;
            let (block, lane) = (channel / lanes, channel % lanes);
            let run = (lanes - lane).min(per_group - done);
            let source = src.row(image * src.shape.blocks() + block, y);
            match run == lanes && per_group == lanes {
                true => row.copy_from_slice(source),
                false => {
                    for (d, s) in row.chunks_exact_mut(per_group).zip(source.chunks_exact(lanes)) {
                        copy_short(&mut d[done..done + run], &s[lane..lane + run]);
                    }
                }
            }
            done += run;
        }
        elementwise::activate_uniform(isa, row, act);
    });
}

/// Copies a few values without a call to memcpy.
#[inline(always)]
fn copy_short(dst: &mut [f32], src: &[f32]) {
    for (d, s) in dst.iter_mut().zip(src) {
        *d = *s;
    }
}
