//! The plans of a network by input shape; image sizes that were not asked for lately are given up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::EngineError;
use crate::plan::Plan;

/// Image sizes whose plans are kept. A program uses one or two; whoever lets its users choose must not run out of memory for it.
pub(crate) const MOST_SIZES: usize = 16;

type Slot = Arc<Mutex<Option<Arc<Plan>>>>;

struct Entry {
    slot: Slot,
    used: u64,
}

#[derive(Default)]
struct Entries {
    clock: u64,
    by_shape: HashMap<Vec<usize>, Entry>,
}

/// Plans by input shape, of at most [`MOST_SIZES`] image sizes: all dimensions but the first, which is the batch.
#[derive(Default)]
pub(crate) struct PlanCache {
    entries: Mutex<Entries>,
}

impl PlanCache {
    /// The plan for `shape`, made by `prepare` at the first call. Others get theirs meanwhile; who asks for the same waits for it.
    /// What failed is tried again at the next call.
    pub fn get(
        &self,
        shape: &[usize],
        prepare: impl FnOnce() -> Result<Plan, EngineError>,
    ) -> Result<Arc<Plan>, EngineError> {
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

    fn slot(&self, shape: &[usize]) -> Slot {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clock += 1;
        let used = entries.clock;
        if let Some(entry) = entries.by_shape.get_mut(shape) {
            entry.used = used;
            return entry.slot.clone();
        }
        // When each image size was last used, at whatever batch size.
        let mut sizes: HashMap<&[usize], u64> = HashMap::new();
        for (known, entry) in &entries.by_shape {
            let last = sizes.entry(image_size(known)).or_default();
            *last = entry.used.max(*last);
        }
        if sizes.len() >= MOST_SIZES
            && !sizes.contains_key(image_size(shape))
            && let Some(oldest) = sizes.iter().min_by_key(|(_, used)| **used).map(|(size, _)| size.to_vec())
        {
            entries.by_shape.retain(|known, _| image_size(known) != oldest);
        }
        let slot = Slot::default();
        entries.by_shape.insert(shape.to_vec(), Entry { slot: slot.clone(), used });
        slot
    }

    fn forget(&self, shape: &[usize], slot: &Slot) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Network;

    fn network() -> Network {
        let bytes = include_bytes!("../../../models/onnx/centerface/centerface.onnx");
        Network::from_static(bytes, "centerface").unwrap()
    }

    #[test]
    fn many_image_sizes_leave_the_last_ones() {
        let network = network();
        let side = |i: usize| 32 * (1 + i);
        let first = network.plan(&[1, 3, 32, side(0)]).unwrap();
        let busy = network.plan(&[1, 3, 32, side(1)]).unwrap();
        for i in 2..2 * MOST_SIZES {
            network.plan(&[1, 3, 32, side(i)]).unwrap();
            // One that is used all the time stays.
            assert!(Arc::ptr_eq(&network.plan(&[1, 3, 32, side(1)]).unwrap(), &busy));
        }
        assert_eq!(network.plans().len(), MOST_SIZES);
        assert!(!Arc::ptr_eq(&network.plan(&[1, 3, 32, side(0)]).unwrap(), &first), "given up, and prepared again");
        // Who still holds a plan that was given up can use it.
        assert_eq!(first.run(first.view(&[0.0; 3 * 32 * 32]).unwrap()).unwrap().len(), 4);
    }

    #[test]
    fn batch_sizes_of_one_image_size_do_not_push_each_other_out() {
        let network = network();
        let plans: Vec<_> = (1..=MOST_SIZES + 4).map(|n| network.plan(&[n, 3, 32, 32]).unwrap()).collect();
        assert_eq!(network.plans().len(), MOST_SIZES + 4);
        for (n, plan) in (1..).zip(&plans) {
            assert!(Arc::ptr_eq(plan, &network.plan(&[n, 3, 32, 32]).unwrap()));
        }
    }

    #[test]
    fn shapes_that_cannot_be_are_not_kept() {
        let network = network();
        for width in 1..40 {
            assert!(network.plan(&[1, 4, 32, 32 * width]).is_err(), "four colours");
        }
        assert_eq!(network.plans().len(), 0);
    }
}
