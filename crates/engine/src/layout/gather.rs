//! Choosing channels: each pixel of a result block is put together from pixels of one or more source blocks.

use crate::kernels::isa::Isa;
use crate::kernels::isa::kernels;
use crate::simd::vector::Simd;

/// For each lane of a result block the lane of a source block it is copied from, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneChoice {
    /// As the instruction set wants it: see [`Simd::choose`].
    index: Vec<f32>,
    /// Each lane from its own place: a copy.
    is_copy: bool,
}

impl LaneChoice {
    /// `lanes[i]` is the source lane of lane `i`.
    pub fn new(isa: Isa, lanes: &[Option<usize>]) -> LaneChoice {
        let k = kernels(isa);
        let code = |lane: &Option<usize>| f32::from_bits(lane.map_or(u32::MAX, k.lane_index));
        LaneChoice {
            index: lanes.iter().map(code).collect(),
            is_copy: lanes.iter().enumerate().all(|(i, lane)| *lane == Some(i)),
        }
    }
}

/// Fills a row of a result block from rows of source blocks. Lanes that nothing chooses become zero; none may be chosen twice.
pub fn gather_row(isa: Isa, sources: &[(&LaneChoice, &[f32])], row: &mut [f32]) {
    assert!(sources.iter().all(|(choice, from)| from.len() == row.len() && choice.index.len() == isa.lanes()));
    match sources {
        [(choice, from)] if choice.is_copy => row.copy_from_slice(from),
        _ => {
            let chosen =
                |(choice, from): &(&LaneChoice, &[f32])| Chosen { row: from.as_ptr(), index: choice.index.as_ptr() };
            // The rows of a result block come from few source blocks.
            let mut few = [Chosen { row: std::ptr::null(), index: std::ptr::null() }; 16];
            for (part, sources) in sources.chunks(few.len()).enumerate() {
                few.iter_mut().zip(sources).for_each(|(f, source)| *f = chosen(source));
                // SAFETY: rows have the length of the result, a whole number of pixels; indices name lanes of a block.
                unsafe {
                    (kernels(isa).gather)(&few[..sources.len()], row.as_mut_ptr(), row.len() / isa.lanes(), part > 0)
                };
            }
            if sources.is_empty() {
                row.fill(0.0);
            }
        }
    }
}

/// A source row and the lanes to take of each of its pixels.
#[derive(Clone, Copy)]
pub(crate) struct Chosen {
    pub row: *const f32,
    pub index: *const f32,
}

/// Sources, result, pixels, and whether to add to what the result holds.
pub(crate) type GatherFn = unsafe fn(&[Chosen], *mut f32, usize, bool);

/// # Safety
/// The CPU has `S`, rows are valid for `pixels`, and indices were made by `S::lane_index`.
#[inline(always)]
pub(crate) unsafe fn row<S: Simd>(sources: &[Chosen], out: *mut f32, pixels: usize, add: bool) {
    // SAFETY: reads and writes stay within what the caller vouches for.
    unsafe {
        match sources {
            [a] if !add => few::<S, 1>(&[*a], out, pixels),
            [a, b] if !add => few::<S, 2>(&[*a, *b], out, pixels),
            [a, b, c] if !add => few::<S, 3>(&[*a, *b, *c], out, pixels),
            [a, b, c, d] if !add => few::<S, 4>(&[*a, *b, *c, *d], out, pixels),
            _ => {
                for at in (0..pixels).map(|p| p * S::LANES) {
                    let mut v = if add { S::load(out.add(at)) } else { S::zero() };
                    for source in sources {
                        v = S::or(v, S::choose(S::load(source.row.add(at)), S::load(source.index)));
                    }
                    S::store(out.add(at), v);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn few<S: Simd, const N: usize>(sources: &[Chosen; N], out: *mut f32, pixels: usize) {
    // SAFETY: as above.
    unsafe {
        let index: [S::V; N] = std::array::from_fn(|i| S::load(sources[i].index));
        for at in (0..pixels).map(|p| p * S::LANES) {
            let mut v = S::choose(S::load(sources[0].row.add(at)), index[0]);
            for i in 1..N {
                v = S::or(v, S::choose(S::load(sources[i].row.add(at)), index[i]));
            }
            S::store(out.add(at), v);
        }
    }
}
