//! Which networks answer a request: the configured ones, and with ALLOW_MODEL_SWITCH any that is installed.
//!
//! ```text
//! settings + files ─ Generation (fetched, loaded, tried out) ─ current ─ a request's own set of networks
//! ```
//!
//! A generation is never changed. A new one is built beside it, out of what is new and the networks that stay the same, and takes its
//! place between two requests. Requests hold the networks they were given, so the old ones go when the last of those ends.

use crate::analyzer::FaceAnalyzer;
use crate::attributes::{GenderAge, Liveness, MaskDetector};
use crate::config::ModelSettings;
use crate::detect::Detector;
use crate::downloads::{self, Event, FetchError, FetchOptions};
use crate::models::{ModelError, ModelStore, Origin, Role, split_names};
use crate::recognize::Recognizer;
use crate::server::api::schema::request::ModelChoice;
use crate::server::http::error::ApiError;
use crate::server::models::cache::Cache;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a request waits for the first models before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(2);

/// A loaded network, by what it does.
#[derive(Clone)]
pub enum Loaded {
    /// Finds faces.
    Detector(Arc<Detector>),
    /// Embeds them.
    Recognizer(Arc<Recognizer>),
    /// Tells gender and age.
    GenderAge(Arc<GenderAge>),
    /// Tells covered from bare faces.
    MaskDetector(Arc<MaskDetector>),
    /// Tells faces from pictures of faces.
    Liveness(Arc<Liveness>),
}

impl Loaded {
    /// Puts the network in its place.
    fn into_analyzer(self, analyzer: &mut FaceAnalyzer) {
        match self {
            Loaded::Detector(network) => analyzer.detector = Some(network),
            Loaded::Recognizer(network) => analyzer.recognizer = Some(network),
            Loaded::GenderAge(network) => analyzer.gender_age = Some(network),
            Loaded::MaskDetector(network) => analyzer.mask_detector = Some(network),
            Loaded::Liveness(network) => analyzer.liveness = Some(network),
        }
    }
}

/// The field that names the network in a request.
fn field(role: Role) -> &'static str {
    match role {
        Role::Detector => "det_name",
        Role::Recognizer => "rec_name",
        Role::GenderAge => "ga_name",
        Role::MaskDetector => "mask_detector",
        Role::Liveness => "liveness_name",
    }
}

/// The models of the service: none at first, then one generation after the other.
pub struct Models {
    current: watch::Sender<Option<Arc<Generation>>>,
    /// What is being done until there are models.
    progress: Arc<Mutex<String>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

/// What [`Models::change`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Names of the models that were loaded; those that stayed as they were are not among them.
    pub loaded: Vec<String>,
    /// Whether anything is different now.
    pub changed: bool,
}

impl Default for Models {
    fn default() -> Self {
        Self::new()
    }
}

impl Models {
    /// No models yet: see [`Models::change`].
    pub fn new() -> Self {
        Models {
            current: watch::Sender::new(None),
            progress: Arc::new(Mutex::new("the models are not loaded yet".into())),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// Makes the models those of `settings`, as their files are now. Those that are missing are fetched first, as the original does.
    ///
    /// Requests are answered by the models there are until the new ones are loaded and tried out. Errs when one cannot be had or does
    /// not work; then everything stays as it is.
    pub async fn change(&self, settings: &ModelSettings) -> Result<Change, FetchError> {
        let _turn = self.changing.lock().await;
        let (settings, progress) = (settings.clone(), self.progress.clone());
        let old = self.current.borrow().clone();
        let build = move || Generation::build(settings, old.as_deref(), &progress);
        let built = tokio::task::spawn_blocking(build).await;
        let (generation, change) =
            built.unwrap_or_else(|_| Err(ModelError::Broken { name: "the models".into() }.into()))?;
        let old = self.current.send_replace(Some(Arc::new(generation)));
        // If nobody uses them any more, much memory is freed: not here, where requests are answered.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(change)
    }

    /// Errs with one sentence as long as there are no models.
    pub fn readiness(&self) -> Result<(), String> {
        match self.current.borrow().is_some() {
            true => Ok(()),
            false => Err(self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }

    /// The configured networks; none before there are models.
    pub fn configured(&self) -> FaceAnalyzer {
        self.current.borrow().as_ref().map(|generation| generation.configured.clone()).unwrap_or_default()
    }

    /// The settings that the models are those of, when there are models.
    pub fn settings(&self) -> Option<ModelSettings> {
        self.current.borrow().as_ref().map(|generation| generation.loader.settings.clone())
    }

    /// How many networks are in memory, those that requests have named among them.
    pub fn loaded(&self) -> usize {
        let current = self.current.borrow();
        let loaded = |generation: &Arc<Generation>| {
            generation.origins.len() + generation.switch.as_ref().map_or(0, |cache| cache.loaded())
        };
        current.as_ref().map_or(0, loaded)
    }

    /// The networks for one request; loads what is allowed and missing. Errs with what there is. Waits a little for the first models.
    pub async fn choose(&self, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
        let mut current = self.current.subscribe();
        let waited = tokio::time::timeout(PATIENCE, current.wait_for(Option::is_some)).await;
        let generation = waited.ok().and_then(Result::ok).and_then(|found| found.clone());
        match generation {
            Some(generation) => generation.choose(choice).await,
            None => Err(ApiError::Overloaded(self.readiness().err().unwrap_or_default())),
        }
    }
}

/// One set of models.
struct Generation {
    loader: Loader,
    configured: FaceAnalyzer,
    /// Where the configured networks come from.
    origins: Vec<(Origin, Loaded)>,
    switch: Option<Arc<Cache>>,
}

impl Generation {
    /// Fetches, loads and tries out what `old` does not have already.
    fn build(
        settings: ModelSettings,
        old: Option<&Generation>,
        progress: &Arc<Mutex<String>>,
    ) -> Result<(Generation, Change), FetchError> {
        let say = |text: String| *progress.lock().unwrap_or_else(PoisonError::into_inner) = text;
        let store = ModelStore::new(settings.models_dir.0.clone());
        let loader = Loader { store, settings };
        let wanted: Vec<(Role, &str)> =
            configured_names(&loader.settings).into_iter().filter_map(|(role, name)| Some((role, name?))).collect();
        let names: Vec<&str> = wanted.iter().flat_map(|(_, names)| split_names(names)).collect();
        downloads::ensure(&loader.store, &names, &fetch_options(progress.clone()))?;
        say(format!("the models are being loaded: {}", names.join(", ")));

        // Models stay as they are if their files, their manifest entries and all settings they depend on do.
        let same_use = old.filter(|old| old.loader.prepares_as(&loader));
        let mut origins = vec![];
        for (role, name) in &wanted {
            let origin = loader.store.origin(*role, name)?;
            let known = same_use.and_then(|old| old.origins.iter().find(|(known, _)| *known == origin));
            origins.push((origin, known.map(|(_, network)| network.clone())));
        }
        let loaded: Vec<String> =
            origins.iter().filter(|(_, known)| known.is_none()).map(|(origin, _)| origin.name.clone()).collect();
        let origins = loader.complete(origins)?;
        let mut configured = FaceAnalyzer::default();
        for (_, network) in &origins {
            network.clone().into_analyzer(&mut configured);
        }
        if !loaded.is_empty() {
            say("the models are being tried out".into());
            configured.warm_up().map_err(|error| ModelError::Trial(Box::new(error)))?;
        }
        let settings = &loader.settings;
        let kept = same_use.and_then(|old| old.switch.clone()).filter(|c| c.capacity() == settings.max_loaded_models);
        let switch = settings
            .allow_model_switch
            .then(|| kept.unwrap_or_else(|| Arc::new(Cache::new(settings.max_loaded_models))));
        let changed = !loaded.is_empty()
            || same_use
                .is_none_or(|old| old.origins.len() != origins.len() || old.switch.is_some() != switch.is_some());
        Ok((Generation { loader, configured, origins, switch }, Change { loaded, changed }))
    }

    async fn choose(&self, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
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
        let field = field(role);
        let shown = crate::server::sources::file_root::shown(name);
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
        let owned = name.to_string();
        let look = move || {
            let names = store.names();
            let installed = names.contains(&owned);
            (names, installed.then(|| store.origin(role, &owned)))
        };
        let (names, origin) = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let unusable = |reason: String| ApiError::BadRequest(format!("{field} '{shown}' cannot be used: {reason}"));
        let Some(origin) = origin else {
            return Err(ApiError::BadRequest(format!(
                "{field} '{shown}' is not installed; installed: {}",
                names.join(", ")
            )));
        };
        let origin = origin.map_err(|error| unusable(reason(&error)))?;
        let loader = self.loader.clone();
        let owned = name.to_string();
        let loaded = cache.get(origin, move || loader.load(role, &owned).map_err(|e| reason(&e))).await;
        loaded.map_err(unusable)
    }
}

/// Why a model cannot be had, for clients: without the paths and the inner workings that the log gets.
fn reason(error: &ModelError) -> String {
    tracing::warn!(%error, "a model that a request names cannot be used");
    match error {
        // These are about names and what models do.
        ModelError::Name(_) | ModelError::Role { .. } | ModelError::Broken { .. } => error.to_string(),
        ModelError::Unknown { .. } | ModelError::NoDirectory => "it is not installed".into(),
        ModelError::Read { .. } | ModelError::Write { .. } | ModelError::NoModelFile { .. } => {
            "its files cannot be read".into()
        }
        ModelError::Manifest { .. } => "what the models directory says of it cannot be read".into(),
        ModelError::Load { .. } => "its file is not a network that can be loaded".into(),
        ModelError::Unclassified { .. } => "it is not a network of a known kind".into(),
        ModelError::Detector { .. } => "it is not a face detector that is known here".into(),
        ModelError::Recognizer { .. } => "it is not a face recogniser that is known here".into(),
        ModelError::Attribute { .. } => "it is not a network of the kind that is known here".into(),
        ModelError::Trial(_) => "a trial run failed".into(),
    }
}

/// The configured name for each role; first those that a request may choose, in the order of its choices.
fn configured_names(settings: &ModelSettings) -> [(Role, Option<&str>); 5] {
    [
        (Role::Detector, Some(settings.det_name.as_str())),
        (Role::Recognizer, settings.rec_name.as_deref()),
        (Role::GenderAge, settings.ga_name.as_deref()),
        (Role::MaskDetector, settings.mask_detector.as_deref()),
        (Role::Liveness, settings.liveness_name.as_deref()),
    ]
}

/// The name asked for, unless it is the configured one.
fn other<'a>(asked: &'a Option<String>, configured: Option<&str>) -> Option<&'a str> {
    asked.as_deref().filter(|name| Some(*name) != configured)
}

/// As the environment says, with log lines, and with what is being fetched as the reason why there are no models yet.
fn fetch_options(progress: Arc<Mutex<String>>) -> FetchOptions {
    let options = FetchOptions::from_environment();
    let log = options.on_event;
    let sizes = Mutex::new(None);
    let on_event = Arc::new(move |event: &Event| {
        let mut total = sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match event {
            Event::Started { name, total: size, .. } => {
                *total = *size;
                format!("{name} is being fetched")
            }
            Event::Progress { name, have } => match *total {
                Some(size) if size > 0 => format!("{name} is being fetched: {} %", have * 100 / size),
                _ => format!("{name} is being fetched: {:.1} MB so far", *have as f64 / 1e6),
            },
            // The reason is in the log: it may name hosts and files.
            Event::Retry { name, .. } => format!("{name} is being fetched, one more attempt"),
            Event::Installed { .. } | Event::Present { .. } | Event::License { .. } => return log(event),
        };
        *progress.lock().unwrap_or_else(PoisonError::into_inner) = text;
        // Who reads it there and asks is told the same.
        log(event);
    });
    FetchOptions { on_event, ..options }
}

/// Loads models as the settings say.
#[derive(Clone)]
struct Loader {
    store: ModelStore,
    settings: ModelSettings,
}

impl Loader {
    /// Whether a model of one origin becomes the same network here and there.
    fn prepares_as(&self, other: &Loader) -> bool {
        let of = |settings: &ModelSettings| {
            let directory = settings.models_dir.0.clone();
            (directory, settings.max_size.floored(), settings.det_batch_size, settings.rec_batch_size)
        };
        of(&self.settings) == of(&other.settings)
    }

    /// Loads the networks that are missing, each on its own thread.
    fn complete(&self, origins: Vec<(Origin, Option<Loaded>)>) -> Result<Vec<(Origin, Loaded)>, ModelError> {
        std::thread::scope(|scope| {
            let mut loads = vec![];
            for (origin, known) in origins {
                let (role, name) = (origin.role, origin.name.clone());
                let load = known.is_none().then(|| scope.spawn(move || self.load(role, &name)));
                loads.push((origin, known, load));
            }
            let finish = |(origin, known, load): (Origin, Option<Loaded>, Option<std::thread::ScopedJoinHandle<_>>)| {
                let broken = || ModelError::Broken { name: origin.name.clone() };
                let network = match (known, load) {
                    (Some(network), _) => network,
                    (None, Some(load)) => load.join().unwrap_or_else(|_| Err(broken()))?,
                    (None, None) => return Err(broken()),
                };
                Ok((origin, network))
            };
            loads.into_iter().map(finish).collect()
        })
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
            Role::Liveness => Loaded::Liveness(store.liveness(name, batch)?.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Setting, Settings};
    use std::sync::Weak;

    fn settings() -> ModelSettings {
        ModelSettings { max_size: "64,64".parse().unwrap(), ..Settings::defaults().models }
    }

    fn weak(analyzer: &FaceAnalyzer) -> (Weak<Detector>, Weak<Recognizer>) {
        (Arc::downgrade(analyzer.detector.as_ref().unwrap()), Arc::downgrade(analyzer.recognizer.as_ref().unwrap()))
    }

    #[tokio::test]
    async fn without_the_switch_other_names_are_refused_with_what_is_configured() {
        let models = Models::new();
        models.change(&settings()).await.unwrap();
        let choice = |name: &str| ModelChoice { det_name: Some(name.into()), ..Default::default() };
        assert!(models.choose(&choice("centerface")).await.is_ok());
        let Err(ApiError::BadRequest(message)) = models.choose(&choice("scrfd_10g_gnkps")).await else { panic!() };
        assert!(message.contains("configured: centerface") && message.contains("ALLOW_MODEL_SWITCH"), "{message}");
    }

    #[tokio::test]
    async fn before_there_are_models_requests_wait_a_little_and_are_told_why() {
        let models = Arc::new(Models::new());
        assert!(models.readiness().unwrap_err().contains("not loaded"));
        let started = std::time::Instant::now();
        let Err(ApiError::Overloaded(reason)) = models.choose(&ModelChoice::default()).await else { panic!() };
        assert!(reason.contains("not loaded") && started.elapsed() >= PATIENCE, "{reason}");
        // One that comes shortly before they are loaded is answered.
        let started = std::time::Instant::now();
        let early = tokio::spawn({
            let models = models.clone();
            async move { models.choose(&ModelChoice::default()).await.is_ok() }
        });
        models.change(&settings()).await.unwrap();
        // A machine that is slow to load them makes it come too early.
        let in_time = started.elapsed() < PATIENCE;
        assert!(early.await.unwrap() || !in_time);
        assert!(models.readiness().is_ok());
    }

    #[tokio::test]
    async fn only_what_differs_is_loaded_and_the_old_goes_with_its_last_request() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let install = |bytes: &[u8]| {
            let file = store.file("mine").unwrap();
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        };
        let onnx = crate::models::embedded("mobilefacenet").unwrap();
        install(onnx);
        let mut settings = settings();
        settings.models_dir = Setting(Some(dir.path().into()));
        settings.rec_name = Setting(Some("mine".into()));
        let models = Models::new();
        let change = models.change(&settings).await.unwrap();
        assert_eq!(change, Change { loaded: vec!["centerface".into(), "mine".into()], changed: true });
        assert_eq!(models.change(&settings).await.unwrap(), Change { loaded: vec![], changed: false });

        let request = models.choose(&ModelChoice::default()).await.unwrap();
        let (detector, recognizer) = weak(&request);
        // The same network with one more byte that readers pass over: an unknown field of the protobuf.
        install(&[onnx, &[0xf8, 0x3f, 0x00]].concat());
        let change = models.change(&settings).await.unwrap();
        assert_eq!(change, Change { loaded: vec!["mine".into()], changed: true });
        let (same_detector, other_recognizer) = weak(&models.configured());
        assert!(Weak::ptr_eq(&detector, &same_detector) && !Weak::ptr_eq(&recognizer, &other_recognizer));
        assert!(recognizer.upgrade().is_some(), "a request still uses it");
        drop(request);
        // The generation before is let go of on another thread.
        let started = std::time::Instant::now();
        while recognizer.upgrade().is_some() {
            assert!(started.elapsed() < Duration::from_secs(60), "nobody uses it any more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        install(b"no network");
        let error = models.change(&settings).await.unwrap_err().to_string();
        assert!(error.contains("mine.onnx"), "{error}");
        assert!(Weak::ptr_eq(&other_recognizer, &weak(&models.configured()).1), "the old one serves");
        settings.max_size = "96,96".parse().unwrap();
        settings.rec_name = Setting(None);
        assert!(models.change(&settings).await.unwrap().changed);
        assert!(models.configured().recognizer.is_none());
        assert_eq!(models.configured().detector.unwrap().canvas(), (96, 96));
    }
}
