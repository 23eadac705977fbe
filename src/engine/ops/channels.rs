//! Concatenation, ranges and shuffles of channels on blocked tensors: all are one gather along the channels.

use super::for_parts;
use super::planes::View;
use crate::engine::kernels::Blocked;

/// A run of channels that are neighbours in one source block and in one result block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Run {
    pub source: usize,
    pub source_block: usize,
    pub source_lane: usize,
    pub lane: usize,
    pub len: usize,
}

/// The runs that make up each block of a result whose channel `i` is channel `map[i].1` of source `map[i].0`.
pub(in crate::engine) fn runs(map: &[(usize, usize)], lanes: usize) -> Vec<Vec<Run>> {
    map.chunks(lanes)
        .map(|block| {
            let mut runs: Vec<Run> = vec![];
            for (lane, &(source, channel)) in block.iter().enumerate() {
                let (source_block, source_lane) = (channel / lanes, channel % lanes);
                match runs.last_mut() {
                    Some(run)
                        if run.source == source
                            && run.source_block == source_block
                            && run.source_lane + run.len == source_lane =>
                    {
                        run.len += 1
                    }
                    _ => runs.push(Run { source, source_block, source_lane, lane, len: 1 }),
                }
            }
            runs
        })
        .collect()
}

/// Fills `dst` from `sources`; lanes no run mentions become zero.
pub(in crate::engine) fn gather(sources: &[View], dst: &mut [f32], shape: &Blocked, runs: &[Vec<Run>]) {
    let lanes = shape.lanes;
    for_parts(dst, shape.block_stride(), |index, plane| {
        let (image, block) = (index / shape.blocks(), index % shape.blocks());
        let filled = runs[block].iter().map(|r| r.len).sum::<usize>() == lanes;
        for y in 0..shape.h {
            let start = shape.offset(0, 0, y as isize, 0);
            let row = &mut plane[start..start + shape.w * lanes];
            if !filled {
                row.fill(0.0);
            }
            for run in &runs[block] {
                let source = sources[run.source];
                let source = source.row(image * source.shape.blocks() + run.source_block, y);
                match run.len {
                    len if len == lanes => row.copy_from_slice(source),
                    1 => copy_lane(row, source, run.lane, run.source_lane, lanes),
                    len => {
                        for (d, s) in row.chunks_exact_mut(lanes).zip(source.chunks_exact(lanes)) {
                            d[run.lane..run.lane + len].copy_from_slice(&s[run.source_lane..run.source_lane + len]);
                        }
                    }
                }
            }
        }
    });
}

fn copy_lane(row: &mut [f32], source: &[f32], lane: usize, source_lane: usize, lanes: usize) {
    for (d, s) in row[lane..].iter_mut().step_by(lanes).zip(source[source_lane..].iter().step_by(lanes)) {
        *d = *s;
    }
}
