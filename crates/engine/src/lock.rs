//! A mutex without poisoning.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Mutual exclusion for data that every critical section leaves valid, even if it panics.
///
/// A wrapper of std's mutex instead of the one of `parking_lot`: in a browser with threads, `parking_lot` supports
/// waiting only with a nightly compiler and panics at the first contended lock otherwise.
#[derive(Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    /// Waits for the lock. A panic of an earlier holder has no effect.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn lock_remains_usable_after_a_panic() {
        let lock = Lock::new(3);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.lock();
            panic!("in a critical section");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 3);
    }
}
