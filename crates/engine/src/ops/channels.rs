//! Concatenations, slices and shuffles of channels on blocked tensors, implemented as a gather along the channels.

use crate::kernels::gather::{LaneChoice, gather_row};
use crate::layout::blocked::Blocked;
use crate::ops::blocked::BlockedView;
use crate::ops::{Operands, for_rows};
use crate::simd::Isa;

/// A source block and the lanes of a result block that are copied from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pick {
    source: usize,
    block: usize,
    lanes: LaneChoice,
}

/// Index of a source and of a block in it.
type SourceBlock = (usize, usize);

/// The picks of each block of a result. Channel `i` of the result is channel `map[i].1` of source `map[i].0`.
pub(crate) fn picks(isa: Isa, map: &[(usize, usize)]) -> Vec<Vec<Pick>> {
    let lanes = isa.lanes();
    map.chunks(lanes)
        .map(|block| {
            // Source and block, and the source lane of each lane.
            let mut block_picks: Vec<(SourceBlock, Vec<Option<usize>>)> = vec![];
            for (lane, &(source, channel)) in block.iter().enumerate() {
                let from = (source, channel / lanes);
                let at = block_picks.iter().position(|(key, _)| *key == from).unwrap_or_else(|| {
                    block_picks.push((from, vec![None; lanes]));
                    block_picks.len() - 1
                });
                block_picks[at].1[lane] = Some(channel % lanes);
            }
            let pick = |((source, block), lanes)| Pick { source, block, lanes: LaneChoice::new(isa, lanes) };
            block_picks.iter().map(|(from, lanes)| pick((*from, lanes))).collect()
        })
        .collect()
}

/// Fills `dst` from `sources`; lanes without a pick become zero.
pub(crate) fn gather(isa: Isa, sources: &[BlockedView], dst: &mut [f32], shape: &Blocked, picks: &[Vec<Pick>]) {
    for_rows(dst, shape, |index, y, row| {
        let (image, block) = (index / shape.blocks(), index % shape.blocks());
        let picked = picks[block].iter().map(|pick| {
            let source = sources[pick.source];
            (&pick.lanes, source.row(image * source.shape.blocks() + pick.block, y))
        });
        gather_row(isa, &picked.collect::<Operands<_>>(), row);
    });
}
