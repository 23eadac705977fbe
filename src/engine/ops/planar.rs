//! Operations on row-major tensors of any rank: what is left of a network between the blocked maps and its outputs.

use super::for_bands;
use super::rows::{self, LaneAct, larger, smaller};
use crate::engine::ir::{Act, Affine, BinaryKind};
use crate::engine::kernels::Isa;

/// `dst = act(src * scale[c] + shift[c])` with c along axis 1.
pub(in crate::engine) fn affine(
    isa: Isa,
    src: &[f32],
    dst: &mut [f32],
    shape: &[usize],
    affine: &Affine,
    act: Option<&Act>,
) {
    let inner = shape[2..].iter().product::<usize>().max(1);
    for (index, (d, s)) in dst.chunks_exact_mut(inner).zip(src.chunks_exact(inner)).enumerate() {
        let c = index % shape[1];
        let act = match act {
            Some(Act::PRelu(slopes)) => LaneAct::Slope(vec![slopes[c]]),
            other => LaneAct::of(other, 0, 1),
        };
        rows::affine_uniform(isa, s, d, affine.scale[c], affine.shift[c], &act);
    }
}

/// Row-major strides of `shape`.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Calls `row(offset in dst, offsets in the operands)` for every innermost row of `shape`.
fn for_each_row<const N: usize>(shape: &[usize], operands: [&[usize]; N], mut row: impl FnMut(usize, [usize; N])) {
    let outer = &shape[..shape.len().saturating_sub(1)];
    let inner = shape.last().copied().unwrap_or(1);
    let mut position = vec![0; outer.len()];
    let mut at = [0; N];
    for index in 0..outer.iter().product::<usize>() {
        row(index * inner, at);
        for axis in (0..outer.len()).rev() {
            position[axis] += 1;
            (0..N).for_each(|i| at[i] += operands[i][axis]);
            if position[axis] < outer[axis] {
                break;
            }
            (0..N).for_each(|i| at[i] -= operands[i][axis] * outer[axis]);
            position[axis] = 0;
        }
    }
}

/// Strides of an operand of shape `from` that is repeated to `shape`; ranks are equal.
fn repeated(from: &[usize], shape: &[usize]) -> Vec<usize> {
    strides(from)
        .into_iter()
        .zip(from.iter().zip(shape))
        .map(|(s, (&f, &t))| if f == 1 && t != 1 { 0 } else { s })
        .collect()
}

/// `dst = act(a op b)`, each operand repeated along its axes of length 1.
pub(in crate::engine) fn binary(
    isa: Isa,
    kind: BinaryKind,
    [a, b]: [(&[f32], &[usize]); 2],
    dst: &mut [f32],
    shape: &[usize],
    act: Option<&Act>,
) {
    // Axes along which both operands run on in memory are one axis.
    let (steps_a, steps_b) = (repeated(a.1, shape), repeated(b.1, shape));
    let mut merged: Vec<(usize, usize, usize)> = vec![];
    for axis in 0..shape.len() {
        let here = (shape[axis], steps_a[axis], steps_b[axis]);
        match merged.last_mut() {
            Some(last) if last.1 == here.1 * here.0 && last.2 == here.2 * here.0 => {
                *last = (last.0 * here.0, here.1, here.2)
            }
            _ if here.0 == 1 => {}
            _ => merged.push(here),
        }
    }
    if merged.is_empty() {
        merged.push((1, 1, 1));
    }
    let dims: Vec<usize> = merged.iter().map(|m| m.0).collect();
    let (sa, sb): (Vec<usize>, Vec<usize>) =
        (merged.iter().map(|m| m.1).collect(), merged.iter().map(|m| m.2).collect());
    let (ia, ib) = (sa[sa.len() - 1], sb[sb.len() - 1]);
    // For each operation its own loop: a call for every element would cost more than the operation.
    macro_rules! rows {
        ($f:expr) => {
            for_bands(dst, dims[1..].iter().product(), |first, band| {
                let mut dims = dims.clone();
                dims[0] = band.len() / dims[1..].iter().product::<usize>();
                let inner = dims[dims.len() - 1];
                let (a, b) = (&a.0[first * sa[0]..], &b.0[first * sb[0]..]);
                for_each_row(&dims, [&sa, &sb], |at, [pa, pb]| {
                    let row = &mut band[at..at + inner];
                    match (ia, ib) {
                        (1, 1) if inner >= 16 => {
                            let whole = inner / 16 * 16;
                            let none = LaneAct::None;
                            let (a, b) = (&a[pa..pa + inner], &b[pb..pb + inner]);
                            rows::binary(isa, kind, &a[..whole], &b[..whole], &mut row[..whole], &none);
                            for (d, (a, b)) in row.iter_mut().zip(a.iter().zip(b)).skip(whole) {
                                *d = $f(*a, *b);
                            }
                        }
                        (1, 0) => {
                            let b = b[pb];
                            row.iter_mut().zip(&a[pa..]).for_each(|(d, a)| *d = $f(*a, b));
                        }
                        (0, 1) => {
                            let a = a[pa];
                            row.iter_mut().zip(&b[pb..]).for_each(|(d, b)| *d = $f(a, *b));
                        }
                        _ => {
                            for (i, d) in row.iter_mut().enumerate() {
                                *d = $f(a[pa + i * ia], b[pb + i * ib]);
                            }
                        }
                    }
                });
            })
        };
    }
    match kind {
        BinaryKind::Add => rows!(|x: f32, y: f32| x + y),
        BinaryKind::Sub => rows!(|x: f32, y: f32| x - y),
        BinaryKind::Mul => rows!(|x: f32, y: f32| x * y),
        BinaryKind::Div => rows!(|x: f32, y: f32| x / y),
        BinaryKind::Max => rows!(larger),
        BinaryKind::Min => rows!(smaller),
    }
    if let Some(act) = act {
        let source = dst.to_vec();
        affine(isa, &source, dst, shape, &Affine::identity(shape.get(1).copied().unwrap_or(1)), Some(act));
    }
}

/// Axis `i` of `dst` is axis `perm[i]` of `src`.
pub(in crate::engine) fn transpose(src: &[f32], shape: &[usize], perm: &[usize], dst: &mut [f32]) {
    let from = strides(shape);
    let dims: Vec<usize> = perm.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<usize> = perm.iter().map(|&axis| from[axis]).collect();
    let inner = dims.last().copied().unwrap_or(1);
    let step = steps.last().copied().unwrap_or(1);
    for_each_row(&dims, [&steps], |at, [start]| {
        for (i, d) in dst[at..at + inner].iter_mut().enumerate() {
            *d = src[start + i * step];
        }
    });
}

/// Copies `src` into positions `start..` of axis `axis` of `dst`, or, if `src` is the longer one, the other way round.
pub(in crate::engine) fn copy_range(
    (src, src_axis): (&[f32], usize),
    (dst, dst_axis): (&mut [f32], usize),
    inner: usize,
    [src_start, dst_start, len]: [usize; 3],
) {
    let sources = src.chunks_exact(src_axis * inner);
    for (d, s) in dst.chunks_exact_mut(dst_axis * inner).zip(sources) {
        let (from, to) =
            (&s[src_start * inner..(src_start + len) * inner], &mut d[dst_start * inner..(dst_start + len) * inner]);
        match to.len() {
            0..=16 => to.iter_mut().zip(from).for_each(|(t, f)| *t = *f),
            _ => to.copy_from_slice(from),
        }
    }
}

/// Softmax over neighbouring axes `axes`.
pub(in crate::engine) fn softmax(
    isa: Isa,
    src: &[f32],
    dst: &mut [f32],
    shape: &[usize],
    axes: std::ops::Range<usize>,
) {
    let count = shape[axes.clone()].iter().product::<usize>();
    let stride = shape[axes.end..].iter().product::<usize>();
    for (d, s) in dst.chunks_exact_mut(count * stride).zip(src.chunks_exact(count * stride)) {
        rows::softmax(isa, s, d, count, stride);
    }
}
