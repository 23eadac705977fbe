//! Packed weights: their order in memory, the runs of inputs that they meet, and the cache that all plans of a network
//! share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::layout::aligned::Aligned;

/// A run of `len` consecutive input values that starts `offset` floats after the pixel's base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub offset: usize,
    pub len: usize,
}

/// Packed weights by layer and packing, so that plans for other batch sizes and shapes reuse them.
#[derive(Default)]
pub struct PackCache {
    packed: Mutex<HashMap<(String, String), Arc<Aligned>>>,
}

impl PackCache {
    /// The weights of `layer` in the form named `packing`, made by `pack` at the first call.
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

/// Output channel blocks that a kernel computes in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelGroup {
    /// The first channel block.
    pub first: usize,
    pub width: GroupWidth,
}

/// Number of channel blocks of a [`ChannelGroup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupWidth {
    One,
    Two,
    /// A block with channels in at most half of its lanes. Each channel gets two lanes, one that sums over inputs of
    /// even number and one that sums over inputs of odd number.
    Half,
}

impl GroupWidth {
    pub fn blocks(self) -> usize {
        match self {
            GroupWidth::One | GroupWidth::Half => 1,
            GroupWidth::Two => 2,
        }
    }

    /// Number of packed weights for each input.
    pub fn weights(self, lanes: usize) -> usize {
        match self {
            GroupWidth::One => lanes,
            GroupWidth::Two => 2 * lanes,
            GroupWidth::Half => lanes / 2,
        }
    }
}

/// Whether half blocks pay off: only with vectors of 16 lanes.
pub(crate) const fn supports_half_blocks(lanes: usize) -> bool {
    lanes >= 16
}

/// Whether the last block of `channels` can be a [`GroupWidth::Half`].
pub(crate) fn ends_in_half(channels: usize, lanes: usize) -> bool {
    supports_half_blocks(lanes) && (1..=lanes / 2).contains(&(channels % lanes))
}

/// Divides channel blocks into pairs, with a single block at the end if their number is odd. With `paired` inputs,
/// where every [`Segment`] has an even length, a last block that is at most half full is a [`GroupWidth::Half`].
pub(crate) fn channel_groups(channels: usize, lanes: usize, paired: bool) -> Vec<ChannelGroup> {
    let half = paired && ends_in_half(channels, lanes);
    let whole = if half { channels / lanes } else { channels.div_ceil(lanes) };
    let width = |first: usize| if whole - first > 1 { GroupWidth::Two } else { GroupWidth::One };
    let wholes = (0..whole).step_by(2).map(|first| ChannelGroup { first, width: width(first) });
    wholes.chain(half.then_some(ChannelGroup { first: whole, width: GroupWidth::Half })).collect()
}

/// Start of the group's weights in an array packed by [`pack_groups`].
pub(crate) fn group_start(group: ChannelGroup, depth: usize, lanes: usize) -> usize {
    group.first * lanes * depth
}

/// Reorders the weights of a [`GroupWidth::Half`] from inputs, channels to pairs of inputs, channels, the two inputs of
/// a pair.
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

/// Number of inputs packed at a time.
const INPUTS_AT_ONCE: usize = 64;
/// Number of output channels packed at a time, with one store.
const CHANNELS_AT_ONCE: usize = 4;

/// Packs `[groups][depth][blocks of the group][lanes]`, where `value(channel, k)` is the weight of output channel
/// `channel` for the `k`-th of `depth` inputs; half groups are stored in pairs. `out` must be zero on entry and remains
/// zero for channels beyond `channels`.
pub(crate) fn pack_groups(
    channels: usize,
    depth: usize,
    lanes: usize,
    paired: bool,
    out: &mut [f32],
    value: impl Fn(usize, usize) -> f32,
) {
    let mut rest = out;
    for group in channel_groups(channels, lanes, paired) {
        let (width, first) = (group.width.weights(lanes), group.first * lanes);
        let (packed, tail) = rest.split_at_mut(depth * width);
        rest = tail;
        let used = width.min(channels.saturating_sub(first));
        let whole = used / CHANNELS_AT_ONCE * CHANNELS_AT_ONCE;
        // Some inputs at a time: read along each channel, written within the first-level cache.
        for (span, packed) in packed.chunks_mut(INPUTS_AT_ONCE * width).enumerate() {
            for i in (0..whole).step_by(CHANNELS_AT_ONCE) {
                for (row, k) in packed.chunks_exact_mut(width).zip(span * INPUTS_AT_ONCE..) {
                    row[i..i + CHANNELS_AT_ONCE]
                        .copy_from_slice(&std::array::from_fn::<f32, CHANNELS_AT_ONCE, _>(|c| value(first + i + c, k)));
                }
            }
            for i in whole..used {
                for (row, k) in packed.chunks_exact_mut(width).zip(span * INPUTS_AT_ONCE..) {
                    row[i] = value(first + i, k);
                }
            }
        }
        if group.width == GroupWidth::Half {
            pair_up(packed, lanes);
        }
    }
}

fn block_segment(channels: usize, lanes: usize, block_stride: usize, block: usize) -> Segment {
    Segment { offset: block * block_stride, len: (channels - block * lanes).min(lanes) }
}

/// The inputs of a pixel, channel block after channel block; each of the `offsets` within a block is a run of the
/// block's channels.
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

/// Calls `use_them` with [`block_segments`] of a single offset, in memory that this thread keeps for the next call.
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
