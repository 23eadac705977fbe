//! A cache of the networks that requests named, in addition to the configured ones.

use super::loader::{LoadedNetwork, UnusableModel};
use crate::models::ModelVersion;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};

type LoadResult = Result<LoadedNetwork, UnusableModel>;

struct CachedNetwork {
    origin: ModelVersion,
    cell: Arc<OnceCell<LoadResult>>,
    /// The clock of [`CacheState`] at the last use.
    used: u64,
}

#[derive(Default)]
struct CacheState {
    clock: u64,
    networks: Vec<CachedNetwork>,
}

/// A bounded cache. Requests that name the same network at the same time load it once; a changed file is loaded again.
/// The least recently used network makes room for another one.
pub struct NetworkCache {
    capacity: usize,
    state: Mutex<CacheState>,
    /// One load at a time: loading takes several times a network's size in memory.
    loading: Arc<Semaphore>,
}

impl NetworkCache {
    /// A cache for at most `capacity` networks.
    pub fn new(capacity: usize) -> Self {
        NetworkCache { capacity, state: Mutex::default(), loading: Arc::new(Semaphore::new(1)) }
    }

    /// Maximum number of networks.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The network of this origin, loaded by `load` if it is not cached. The next request retries a failed load.
    pub async fn get(&self, origin: ModelVersion, load: impl FnOnce() -> LoadResult + Send + 'static) -> LoadResult {
        let cell = self.cell(origin);
        let task_cell = cell.clone();
        let loading = self.loading.clone();
        // In its own task: a load that has started is finished even if its request is dropped.
        let task = tokio::spawn(async move {
            let load = || async {
                let _turn = loading.acquire().await;
                let loaded = tokio::task::spawn_blocking(load).await;
                loaded.unwrap_or_else(|_| Err(UnusableModel::Defect))
            };
            task_cell.get_or_init(load).await.clone()
        });
        let outcome = task.await.unwrap_or_else(|_| Err(UnusableModel::Defect));
        if outcome.is_err() {
            self.forget(&cell);
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock()
    }

    fn cell(&self, origin: ModelVersion) -> Arc<OnceCell<LoadResult>> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let networks = &mut state.networks;
        if let Some(network) = networks.iter_mut().find(|network| network.origin == origin) {
            network.used = clock;
            return network.cell.clone();
        }
        // The network that the name meant before its file changed is no longer needed.
        networks.retain(|network| (network.origin.role, &network.origin.name) != (origin.role, &origin.name));
        if networks.len() >= self.capacity
            && let Some(oldest) = (0..networks.len()).min_by_key(|index| networks[*index].used)
        {
            networks.swap_remove(oldest);
        }
        let cell = Arc::new(OnceCell::new());
        networks.push(CachedNetwork { origin, cell: cell.clone(), used: clock });
        cell
    }

    /// Number of loaded networks.
    pub fn loaded(&self) -> usize {
        self.lock().networks.iter().filter(|network| network.cell.initialized()).count()
    }

    fn forget(&self, cell: &Arc<OnceCell<LoadResult>>) {
        self.lock().networks.retain(|network| !Arc::ptr_eq(&network.cell, cell));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detector;
    use crate::models::{ModelStore, Role};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn detector() -> LoadedNetwork {
        static DETECTOR: std::sync::OnceLock<Arc<Detector>> = std::sync::OnceLock::new();
        let load = || Arc::new(ModelStore::new(None).detector("centerface", (64, 64), 1).unwrap());
        LoadedNetwork::Detector(DETECTOR.get_or_init(load).clone())
    }

    fn origin(name: &str) -> ModelVersion {
        ModelStore::default().version(Role::Detector, name).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hundred_requests_load_a_model_once() {
        let cache = Arc::new(NetworkCache::new(2));
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
        let cache = NetworkCache::new(2);
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
        assert_eq!(cache.lock().networks.len(), 2);
    }

    #[tokio::test]
    async fn a_changed_file_is_loaded_again_and_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let file = store.file("m").unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let cache = NetworkCache::new(4);
        for (content, expected) in [("one", "one"), ("another", "another")] {
            std::fs::write(&file, content).unwrap();
            let origin = store.version(Role::Detector, "m").unwrap();
            let file = file.clone();
            let read = move || Err(UnusableModel::Unfit(std::fs::read_to_string(file).unwrap()));
            assert_eq!(cache.get(origin.clone(), read).await.err().unwrap().to_string(), expected);
            assert!(cache.get(origin, || Ok(detector())).await.is_ok());
        }
        assert_eq!(cache.lock().networks.len(), 1);
    }

    #[tokio::test]
    async fn a_failed_load_is_reported_and_tried_again_later() {
        let cache = NetworkCache::new(1);
        assert_eq!(cache.get(origin("a"), || Err(UnusableModel::Trial)).await.err(), Some(UnusableModel::Trial));
        assert!(cache.get(origin("a"), || Ok(detector())).await.is_ok());
        let panicked = cache.get(origin("b"), || panic!("in a loader")).await;
        assert_eq!(panicked.err(), Some(UnusableModel::Defect));
    }
}
