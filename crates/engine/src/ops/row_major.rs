//! Operations on row-major tensors of any rank, which are used between the blocked maps and the outputs of a network.

use tract_onnx::tract_core::internal::tract_smallvec::SmallVec;

use crate::graph::{Activation, Affine, BinaryKind};
use crate::ops::elementwise;
use crate::ops::elementwise::{BlockActivation, larger, smaller};
use crate::ops::{Axes, Lanes, for_bands};
use crate::simd::Isa;

/// `dst = act(src * scale[c] + shift[c])`, where `c` is the index along axis 1.
pub(crate) fn affine(
    isa: Isa,
    src: &[f32],
    dst: &mut [f32],
    shape: &[usize],
    affine: &Affine,
    act: Option<&Activation>,
) {
    let inner = shape[2..].iter().product::<usize>().max(1);
    for (index, (d, s)) in dst.chunks_exact_mut(inner).zip(src.chunks_exact(inner)).enumerate() {
        let c = index % shape[1];
        elementwise::affine_uniform(isa, s, d, affine.scale[c], affine.shift[c], &plane_act(act, c));
    }
}

/// The activation of one channel.
fn plane_act(act: Option<&Activation>, channel: usize) -> BlockActivation {
    match act {
        Some(Activation::PRelu(slopes)) => BlockActivation::Slope(Lanes::from_elem(slopes[channel], 1)),
        other => BlockActivation::new(other, 0, 1),
    }
}

/// Row-major strides of `shape`.
fn strides(shape: &[usize]) -> Axes {
    let mut strides = Axes::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Calls `row(offset in dst, offsets in the operands)` for every innermost row of `shape`.
fn for_each_row<const N: usize>(shape: &[usize], operands: [&[usize]; N], mut row: impl FnMut(usize, [usize; N])) {
    let outer = &shape[..shape.len().saturating_sub(1)];
    let inner = shape.last().copied().unwrap_or(1);
    let mut position = Axes::from_elem(0, outer.len());
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

/// Strides of an operand of shape `from` that is broadcast to `shape` of the same rank.
fn broadcast_strides(from: &[usize], shape: &[usize]) -> Axes {
    strides(from)
        .into_iter()
        .zip(from.iter().zip(shape))
        .map(|(s, (&f, &t))| if f == 1 && t != 1 { 0 } else { s })
        .collect()
}

/// Size of a buffer for copies of a short row, in floats.
const TILE: usize = 1024;

/// `dst = long op short`, or `short op long` if `swapped`, with `short` repeated to the length of `long`. The length of
/// `long` is a multiple of the length of `short`, which is at most 1/16 of [`TILE`].
fn with_repeated(isa: Isa, kind: BinaryKind, long: &[f32], short: &[f32], swapped: bool, dst: &mut [f32]) {
    let mut tile = [0.0; TILE];
    let tile = &mut tile[..16 * short.len()];
    tile.chunks_exact_mut(short.len()).for_each(|part| part.copy_from_slice(short));
    let apply = |long: &[f32], dst: &mut [f32]| match swapped {
        false => elementwise::binary(isa, kind, long, tile, dst, &BlockActivation::Identity),
        true => elementwise::binary(isa, kind, tile, long, dst, &BlockActivation::Identity),
    };
    let (mut from, mut to) = (long.chunks_exact(tile.len()), dst.chunks_exact_mut(tile.len()));
    from.by_ref().zip(to.by_ref()).for_each(|(from, to)| apply(from, to));
    let (from, to) = (from.remainder(), to.into_remainder());
    let (mut padded, mut result) = ([0.0; TILE], [0.0; TILE]);
    padded[..from.len()].copy_from_slice(from);
    apply(&padded[..tile.len()], &mut result[..tile.len()]);
    to.copy_from_slice(&result[..to.len()]);
}

/// `dst = act(a op b)` with operands and their shapes, which are broadcast to `shape`.
pub(crate) fn binary(
    isa: Isa,
    kind: BinaryKind,
    [a, b]: [(&[f32], &[usize]); 2],
    dst: &mut [f32],
    shape: &[usize],
    act: Option<&Activation>,
) {
    // Consecutive axes that are contiguous in both operands are merged.
    let (steps_a, steps_b) = (broadcast_strides(a.1, shape), broadcast_strides(b.1, shape));
    let mut merged: SmallVec<[(usize, usize, usize); 8]> = SmallVec::new();
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
    // Short rows with one repeated operand are merged into one long row.
    let mut short = None;
    if let [.., (rows, step_a, step_b), (row, 1, 1)] = merged[..]
        && [(row, 0), (0, row)].contains(&(step_a, step_b))
        && row * 16 <= TILE
    {
        short = Some((row, step_a == 0));
        merged.truncate(merged.len() - 2);
        if merged.is_empty() {
            merged.push((1, 0, 0));
        }
        merged.push((rows * row, 1, 1));
    }
    if merged.is_empty() {
        merged.push((1, 1, 1));
    }
    let dims: Axes = merged.iter().map(|m| m.0).collect();
    let (sa, sb): (Axes, Axes) = (merged.iter().map(|m| m.1).collect(), merged.iter().map(|m| m.2).collect());
    let (ia, ib) = (sa[sa.len() - 1], sb[sb.len() - 1]);
    // Each operation has its own loop, because a call for every element would take longer than the operation.
    macro_rules! rows {
        ($f:expr) => {
            for_bands(dst, dims[1..].iter().product(), |first, band| {
                let mut dims = dims.clone();
                dims[0] = band.len() / dims[1..].iter().product::<usize>();
                let inner = dims[dims.len() - 1];
                let (a, b) = (&a.0[first * sa[0]..], &b.0[first * sb[0]..]);
                for_each_row(&dims, [&sa, &sb], |at, [pa, pb]| {
                    let row = &mut band[at..at + inner];
                    if let Some((len, swapped)) = short {
                        let (long, start, short) =
                            if swapped { (b, pb, &a[pa..pa + len]) } else { (a, pa, &b[pb..pb + len]) };
                        return with_repeated(isa, kind, &long[start..start + inner], short, swapped, row);
                    }
                    match (ia, ib) {
                        (1, 1) if inner >= 16 => {
                            let whole = inner / 16 * 16;
                            let none = BlockActivation::Identity;
                            let (a, b) = (&a[pa..pa + inner], &b[pb..pb + inner]);
                            elementwise::binary(isa, kind, &a[..whole], &b[..whole], &mut row[..whole], &none);
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
        let channels = shape.get(1).copied().unwrap_or(1);
        let inner = shape.get(2..).map_or(1, |inner| inner.iter().product::<usize>()).max(1);
        for (index, plane) in dst.chunks_exact_mut(inner).enumerate() {
            elementwise::activate_uniform(isa, plane, &plane_act(Some(act), index % channels));
        }
    }
}

/// Axis `i` of `dst` is axis `perm[i]` of `src`.
pub(crate) fn transpose(src: &[f32], shape: &[usize], perm: &[usize], dst: &mut [f32]) {
    let from = strides(shape);
    let dims: Axes = perm.iter().map(|&axis| shape[axis]).collect();
    let steps: Axes = perm.iter().map(|&axis| from[axis]).collect();
    let inner = dims.last().copied().unwrap_or(1);
    let step = steps.last().copied().unwrap_or(1);
    for_each_row(&dims, [&steps], |at, [start]| {
        for (i, d) in dst[at..at + inner].iter_mut().enumerate() {
            *d = src[start + i * step];
        }
    });
}

/// Copies `len` positions along an axis, from `src_start` of `src` to `dst_start` of `dst`. Each operand comes with the
/// length of its axis; `inner` is the number of floats for each position.
pub(crate) fn copy_range(
    (src, src_axis): (&[f32], usize),
    (dst, dst_axis): (&mut [f32], usize),
    inner: usize,
    [src_start, dst_start, len]: [usize; 3],
) {
    let (src_row, dst_row, len) = (src_axis * inner, dst_axis * inner, len * inner);
    let (src_start, dst_start) = (src_start * inner, dst_start * inner);
    for_bands(dst, dst_row, |first, band| {
        let rows = band.chunks_exact_mut(dst_row).map(|row| &mut row[dst_start..dst_start + len]);
        let pairs = rows.zip(src[first * src_row..].chunks_exact(src_row).map(|row| &row[src_start..src_start + len]));
        // With a constant length, a short copy is a few moves instead of a call to memcpy.
        macro_rules! copy {
            ($($short:literal)*) => {
                match len {
                    $($short => pairs.for_each(|(to, from)| to[..$short].copy_from_slice(&from[..$short])),)*
                    _ => pairs.for_each(|(to, from)| to.copy_from_slice(from)),
                }
            };
        }
        copy!(1 2 3 4 5 6 7 8 10 12 16)
    });
}

/// Softmax over the consecutive axes `axes`.
pub(crate) fn softmax(isa: Isa, src: &[f32], dst: &mut [f32], shape: &[usize], axes: std::ops::Range<usize>) {
    let count = shape[axes.clone()].iter().product::<usize>();
    let stride = shape[axes.end..].iter().product::<usize>();
    for (d, s) in dst.chunks_exact_mut(count * stride).zip(src.chunks_exact(count * stride)) {
        elementwise::softmax(isa, s, d, count, stride);
    }
}
