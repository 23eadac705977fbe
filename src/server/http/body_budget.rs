//! MAX_BODIES_IN_MEMORY: the limit on the bytes of request bodies and fetched images of all connections together.
//!
//! An atomic counter, not a semaphore: bytes are counted exactly, and tokio's permits are `u32`.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of request bodies and fetched images that may be in memory at once.
#[derive(Clone, Debug)]
pub struct BodyBudget {
    left: Arc<AtomicU64>,
}

/// A share of the budget. Dropping it returns its bytes.
#[derive(Debug)]
pub struct BodyShare {
    left: Arc<AtomicU64>,
    held: u64,
}

impl BodyBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        BodyBudget { left: Arc::new(AtomicU64::new(bytes)) }
    }

    /// Bytes that no share holds.
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }

    /// An empty share.
    pub fn share(&self) -> BodyShare {
        BodyShare { left: self.left.clone(), held: 0 }
    }
}

impl BodyShare {
    /// Adds `bytes` to the share. Returns false, and adds nothing, when the budget has fewer left.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            self.held += bytes;
        }
        taken.is_ok()
    }

    /// Returns all bytes of the share to the budget.
    pub fn release(&mut self) {
        self.left.fetch_add(std::mem::take(&mut self.held), Ordering::AcqRel);
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.release();
    }
}

/// The same bytes. They keep `share` until their last clone and slice is dropped, on any thread.
pub fn counted(bytes: Bytes, share: impl Send + 'static) -> Bytes {
    struct Counted<S> {
        bytes: Bytes,
        _share: S,
    }
    impl<S> AsRef<[u8]> for Counted<S> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Counted { bytes, _share: share })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back_when_dropped() {
        let budget = BodyBudget::new(10);
        let mut first = budget.share();
        let mut second = budget.share();
        assert!(first.grow(6) && first.grow(2));
        assert!(!second.grow(3));
        assert!(second.grow(2));
        drop(first);
        assert!(second.grow(8) && !second.grow(1));
        drop(second);
        assert!(budget.share().grow(10));
    }

    #[test]
    fn counted_bytes_hold_their_share_until_the_last_slice_is_gone() {
        let budget = BodyBudget::new(10);
        let mut share = budget.share();
        assert!(share.grow(7));
        let bytes = counted(Bytes::from(vec![5; 7]), share);
        let slice = bytes.slice(6..);
        drop(bytes);
        assert_eq!((&slice[..], budget.left()), (&[5][..], 3));
        drop(slice);
        assert_eq!(budget.left(), 10);
    }
}
