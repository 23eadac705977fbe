//! Which networks answer a request: the configured ones, and with ALLOW_MODEL_SWITCH any that is installed.

use super::error::ApiError;
use super::schema::request::ModelChoice;
use crate::analyzer::FaceAnalyzer;
use crate::attributes::{GenderAge, MaskDetector};
use crate::config::ModelSettings;
use crate::detect::Detector;
use crate::models::fetch::FetchOptions;
use crate::models::{ModelError, ModelStore};
use crate::recognize::Recognizer;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// A loaded network, by what it does.
#[derive(Clone)]
enum Loaded {
    Detector(Arc<Detector>),
    Recognizer(Arc<Recognizer>),
    GenderAge(Arc<GenderAge>),
    MaskDetector(Arc<MaskDetector>),
}

impl Loaded {
    /// Puts the network in its place.
    fn into_analyzer(self, analyzer: &mut FaceAnalyzer) {
        match self {
            Loaded::Detector(network) => analyzer.detector = Some(network),
            Loaded::Recognizer(network) => analyzer.recognizer = Some(network),
            Loaded::GenderAge(network) => analyzer.gender_age = Some(network),
            Loaded::MaskDetector(network) => analyzer.mask_detector = Some(network),
        }
    }
}

/// What a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Detector,
    Recognizer,
    GenderAge,
    MaskDetector,
}

impl Role {
    /// The field that names it in a request.
    fn field(self) -> &'static str {
        match self {
            Role::Detector => "det_name",
            Role::Recognizer => "rec_name",
            Role::GenderAge => "ga_name",
            Role::MaskDetector => "mask_detector",
        }
    }
}

/// The models of the service.
pub struct Models {
    loader: Loader,
    configured: FaceAnalyzer,
    switch: Option<Cache>,
}

#[derive(Clone)]
struct Loader {
    store: ModelStore,
    settings: ModelSettings,
}

impl Models {
    /// Loads the configured models, each on its own thread. Those that are missing are fetched first, as the original does. Errs when one
    /// cannot be had or is broken.
    pub fn load(settings: &ModelSettings) -> Result<Self, ModelError> {
        let store = ModelStore::new(settings.models_dir.0.clone());
        let loader = Loader { store, settings: settings.clone() };
        let configured = loader.configured()?;
        let switch = settings.allow_model_switch.then(|| Cache::new(settings.max_loaded_models));
        Ok(Models { loader, configured, switch })
    }

    /// The networks that the service was started with.
    pub fn configured(&self) -> &FaceAnalyzer {
        &self.configured
    }

    /// How many networks are in memory.
    pub fn loaded(&self) -> usize {
        let FaceAnalyzer { detector, recognizer, gender_age, mask_detector, liveness } = self.configured();
        let configured = [
            detector.is_some(),
            recognizer.is_some(),
            gender_age.is_some(),
            mask_detector.is_some(),
            liveness.is_some(),
        ];
        configured.into_iter().filter(|loaded| *loaded).count() + self.switch.as_ref().map_or(0, Cache::loaded)
    }

    /// The networks for one request; loads what is allowed and missing. Errs with what there is.
    pub async fn choose(&self, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
        let settings = &self.loader.settings;
        let mut analyzer = self.configured.clone();
        let asked = [&choice.det_name, &choice.rec_name, &choice.ga_name, &choice.mask_detector];
        for ((role, configured), asked) in configured_names(settings).into_iter().zip(asked) {
            if let Some(name) = other(asked, configured) {
                self.switch_to(role, name).await?.into_analyzer(&mut analyzer);
            }
        }
        Ok(analyzer)
    }

    async fn switch_to(&self, role: Role, name: &str) -> Result<Loaded, ApiError> {
        let field = role.field();
        let shown = super::paths::shown(name);
        let Some(cache) = &self.switch else {
            let configured = configured_names(&self.loader.settings).into_iter().find(|(r, _)| *r == role);
            let configured = configured.and_then(|(_, name)| name);
            return Err(ApiError::BadRequest(format!(
                "{field} '{shown}' is not configured here; configured: {} (ALLOW_MODEL_SWITCH=true lets requests name \
                 any installed model)",
                configured.unwrap_or("none")
            )));
        };
        let store = self.loader.store.clone();
        let names = tokio::task::spawn_blocking(move || store.names()).await.unwrap_or_default();
        if !names.iter().any(|known| known == name) {
            return Err(ApiError::BadRequest(format!(
                "{field} '{shown}' is not installed; installed: {}",
                names.join(", ")
            )));
        }
        let loader = self.loader.clone();
        let owned = name.to_string();
        let loaded = cache.get(role, name, move || loader.load(role, &owned).map_err(|e| e.to_string())).await;
        loaded.map_err(|reason| ApiError::BadRequest(format!("{field} '{shown}' cannot be used: {reason}")))
    }
}

/// The configured name for each role, in the order of a request's choices.
fn configured_names(settings: &ModelSettings) -> [(Role, Option<&str>); 4] {
    [
        (Role::Detector, Some(settings.det_name.as_str())),
        (Role::Recognizer, settings.rec_name.as_deref()),
        (Role::GenderAge, settings.ga_name.as_deref()),
        (Role::MaskDetector, settings.mask_detector.as_deref()),
    ]
}

/// The name asked for, unless it is the configured one.
fn other<'a>(asked: &'a Option<String>, configured: Option<&str>) -> Option<&'a str> {
    asked.as_deref().filter(|name| Some(*name) != configured)
}

impl Loader {
    fn configured(&self) -> Result<FaceAnalyzer, ModelError> {
        let names: Vec<(Role, &str)> =
            configured_names(&self.settings).into_iter().filter_map(|(role, name)| Some((role, name?))).collect();
        let wanted: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
        self.store.ensure(&wanted, &FetchOptions::from_environment())?;
        let mut analyzer = FaceAnalyzer::default();
        let loaded: Vec<_> = std::thread::scope(|scope| {
            let loads: Vec<_> =
                names.iter().map(|&(role, name)| (name, scope.spawn(move || self.load(role, name)))).collect();
            loads.into_iter().map(|(name, load)| (name, load.join())).collect()
        });
        for (name, outcome) in loaded {
            let broken = |_| Err(ModelError::Broken { name: name.into() });
            outcome.unwrap_or_else(broken)?.into_analyzer(&mut analyzer);
        }
        Ok(analyzer)
    }

    fn load(&self, role: Role, name: &str) -> Result<Loaded, ModelError> {
        let (store, settings) = (&self.store, &self.settings);
        let batch = settings.rec_batch_size;
        Ok(match role {
            Role::Detector => {
                let canvas = settings.max_size.floored();
                Loaded::Detector(store.detector(name, canvas, settings.det_batch_size)?.into())
            }
            Role::Recognizer => Loaded::Recognizer(store.recognizer(name, batch)?.into()),
            Role::GenderAge => Loaded::GenderAge(store.gender_age(name, batch)?.into()),
            Role::MaskDetector => Loaded::MaskDetector(store.mask_detector(name, batch)?.into()),
        })
    }
}

type Outcome = Result<Loaded, String>;

struct Slot {
    role: Role,
    name: String,
    cell: Arc<OnceCell<Outcome>>,
    used: u64,
}

/// Networks that requests have named. Each is loaded once however many ask at the same time, and the least recently
/// used goes when there are too many.
struct Cache {
    capacity: usize,
    slots: Mutex<(u64, Vec<Slot>)>,
    /// One load at a time: loading takes several times a network's size in memory.
    loading: Arc<Semaphore>,
}

impl Cache {
    fn new(capacity: usize) -> Self {
        Cache { capacity, slots: Mutex::default(), loading: Arc::new(Semaphore::new(1)) }
    }

    async fn get(&self, role: Role, name: &str, load: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
        let cell = self.slot(role, name);
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

    fn slot(&self, role: Role, name: &str) -> Arc<OnceCell<Outcome>> {
        let mut guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, slots) = &mut *guard;
        *clock += 1;
        if let Some(slot) = slots.iter_mut().find(|slot| slot.role == role && slot.name == name) {
            slot.used = *clock;
            return slot.cell.clone();
        }
        if slots.len() >= self.capacity
            && let Some(oldest) = (0..slots.len()).min_by_key(|index| slots[*index].used)
        {
            slots.swap_remove(oldest);
        }
        let cell = Arc::new(OnceCell::new());
        slots.push(Slot { role, name: name.to_string(), cell: cell.clone(), used: *clock });
        cell
    }

    fn loaded(&self) -> usize {
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn detector() -> Loaded {
        static DETECTOR: std::sync::OnceLock<Arc<Detector>> = std::sync::OnceLock::new();
        let load = || Arc::new(ModelStore::new(None).detector("centerface", (64, 64), 1).unwrap());
        Loaded::Detector(DETECTOR.get_or_init(load).clone())
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
                cache.get(Role::Detector, "a", load).await.is_ok()
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
            cache.get(Role::Detector, name, load).await.ok().unwrap();
        }
        assert_eq!(loads.load(Ordering::SeqCst), 4);
        assert_eq!(cache.slots.lock().unwrap().1.len(), 2);
    }

    #[tokio::test]
    async fn a_failed_load_is_reported_and_tried_again_later() {
        let cache = Cache::new(1);
        assert_eq!(cache.get(Role::Detector, "a", || Err("broken".into())).await.err(), Some("broken".into()));
        assert!(cache.get(Role::Detector, "a", || Ok(detector())).await.is_ok());
        assert!(cache.get(Role::Detector, "b", || panic!("in a loader")).await.is_err());
    }

    #[tokio::test]
    async fn without_the_switch_other_names_are_refused_with_what_is_configured() {
        let models = Models::load(&crate::config::Settings::defaults().models).unwrap();
        let choice = |name: &str| ModelChoice { det_name: Some(name.into()), ..Default::default() };
        assert!(models.choose(&choice("centerface")).await.is_ok());
        let Err(ApiError::BadRequest(message)) = models.choose(&choice("scrfd_10g_gnkps")).await else { panic!() };
        assert!(message.contains("configured: centerface") && message.contains("ALLOW_MODEL_SWITCH"), "{message}");
    }
}
