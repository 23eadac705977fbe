//! Packed weights, shared by all plans of a network.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::kernels::tile::Segment;
use crate::layout::aligned::Aligned;

/// Packed weights by layer and packing, so that plans for other batch sizes and shapes do not pack again.
#[derive(Default)]
pub struct PackCache {
    packed: Mutex<HashMap<(String, String), Arc<Aligned>>>,
}

impl PackCache {
    /// The weights of `layer` in the form called `packing`, made by `pack` at the first call.
    pub(crate) fn get(&self, layer: &str, packing: &str, pack: impl FnOnce() -> Aligned) -> Arc<Aligned> {
        let key = (layer.to_owned(), packing.to_owned());
        let lock = || self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&key) {
            return found.clone();
        }
        // Outside the lock: layers are packed in parallel.
        let packed = Arc::new(pack());
        lock().entry(key).or_insert(packed).clone()
    }
}

/// Output channels whose sums the kernels make together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The first channel block.
    pub first: usize,
    pub width: Width,
}

/// How many channel blocks those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    One,
    Two,
    /// A block with channels in no more than half of its lanes. Each channel has two lanes then, which sum over inputs of even and of odd
    /// number: see [`tile::run_half`](crate::kernels::tile::run_half).
    Half,
}

impl Width {
    pub fn blocks(self) -> usize {
        match self {
            Width::One | Width::Half => 1,
            Width::Two => 2,
        }
    }

    /// Weights for each input.
    pub fn weights(self, lanes: usize) -> usize {
        match self {
            Width::One => lanes,
            Width::Two => 2 * lanes,
            Width::Half => lanes / 2,
        }
    }
}

/// Whether vectors of so many lanes are worth dividing between two inputs.
pub(crate) const fn halved(lanes: usize) -> bool {
    lanes >= 16
}

/// Whether the last block of so many channels can be a [`Width::Half`].
pub(crate) fn ends_in_half(channels: usize, lanes: usize) -> bool {
    halved(lanes) && (1..=lanes / 2).contains(&(channels % lanes))
}

/// Channel blocks go in pairs, one that is left alone. With `paired` inputs, where every [`Segment`] has an even length, a last block that
/// is at most half full is a [`Width::Half`].
pub(crate) fn groups(channels: usize, lanes: usize, paired: bool) -> Vec<Group> {
    let half = paired && ends_in_half(channels, lanes);
    let whole = if half { channels / lanes } else { channels.div_ceil(lanes) };
    let width = |first: usize| if whole - first > 1 { Width::Two } else { Width::One };
    let wholes = (0..whole).step_by(2).map(|first| Group { first, width: width(first) });
    wholes.chain(half.then_some(Group { first: whole, width: Width::Half })).collect()
}

/// Where a group's weights start in an array packed by [`pack_groups`].
pub(crate) fn group_start(group: Group, depth: usize, lanes: usize) -> usize {
    group.first * lanes * depth
}

/// Turns the weights of a [`Width::Half`], in order of inputs and then channels, into pairs: those of two inputs for each channel.
pub(crate) fn pair_up(weights: &mut [f32], lanes: usize) {
    let mut pairs = vec![0.0; lanes];
    for of_two in weights.chunks_exact_mut(lanes) {
        let (even, odd) = of_two.split_at(lanes / 2);
        for (pair, both) in pairs.chunks_exact_mut(2).zip(even.iter().zip(odd)) {
            pair.copy_from_slice(&[*both.0, *both.1]);
        }
        of_two.copy_from_slice(&pairs);
    }
}

/// Inputs packed together.
const SPAN: usize = 64;
/// Output channels packed together: one store writes so many.
const QUAD: usize = 4;

/// Packs `[groups][depth][blocks of the group][lanes]`, where `value(channel, k)` is the weight of output channel `channel` for the `k`-th
/// of `depth` inputs; half groups are paired up. `out` is zero before, and stays so for channels beyond `channels`.
pub(crate) fn pack_groups(
    channels: usize,
    depth: usize,
    lanes: usize,
    paired: bool,
    out: &mut [f32],
    value: impl Fn(usize, usize) -> f32,
) {
    let mut rest = out;
    for group in groups(channels, lanes, paired) {
        let (width, first) = (group.width.weights(lanes), group.first * lanes);
        let (packed, tail) = rest.split_at_mut(depth * width);
        rest = tail;
        let used = width.min(channels.saturating_sub(first));
        let whole = used / QUAD * QUAD;
        // A span of inputs at a time: read along each channel, written within the first-level cache.
        for (span, packed) in packed.chunks_mut(SPAN * width).enumerate() {
            for i in (0..whole).step_by(QUAD) {
                for (row, k) in packed.chunks_exact_mut(width).zip(span * SPAN..) {
                    row[i..i + QUAD].copy_from_slice(&std::array::from_fn::<f32, QUAD, _>(|c| value(first + i + c, k)));
                }
            }
            for i in whole..used {
                for (row, k) in packed.chunks_exact_mut(width).zip(span * SPAN..) {
                    row[i] = value(first + i, k);
                }
            }
        }
        if group.width == Width::Half {
            pair_up(packed, lanes);
        }
    }
}

fn block_segment(channels: usize, lanes: usize, block_stride: usize, block: usize) -> Segment {
    Segment { offset: block * block_stride, len: (channels - block * lanes).min(lanes) }
}

/// The inputs of a pixel, channel block after channel block: `offsets` within a block, each a run of the block's channels.
pub(crate) fn block_segments(channels: usize, lanes: usize, block_stride: usize, offsets: &[usize]) -> Vec<Segment> {
    (0..channels.div_ceil(lanes))
        .flat_map(|block| {
            let whole = block_segment(channels, lanes, block_stride, block);
            offsets.iter().map(move |o| Segment { offset: whole.offset + o, ..whole })
        })
        .collect()
}

thread_local! {
    static SEGMENTS: RefCell<Vec<Segment>> = RefCell::default();
}

/// Lends [`block_segments`] at a single offset, in memory of this thread that is kept for the next call.
pub(crate) fn with_segments<R>(
    channels: usize,
    lanes: usize,
    block_stride: usize,
    use_them: impl FnOnce(&[Segment]) -> R,
) -> R {
    let mut segments = SEGMENTS.take();
    segments.clear();
    segments.extend((0..channels.div_ceil(lanes)).map(|block| block_segment(channels, lanes, block_stride, block)));
    let result = use_them(&segments);
    SEGMENTS.set(segments);
    result
}
