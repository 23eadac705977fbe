//! Selection of channels: each pixel of a result block is composed of lanes from one or more source blocks.

use crate::simd::Isa;
use crate::simd::vector::{Simd, SimdFn};

/// For each lane of a result block, the lane of a source block to copy, or no lane.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneChoice {
    /// Index in the form of the instruction set: see [`Simd::permute`].
    index: Vec<f32>,
    /// Whether each lane has the same index in the source.
    is_copy: bool,
}

/// [`Simd::lane_index`] of a lane.
struct LaneIndex;

impl SimdFn for LaneIndex {
    type Args<'a> = usize;
    type Output = u32;

    #[inline(always)]
    unsafe fn run<S: Simd>(lane: usize) -> u32 {
        S::lane_index(lane)
    }
}

impl LaneChoice {
    /// `lanes[i]` is the source lane of lane `i`.
    pub fn new(isa: Isa, lanes: &[Option<usize>]) -> LaneChoice {
        // SAFETY: the CPU has `isa`; any lane is allowed.
        let index = |lane: usize| unsafe { isa.call::<LaneIndex>(lane) };
        LaneChoice {
            index: lanes.iter().map(|lane| f32::from_bits(lane.map_or(u32::MAX, index))).collect(),
            is_copy: lanes.iter().enumerate().all(|(i, lane)| *lane == Some(i)),
        }
    }
}

/// Fills a row of a result block from rows of source blocks. Lanes without a source become zero; no lane may have two
/// sources.
pub fn gather_row(isa: Isa, sources: &[(&LaneChoice, &[f32])], row: &mut [f32]) {
    assert!(sources.iter().all(|(choice, from)| from.len() == row.len() && choice.index.len() == isa.lanes()));
    match sources {
        [] => row.fill(0.0),
        [(choice, from)] if choice.is_copy => row.copy_from_slice(from),
        _ => {
            let mut chosen = [GatherSource { row: std::ptr::null(), index: std::ptr::null() }; MAX_SOURCES];
            for (part, sources) in sources.chunks(MAX_SOURCES).enumerate() {
                for (chosen, (choice, from)) in chosen.iter_mut().zip(sources) {
                    *chosen = GatherSource { row: from.as_ptr(), index: choice.index.as_ptr() };
                }
                let row = GatherRow {
                    sources: &chosen[..sources.len()],
                    out: row.as_mut_ptr(),
                    pixels: row.len() / isa.lanes(),
                    add: part > 0,
                };
                // SAFETY: the CPU has `isa`; rows have the length of the result, a whole number of pixels; indices
                // select lanes of a block.
                unsafe { isa.call::<GatherKernel>(&row) };
            }
        }
    }
}

/// Maximum number of sources for one call of the kernel; more sources take several calls.
const MAX_SOURCES: usize = 16;

/// A source row and the lanes to copy from each of its pixels.
#[derive(Clone, Copy)]
struct GatherSource {
    row: *const f32,
    index: *const f32,
}

/// Arguments of one call of the kernel.
struct GatherRow<'a> {
    sources: &'a [GatherSource],
    out: *mut f32,
    pixels: usize,
    /// Whether lanes without a source keep their values in `out`.
    add: bool,
}

/// Gathers one row.
struct GatherKernel;

impl SimdFn for GatherKernel {
    type Args<'a> = &'a GatherRow<'a>;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, rows are valid for `pixels`, and indices were made by `S::lane_index`.
    #[inline(always)]
    unsafe fn run<S: Simd>(row: &GatherRow) {
        let &GatherRow { sources, out, pixels, add } = row;
        // SAFETY: reads and writes stay within the memory whose validity the caller guarantees.
        unsafe {
            match sources {
                [a] if !add => gather::<S, 1>(&[*a], out, pixels),
                [a, b] if !add => gather::<S, 2>(&[*a, *b], out, pixels),
                [a, b, c] if !add => gather::<S, 3>(&[*a, *b, *c], out, pixels),
                [a, b, c, d] if !add => gather::<S, 4>(&[*a, *b, *c, *d], out, pixels),
                _ => {
                    for at in (0..pixels).map(|p| p * S::LANES) {
                        let mut v = if add { S::load(out.add(at)) } else { S::zero() };
                        for source in sources {
                            v = S::or(v, S::permute(S::load(source.row.add(at)), S::load(source.index)));
                        }
                        S::store(out.add(at), v);
                    }
                }
            }
        }
    }
}

/// The loop for `N` sources, whose indices stay in registers.
#[inline(always)]
unsafe fn gather<S: Simd, const N: usize>(sources: &[GatherSource; N], out: *mut f32, pixels: usize) {
    // SAFETY: as above.
    unsafe {
        let index: [S::V; N] = std::array::from_fn(|i| S::load(sources[i].index));
        for at in (0..pixels).map(|p| p * S::LANES) {
            let mut v = S::permute(S::load(sources[0].row.add(at)), index[0]);
            for i in 1..N {
                v = S::or(v, S::permute(S::load(sources[i].row.add(at)), index[i]));
            }
            S::store(out.add(at), v);
        }
    }
}
