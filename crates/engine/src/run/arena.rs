//! Memory of a running network: one block, whose layout is determined when the network is prepared.

use std::ops::{Range, RangeInclusive};

use crate::layout::aligned::Aligned;
use crate::lock::Lock;
use crate::run::threads::max_concurrent_runs;

/// Alignment of buffers in floats: a cache line, which is also the widest vector.
const ALIGN: usize = 16;

/// Size of a buffer and the steps that use it: from the first that writes it to the last that reads it.
#[derive(Clone, Debug)]
pub(crate) struct Lifetime {
    pub floats: usize,
    pub steps: RangeInclusive<usize>,
}

/// Places buffers so that buffers with common steps do not overlap. Returns the places and the number of floats of the
/// arena.
///
/// Large buffers are placed first, each in the lowest gap that fits, so that steps reuse memory that is still in the
/// cache.
pub(crate) fn place(buffers: &[Lifetime]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].floats), *buffers[i].steps.start()));
    let mut places: Vec<Option<Range<usize>>> = vec![None; buffers.len()];
    let mut total = 0;
    for index in order {
        let buffer = &buffers[index];
        let mut taken: Vec<&Range<usize>> = (0..buffers.len())
            .filter(|&other| overlap(&buffers[other].steps, &buffer.steps))
            .filter_map(|other| places[other].as_ref())
            .collect();
        taken.sort_by_key(|r| r.start);
        let mut start = 0;
        for range in taken {
            if range.start >= start + buffer.floats {
                break;
            }
            start = start.max(range.end.next_multiple_of(ALIGN));
        }
        total = total.max(start + buffer.floats);
        places[index] = Some(start..start + buffer.floats);
    }
    (places.into_iter().flatten().collect(), total)
}

fn overlap(a: &RangeInclusive<usize>, b: &RangeInclusive<usize>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

/// Memory for one running inference.
pub(crate) struct Arena(Aligned);

impl Arena {
    pub fn new(floats: usize) -> Arena {
        Arena(Aligned::zeros(floats))
    }

    pub fn floats(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Arenas of one plan. The pool keeps one idle arena for each inference that can run at the same time in normal
/// operation; additional arenas of a burst are freed.
pub(crate) struct ArenaPool {
    floats: usize,
    /// Maximum number of idle arenas.
    limit: usize,
    idle: Lock<Vec<Arena>>,
}

impl ArenaPool {
    /// A pool of arenas of `floats` each.
    pub fn new(floats: usize) -> ArenaPool {
        ArenaPool { floats, limit: max_concurrent_runs(), idle: Lock::default() }
    }

    /// An idle arena, or a new one.
    pub fn take(&self) -> PooledArena<'_> {
        let idle = self.idle.lock().pop();
        PooledArena { pool: self, arena: Some(idle.unwrap_or_else(|| Arena::new(self.floats))) }
    }

    /// Number of idle arenas.
    #[cfg(test)]
    pub fn idle(&self) -> usize {
        self.idle.lock().len()
    }
}

/// An arena that returns to its pool when it is dropped.
pub(crate) struct PooledArena<'a> {
    pool: &'a ArenaPool,
    arena: Option<Arena>,
}

impl PooledArena<'_> {
    pub fn floats(&mut self) -> &mut [f32] {
        self.arena.as_mut().map_or(&mut [], Arena::floats)
    }
}

impl Drop for PooledArena<'_> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock();
        if idle.len() < self.pool.limit {
            idle.extend(self.arena.take());
        }
        // An arena beyond the limit is freed with `self`, after the lock.
    }
}

/// The arena of a running step: one buffer to write, the others to read.
pub(crate) struct SplitArena<'a> {
    pub output: &'a mut [f32],
    readable: [(usize, &'a [f32]); 2],
}

impl<'a> SplitArena<'a> {
    /// Splits `arena` at `output`, which may be empty.
    pub fn new(arena: &'a mut [f32], output: &Range<usize>) -> SplitArena<'a> {
        let (before, from_output) = arena.split_at_mut(output.start);
        let (output_part, after) = from_output.split_at_mut(output.len());
        SplitArena { output: output_part, readable: [(0, before), (output.end, after)] }
    }

    /// The buffer at `range`; `None` when it overlaps the output.
    pub fn read(&self, range: &Range<usize>) -> Option<&'a [f32]> {
        self.readable.iter().find_map(|(start, part)| part.get(range.start.checked_sub(*start)?..range.end - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_separates_buffers_with_common_steps() {
        let mut state = 7usize;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for _ in 0..50 {
            let buffers: Vec<Lifetime> = (0..40)
                .map(|_| {
                    let first = next(60);
                    Lifetime { floats: 1 + next(5000), steps: first..=first + next(12) }
                })
                .collect();
            let (places, total) = place(&buffers);
            for (i, a) in places.iter().enumerate() {
                assert_eq!(a.len(), buffers[i].floats);
                assert!(a.end <= total && a.start % ALIGN == 0);
                for (j, b) in places.iter().enumerate().skip(i + 1) {
                    let have_common_steps = overlap(&buffers[i].steps, &buffers[j].steps);
                    assert!(!have_common_steps || a.end <= b.start || b.end <= a.start, "{a:?} {b:?}");
                }
            }
            assert!(total <= buffers.iter().map(|b| b.floats.next_multiple_of(ALIGN)).sum());
        }
    }

    #[test]
    fn place_alternates_two_buffers_in_a_chain() {
        let buffers: Vec<Lifetime> = (0..10).map(|i| Lifetime { floats: 160, steps: i..=i + 1 }).collect();
        assert_eq!(place(&buffers).1, 320);
    }

    #[test]
    fn split_returns_disjoint_parts() {
        let mut arena: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for output in [10..20, 50..60, 0..5, 90..100, 0..0] {
            let split = SplitArena::new(&mut arena, &output);
            assert_eq!(split.output.len(), output.len());
            assert_eq!(split.output.first().map(|&v| v as usize), output.clone().next());
            assert_eq!(split.read(&(62..70)).and_then(|s| s.first()), Some(&62.0));
            assert!(output.is_empty() || split.read(&(output.start..output.start + 1)).is_none());
            assert!(output.is_empty() || split.read(&(output.end - 1..output.end + 1)).is_none());
        }
    }
}
