//! Cache of the plans of a network, with the least recently used image sizes dropped.

use std::collections::HashMap;
use std::sync::Arc;

use crate::lock::Lock;

/// Maximum number of image sizes with cached plans. Programs usually need one or two; the limit bounds the memory of
/// programs whose users select the size.
pub(crate) const MAX_IMAGE_SIZES: usize = 16;

/// A plan, or `None` before its preparation. Locked during the preparation.
type Slot<P> = Arc<Lock<Option<Arc<P>>>>;

struct CachedPlan<P> {
    slot: Slot<P>,
    /// Value of the clock at the last use.
    used: u64,
}

struct CachedPlans<P> {
    /// Number of uses of the cache.
    clock: u64,
    by_shape: HashMap<Vec<usize>, CachedPlan<P>>,
}

/// Plans by input shape, of at most [`MAX_IMAGE_SIZES`] image sizes. An image size is all dimensions except the first,
/// the batch.
pub(crate) struct PlanCache<P> {
    entries: Lock<CachedPlans<P>>,
}

impl<P> Default for PlanCache<P> {
    fn default() -> Self {
        PlanCache { entries: Lock::new(CachedPlans { clock: 0, by_shape: HashMap::new() }) }
    }
}

impl<P> PlanCache<P> {
    /// The plan for `shape`. The first call prepares it, and other calls for the same shape wait. The next call after a
    /// failure tries again.
    pub fn get<E>(&self, shape: &[usize], prepare: impl FnOnce() -> Result<P, E>) -> Result<Arc<P>, E> {
        let slot = self.slot(shape);
        let mut cached = slot.lock();
        if let Some(plan) = &*cached {
            return Ok(plan.clone());
        }
        match prepare() {
            Ok(plan) => Ok(cached.insert(Arc::new(plan)).clone()),
            Err(error) => {
                self.forget(shape, &slot);
                Err(error)
            }
        }
    }

    /// The slot for `shape`. A new image size replaces the least recently used one if the cache is full.
    fn slot(&self, shape: &[usize]) -> Slot<P> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let used = entries.clock;
        if let Some(entry) = entries.by_shape.get_mut(shape) {
            entry.used = used;
            return entry.slot.clone();
        }
        // Last use of each image size, with any batch size.
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
        entries.by_shape.insert(shape.to_vec(), CachedPlan { slot: slot.clone(), used });
        slot
    }

    /// Removes the slot of a failed preparation.
    fn forget(&self, shape: &[usize], slot: &Slot<P>) {
        let mut entries = self.entries.lock();
        if entries.by_shape.get(shape).is_some_and(|entry| Arc::ptr_eq(&entry.slot, slot)) {
            entries.by_shape.remove(shape);
        }
    }

    /// Number of cached plans.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.lock().by_shape.len()
    }
}

/// All dimensions except the batch.
fn image_size(shape: &[usize]) -> &[usize] {
    shape.get(1..).unwrap_or_default()
}
