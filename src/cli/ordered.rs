//! A parallel map with results in order and bounded memory.

use std::collections::BTreeMap;

use parking_lot::{Condvar, Mutex};

/// The progress of all workers.
struct MapState<I, R> {
    /// `None` at the end.
    items: Option<I>,
    next: usize,
    delivered: usize,
    done: BTreeMap<usize, R>,
    stopped: bool,
}

/// Calls `work` for every item on `jobs` threads and hands the results to `deliver` in the order of the items.
///
/// A worker takes an item when it is free, so `items` may be endless or slow. Workers stay within a few items of the
/// slowest, so that results do not accumulate. Stops early when `deliver` returns `false`.
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
    let state =
        Mutex::new(MapState { items: Some(items), next: 0, delivered: 0, done: BTreeMap::new(), stopped: false });
    let changed = Condvar::new();
    let worker = || {
        loop {
            let mut guard = state.lock();
            while !guard.stopped && guard.items.is_some() && guard.next >= guard.delivered + window {
                changed.wait(&mut guard);
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
            state.lock().done.insert(index, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(worker);
        }
        loop {
            let mut guard = state.lock();
            let index = guard.delivered;
            let result = loop {
                match guard.done.remove(&index) {
                    Some(result) => break result,
                    None if guard.items.is_none() && guard.next == index => return,
                    None => changed.wait(&mut guard),
                }
            };
            guard.delivered = index + 1;
            drop(guard);
            changed.notify_all();
            if !deliver(result) {
                state.lock().stopped = true;
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
