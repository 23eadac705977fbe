//! Networks that requests have named, beside the configured ones.

use crate::models::Origin;
use crate::server::models::configured::Loaded;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// A network, or one sentence on why it cannot be had.
pub type Outcome = Result<Loaded, String>;

struct Slot {
    origin: Origin,
    cell: Arc<OnceCell<Outcome>>,
    used: u64,
}

/// Networks that requests have named. Each is loaded once however many ask at the same time, and again when its file has changed; the
/// least recently used goes when there are too many.
pub struct Cache {
    capacity: usize,
    slots: Mutex<(u64, Vec<Slot>)>,
    /// One load at a time: loading takes several times a network's size in memory.
    loading: Arc<Semaphore>,
}

impl Cache {
    /// At most `capacity` networks.
    pub fn new(capacity: usize) -> Self {
        Cache { capacity, slots: Mutex::default(), loading: Arc::new(Semaphore::new(1)) }
    }

    /// How many networks it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The network of this origin; loaded by `load` when it is not here.
    pub async fn get(&self, origin: Origin, load: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
        let cell = self.slot(origin);
        let task_cell = cell.clone();
        let loading = self.loading.clone();
        // A task of its own: a load that has begun is finished even if the client that asked first goes away.
        let task = tokio::spawn(async move {
            let load = || async {
                let _turn = loading.acquire().await;
                let loaded = tokio::task::spawn_blocking(load).await;
                loaded.unwrap_or_else(|_| Err("loading it failed in an unexpected way".into()))
            };
            task_cell.get_or_init(load).await.clone()
        });
        let outcome = task.await.unwrap_or_else(|_| Err("loading it failed in an unexpected way".into()));
        if outcome.is_err() {
            self.forget(&cell);
        }
        outcome
    }

    fn slot(&self, origin: Origin) -> Arc<OnceCell<Outcome>> {
        let mut guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, slots) = &mut *guard;
        *clock += 1;
        if let Some(slot) = slots.iter_mut().find(|slot| slot.origin == origin) {
            slot.used = *clock;
            return slot.cell.clone();
        }
        // What the name stood for before its file changed is of no use any more.
        slots.retain(|slot| (slot.origin.role, &slot.origin.name) != (origin.role, &origin.name));
        if slots.len() >= self.capacity
            && let Some(oldest) = (0..slots.len()).min_by_key(|index| slots[*index].used)
        {
            slots.swap_remove(oldest);
        }
        let cell = Arc::new(OnceCell::new());
        slots.push(Slot { origin, cell: cell.clone(), used: *clock });
        cell
    }

    /// How many networks it holds now.
    pub fn loaded(&self) -> usize {
        let guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.iter().filter(|slot| slot.cell.initialized()).count()
    }

    /// Lets the next request try again.
    fn forget(&self, cell: &Arc<OnceCell<Outcome>>) {
        let mut guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.retain(|slot| !Arc::ptr_eq(&slot.cell, cell));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detector;
    use crate::models::{ModelStore, Role};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn detector() -> Loaded {
        static DETECTOR: std::sync::OnceLock<Arc<Detector>> = std::sync::OnceLock::new();
        let load = || Arc::new(ModelStore::new(None).detector("centerface", (64, 64), 1).unwrap());
        Loaded::Detector(DETECTOR.get_or_init(load).clone())
    }

    fn origin(name: &str) -> Origin {
        ModelStore::default().origin(Role::Detector, name).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hundred_requests_load_a_model_once() {
        let cache = Arc::new(Cache::new(2));
        let loads = Arc::new(AtomicUsize::new(0));
        let requests = (0..100).map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                let load = move || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                    Ok(detector())
                };
                cache.get(origin("a"), load).await.is_ok()
            })
        });
        for request in requests.collect::<Vec<_>>() {
            assert!(request.await.unwrap());
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let cache = Cache::new(2);
        let loads = Arc::new(AtomicUsize::new(0));
        // b is the oldest when c comes, so only b has to be loaded again.
        for name in ["a", "b", "a", "c", "a", "b"] {
            let loads = loads.clone();
            let load = move || {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok(detector())
            };
            cache.get(origin(name), load).await.ok().unwrap();
        }
        assert_eq!(loads.load(Ordering::SeqCst), 4);
        assert_eq!(cache.slots.lock().unwrap().1.len(), 2);
    }

    #[tokio::test]
    async fn a_changed_file_is_loaded_again_and_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let file = store.file("m").unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let cache = Cache::new(4);
        for (content, expected) in [("one", "one"), ("another", "another")] {
            std::fs::write(&file, content).unwrap();
            let origin = store.origin(Role::Detector, "m").unwrap();
            let file = file.clone();
            let read = move || Err(std::fs::read_to_string(file).unwrap());
            assert_eq!(cache.get(origin.clone(), read).await.err().as_deref(), Some(expected));
            assert!(cache.get(origin, || Ok(detector())).await.is_ok());
        }
        assert_eq!(cache.slots.lock().unwrap().1.len(), 1);
    }

    #[tokio::test]
    async fn a_failed_load_is_reported_and_tried_again_later() {
        let cache = Cache::new(1);
        assert_eq!(cache.get(origin("a"), || Err("broken".into())).await.err(), Some("broken".into()));
        assert!(cache.get(origin("a"), || Ok(detector())).await.is_ok());
        assert!(cache.get(origin("b"), || panic!("in a loader")).await.is_err());
    }
}
