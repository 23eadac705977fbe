//! The tasks of one member of a team, which other members can take.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A value on a cache line of its own: frequent writes to it do not slow down reads of adjacent data.
#[repr(align(128))]
pub(crate) struct CacheLine<T>(pub T);

/// A range of task numbers.
pub(crate) type Tasks = Range<u32>;

/// The tasks of one member that no thread has taken yet: the first in the upper half of the word, the end in the lower.
pub(crate) struct TaskShare(CacheLine<AtomicU64>);

impl TaskShare {
    /// No tasks.
    pub fn new() -> TaskShare {
        TaskShare(CacheLine(AtomicU64::new(0)))
    }

    fn word(tasks: Tasks) -> u64 {
        u64::from(tasks.start) << 32 | u64::from(tasks.end)
    }

    /// Replaces the tasks, when all earlier ones are taken. Memory written before is visible to threads that take one.
    pub fn set(&self, tasks: Tasks) {
        self.0.0.store(TaskShare::word(tasks), Ordering::Release);
    }

    /// Takes half of the tasks, at least one: the owner takes from the front, other members from the back.
    pub fn take(&self, from_front: bool) -> Option<Tasks> {
        let mut word = self.0.0.load(Ordering::Relaxed);
        loop {
            let (start, end) = ((word >> 32) as u32, word as u32);
            if start >= end {
                return None;
            }
            let half = (end - start).div_ceil(2);
            let (taken, rest) = match from_front {
                true => (start..start + half, start + half..end),
                false => (end - half..end, start..end - half),
            };
            // Acquires the writes before `set`; the exchanges since then continue its release sequence.
            match self.0.0.compare_exchange_weak(word, TaskShare::word(rest), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_taken_by_halves_from_both_ends() {
        let share = TaskShare::new();
        assert_eq!(share.take(true), None);
        share.set(10..17);
        assert_eq!(share.take(true), Some(10..14));
        assert_eq!(share.take(false), Some(15..17));
        assert_eq!(share.take(false), Some(14..15));
        assert_eq!(share.take(true), None);
    }
}
