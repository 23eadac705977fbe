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
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.left.fetch_add(self.held, Ordering::AcqRel);
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
}
