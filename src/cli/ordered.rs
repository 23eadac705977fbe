//! Work on many items in parallel, results in order, memory bounded.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

struct State<R> {
    next: usize,
    delivered: usize,
    done: BTreeMap<usize, R>,
    stopped: bool,
}

/// Calls `work` for every item on `jobs` threads and hands the results to `deliver` in the order of the items.
///
/// No worker gets more than a few items ahead of the slowest, so results do not pile up. Stops early when `deliver` returns `false`.
pub(super) fn map_ordered<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut deliver: impl FnMut(R) -> bool,
) {
    let jobs = jobs.clamp(1, items.len().max(1));
    let window = 4 * jobs;
    let state = Mutex::new(State { next: 0, delivered: 0, done: BTreeMap::new(), stopped: false });
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |guard| changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        loop {
            let mut guard = lock();
            while !guard.stopped && guard.next < items.len() && guard.next >= guard.delivered + window {
                guard = wait(guard);
            }
            if guard.stopped || guard.next >= items.len() {
                return;
            }
            let index = guard.next;
            guard.next += 1;
            drop(guard);
            let result = work(&items[index]);
            lock().done.insert(index, result);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(worker);
        }
        for index in 0..items.len() {
            let mut guard = lock();
            let result = loop {
                match guard.done.remove(&index) {
                    Some(result) => break result,
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
        let items: Vec<u64> = (0..200).collect();
        let mut seen = vec![];
        let slow = |&i: &u64| {
            std::thread::sleep(std::time::Duration::from_micros(i * 7919 % 300));
            i * 2
        };
        map_ordered(&items, 4, slow, |r| {
            seen.push(r);
            true
        });
        assert_eq!(seen, items.iter().map(|i| i * 2).collect::<Vec<_>>());
    }

    #[test]
    fn a_slow_reader_holds_the_workers_back() {
        let items = vec![(); 100];
        let started = AtomicUsize::new(0);
        let mut delivered = 0;
        map_ordered(
            &items,
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
