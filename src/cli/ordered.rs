//! Work on many items in parallel, results in order, memory bounded.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

struct State<I, R> {
    /// `None` when there are no more.
    items: Option<I>,
    next: usize,
    delivered: usize,
    done: BTreeMap<usize, R>,
    stopped: bool,
}

/// Calls `work` for every item on `jobs` threads and hands the results to `deliver` in the order of the items.
///
/// Items are taken when a worker is free, so `items` may be endless or slow. No worker gets more than a few items ahead of the
/// slowest, so results do not pile up. Stops early when `deliver` returns `false`.
pub(super) fn map_ordered<I, R: Send>(
    items: I,
    jobs: usize,
    work: impl Fn(I::Item) -> R + Sync,
    mut deliver: impl FnMut(R) -> bool,
) where
    I: Iterator + Send,
{
    let jobs = jobs.max(1);
    let window = 4 * jobs;
    let state = Mutex::new(State { items: Some(items), next: 0, delivered: 0, done: BTreeMap::new(), stopped: false });
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |guard| changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        loop {
            let mut guard = lock();
            while !guard.stopped && guard.items.is_some() && guard.next >= guard.delivered + window {
                guard = wait(guard);
            }
            if guard.stopped {
                return;
            }
            let Some(item) = guard.items.as_mut().and_then(Iterator::next) else {
                guard.items = None;
                drop(guard);
                changed.notify_all();
                return;
            };
            let index = guard.next;
            guard.next += 1;
            drop(guard);
            let result = work(item);
            lock().done.insert(index, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(worker);
        }
        loop {
            let mut guard = lock();
            let index = guard.delivered;
            let result = loop {
                match guard.done.remove(&index) {
                    Some(result) => break result,
                    None if guard.items.is_none() && guard.next == index => return,
                    None => guard = wait(guard),
                }
            };
            guard.delivered = index + 1;
            drop(guard);
            changed.notify_all();
            if !deliver(result) {
                lock().stopped = true;
                changed.notify_all();
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order() {
        for jobs in [1, 4] {
            let mut seen = vec![];
            let slow = |i: u64| {
                std::thread::sleep(std::time::Duration::from_micros(i * 7919 % 300));
                i * 2
            };
            map_ordered(0..200u64, jobs, slow, |r| {
                seen.push(r);
                true
            });
            assert_eq!(seen, (0..200).map(|i| i * 2).collect::<Vec<_>>());
        }
        map_ordered(std::iter::empty::<u8>(), 3, |i| i, |_| panic!("nothing to deliver"));
    }

    #[test]
    fn a_slow_reader_holds_the_workers_back() {
        let started = AtomicUsize::new(0);
        let mut delivered = 0;
        map_ordered(
            std::iter::repeat(()),
            2,
            |_| started.fetch_add(1, Ordering::SeqCst),
            |_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                delivered += 1;
                assert!(started.load(Ordering::SeqCst) <= delivered + 8 + 2);
                delivered < 50
            },
        );
        assert_eq!(delivered, 50);
        assert!(started.load(Ordering::SeqCst) < 70, "stopped early");
    }
}
