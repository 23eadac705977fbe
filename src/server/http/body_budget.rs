//! Bounds that hold over all requests together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of request bodies that may be in memory at once, over all connections.
#[derive(Clone, Debug)]
pub struct BodyBudget {
    left: Arc<AtomicU64>,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct BodyShare {
    left: Arc<AtomicU64>,
    held: u64,
}

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        BodyBudget { left: Arc::new(AtomicU64::new(bytes)) }
    }

    /// Bytes that are left.
    #[cfg(test)]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }

    /// A share that holds nothing yet.
    pub fn share(&self) -> BodyShare {
        BodyShare { left: self.left.clone(), held: 0 }
    }
}

impl BodyShare {
    /// Takes `bytes` more; false, and nothing taken, when there are not so many left.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            self.held += bytes;
        }
        taken.is_ok()
    }

    /// Gives back all that it holds.
    pub fn release(&mut self) {
        self.left.fetch_add(std::mem::take(&mut self.held), Ordering::AcqRel);
    }

    /// Another share of the same budget, which holds nothing yet.
    pub fn sibling(&self) -> BodyShare {
        BodyShare { left: self.left.clone(), held: 0 }
    }

    /// Takes over what another share of the same budget holds.
    pub fn absorb(&mut self, mut other: BodyShare) {
        self.held += std::mem::take(&mut other.held);
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.release();
    }
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
    fn shares_change_hands() {
        let budget = BodyBudget::new(10);
        let mut whole = budget.share();
        let mut part = whole.sibling();
        assert!(whole.grow(2) && part.grow(5));
        part.release();
        assert!(part.grow(4));
        whole.absorb(part);
        assert!(!budget.share().grow(5) && budget.share().grow(4));
        drop(whole);
        assert!(budget.share().grow(10));
    }
}
