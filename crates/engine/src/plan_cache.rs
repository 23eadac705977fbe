//! Plans of a network by input shape. The image sizes used least recently are dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of image sizes whose plans are kept. A program uses one or two; the limit bounds the memory of programs whose users
/// choose the size.
pub(crate) const MAX_IMAGE_SIZES: usize = 16;

/// One plan, once it is prepared. Locked while it is being prepared.
type Slot<P> = Arc<Mutex<Option<Arc<P>>>>;

struct Entry<P> {
    slot: Slot<P>,
    /// Time of the last use, in uses of the cache.
    used: u64,
}

struct Entries<P> {
    clock: u64,
    by_shape: HashMap<Vec<usize>, Entry<P>>,
}

/// Plans by input shape, of at most [`MAX_IMAGE_SIZES`] image sizes. An image size is all dimensions except the first, the batch.
pub(crate) struct PlanCache<P> {
    entries: Mutex<Entries<P>>,
}

impl<P> Default for PlanCache<P> {
    fn default() -> Self {
        PlanCache { entries: Mutex::new(Entries { clock: 0, by_shape: HashMap::new() }) }
    }
}

impl<P> PlanCache<P> {
    /// The plan for `shape`, which the first call prepares. Calls for the same shape wait for it, calls for others do not.
    /// A failed preparation is repeated at the next call.
    pub fn get<E>(&self, shape: &[usize], prepare: impl FnOnce() -> Result<P, E>) -> Result<Arc<P>, E> {
        let slot = self.slot(shape);
        let mut place = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = &*place {
            return Ok(plan.clone());
        }
        match prepare() {
            Ok(plan) => Ok(place.insert(Arc::new(plan)).clone()),
            Err(error) => {
                self.forget(shape, &slot);
                Err(error)
            }
        }
    }

    fn slot(&self, shape: &[usize]) -> Slot<P> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clock += 1;
        let used = entries.clock;
        if let Some(entry) = entries.by_shape.get_mut(shape) {
            entry.used = used;
            return entry.slot.clone();
        }
        // Time of the last use of each image size, at any batch size.
        let mut sizes: HashMap<&[usize], u64> = HashMap::new();
        for (known, entry) in &entries.by_shape {
            let last = sizes.entry(image_size(known)).or_default();
            *last = entry.used.max(*last);
        }
        if sizes.len() >= MAX_IMAGE_SIZES
            && !sizes.contains_key(image_size(shape))
            && let Some(oldest) = sizes.iter().min_by_key(|(_, used)| **used).map(|(size, _)| size.to_vec())
        {
            entries.by_shape.retain(|known, _| image_size(known) != oldest);
        }
        let slot = Slot::<P>::default();
        entries.by_shape.insert(shape.to_vec(), Entry { slot: slot.clone(), used });
        slot
    }

    fn forget(&self, shape: &[usize], slot: &Slot<P>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.by_shape.get(shape).is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot)) {
            entries.by_shape.remove(shape);
        }
    }

    /// Number of plans kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).by_shape.len()
    }
}

fn image_size(shape: &[usize]) -> &[usize] {
    shape.get(1..).unwrap_or_default()
}
