//! Packed weights: their order in memory, the order of their inputs, and the cache that all plans of a network share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::layout::aligned::Aligned;
use crate::lock::Lock;

/// A run of `len` consecutive input values, `offset` floats after the base of the pixel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub offset: usize,
    pub len: usize,
}

/// Packed weights by layer and form. Plans for different batch sizes and shapes share them.
#[derive(Default)]
pub struct PackCache {
    packed: Lock<HashMap<(String, String), Arc<Aligned>>>,
}

impl PackCache {
    /// The weights of `layer` in the form `packing`. The first call computes them with `pack`.
    pub(crate) fn get(&self, layer: &str, packing: &str, pack: impl FnOnce() -> Aligned) -> Arc<Aligned> {
        let key = (layer.to_owned(), packing.to_owned());
        if let Some(found) = self.packed.lock().get(&key) {
            return found.clone();
        }
        // Outside the lock: layers are packed in parallel.
        let packed = Arc::new(pack());
        self.packed.lock().entry(key).or_insert(packed).clone()
    }
}

/// Output channel blocks that one call of a kernel computes.
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
    /// A block with channels in at most half of its lanes. Each channel gets two lanes: one sums over the inputs with
    /// even index, the other over the inputs with odd index.
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

/// Reorders the weights of a [`GroupWidth::Half`] from `[input][channel]` to `[pair of inputs][channel][input of the
/// pair]`.
pub(crate) fn pair_up(weights: &mut [f32], lanes: usize) {
    let mut pairs = vec![0.0; lanes];
    for two_inputs in weights.chunks_exact_mut(lanes) {
        let (even, odd) = two_inputs.split_at(lanes / 2);
        for (pair, both) in pairs.chunks_exact_mut(2).zip(even.iter().zip(odd)) {
            pair.copy_from_slice(&[*both.0, *both.1]);
        }
        two_inputs.copy_from_slice(&pairs);
    }
}

/// Number of inputs that are packed together: the results fit in the first-level cache.
const INPUTS_PER_SPAN: usize = 64;
/// Number of output channels that one store writes.
const CHANNELS_PER_STORE: usize = 4;

/// Packs `[group][depth][block of the group][lane]`; half groups are stored in pairs. `value(channel, k)` is the weight
/// of output channel `channel` for input `k` of `depth`. `out` must be zero on entry; it remains zero beyond
/// `channels`.
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
        let whole = used / CHANNELS_PER_STORE * CHANNELS_PER_STORE;
        // In spans of inputs: reads follow each channel, and writes stay in the first-level cache.
        for (span, packed) in packed.chunks_mut(INPUTS_PER_SPAN * width).enumerate() {
            for i in (0..whole).step_by(CHANNELS_PER_STORE) {
                for (row, k) in packed.chunks_exact_mut(width).zip(span * INPUTS_PER_SPAN..) {
                    row[i..i + CHANNELS_PER_STORE].copy_from_slice(&std::array::from_fn::<f32, CHANNELS_PER_STORE, _>(
                        |c| value(first + i + c, k),
                    ));
                }
            }
            for i in whole..used {
                for (row, k) in packed.chunks_exact_mut(width).zip(span * INPUTS_PER_SPAN..) {
                    row[i] = value(first + i, k);
                }
            }
        }
        if group.width == GroupWidth::Half {
            pair_up(packed, lanes);
        }
    }
}

/// The inputs of a pixel in one channel block.
fn block_segment(channels: usize, lanes: usize, block_stride: usize, block: usize) -> Segment {
    Segment { offset: block * block_stride, len: (channels - block * lanes).min(lanes) }
}

/// The inputs of a pixel, ordered by channel block. Each of `offsets` is the position of a run of the block's channels.
pub(crate) fn block_segments(channels: usize, lanes: usize, block_stride: usize, offsets: &[usize]) -> Vec<Segment> {
    (0..channels.div_ceil(lanes))
        .flat_map(|block| {
            let whole = block_segment(channels, lanes, block_stride, block);
            offsets.iter().map(move |o| Segment { offset: whole.offset + o, ..whole })
        })
        .collect()
}

thread_local! {
    /// Memory for [`with_segments`].
    static SEGMENTS: RefCell<Vec<Segment>> = RefCell::default();
}

/// Calls `use_them` with [`block_segments`] of the offset 0, in memory that this thread keeps for later calls.
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
