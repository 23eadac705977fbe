//! Packed weights, shared by all plans of a network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Aligned;
use super::tile::Segment;

/// Packed weights by layer and packing, so that plans for other batch sizes and shapes do not pack again.
#[derive(Default)]
pub struct PackCache {
    packed: Mutex<HashMap<(String, String), Arc<Aligned>>>,
}

impl PackCache {
    /// The weights of `layer` in the form called `packing`, made by `pack` at the first call.
    pub(super) fn get(&self, layer: &str, packing: &str, pack: impl FnOnce() -> Aligned) -> Arc<Aligned> {
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

/// Channel blocks are worked on in pairs; an odd one at the end goes alone.
pub(super) fn groups(blocks: usize) -> impl Iterator<Item = Group> {
    (0..blocks).step_by(2).map(move |first| Group { first, blocks: (blocks - first).min(2) })
}

/// One or two neighbouring output channel blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub first: usize,
    pub blocks: usize,
}

/// Inputs packed together.
const SPAN: usize = 64;
/// Output channels packed together: one store writes so many.
const QUAD: usize = 4;

/// Packs `[groups][depth][blocks of the group][lanes]`, where `value(channel, k)` is the weight of output channel `channel` for the `k`-th
/// of `depth` inputs. `out` is zero before, and stays so for channels beyond `channels`.
pub(super) fn pack_groups(
    channels: usize,
    depth: usize,
    lanes: usize,
    out: &mut [f32],
    value: impl Fn(usize, usize) -> f32,
) {
    let mut rest = out;
    for group in groups(channels.div_ceil(lanes)) {
        let (width, first) = (group.blocks * lanes, group.first * lanes);
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
    }
}

/// The inputs of a pixel, channel block after channel block: `offsets` within a block, each a run of the block's channels.
pub(super) fn block_segments(channels: usize, lanes: usize, block_stride: usize, offsets: &[usize]) -> Vec<Segment> {
    (0..channels.div_ceil(lanes))
        .flat_map(|block| {
            let len = (channels - block * lanes).min(lanes);
            offsets.iter().map(move |o| Segment { offset: block * block_stride + o, len })
        })
        .collect()
}
