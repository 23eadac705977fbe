//! The models of the service: the present set, and its replacement at run time.

use super::fetch_progress::LoadingStatus;
use super::generation::Generation;
use crate::analyzer::FaceAnalyzer;
use crate::config::ModelSettings;
use crate::downloads::FetchError;
use crate::models::ModelError;
use crate::server::api::schema::request::ModelChoice;
use crate::server::health::readiness::NotReady;
use crate::server::http::error::ApiError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

pub use super::generation::ModelChange;

/// Maximum time that a request waits for the first models before it is answered 503.
const FIRST_MODELS_WAIT: Duration = Duration::from_secs(2);

/// Holds the present set of models, which is empty until the first [`ModelRegistry::change`].
pub struct ModelRegistry {
    current: watch::Sender<Option<Arc<Generation>>>,
    status: LoadingStatus,
    /// Held during a change: changes run one after the other.
    changing: Mutex<()>,
    first_models_wait: Duration,
}

impl Default for ModelRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelRegistry {
    /// A registry without models: see [`ModelRegistry::change`].
    pub fn new() -> Self {
        ModelRegistry {
            current: watch::Sender::new(None),
            status: LoadingStatus::new("the models are not loaded yet"),
            changing: Mutex::default(),
            first_models_wait: FIRST_MODELS_WAIT,
        }
    }

    /// Replaces the models by those of `settings` with the present files. Missing models are fetched first, as in the
    /// original.
    ///
    /// The present models answer requests until the new ones are loaded and tested. Errs if a model is missing or does
    /// not work; then nothing changes.
    pub async fn change(&self, settings: &ModelSettings) -> Result<ModelChange, FetchError> {
        let _turn = self.changing.lock().await;
        let (settings, status) = (settings.clone(), self.status.clone());
        let old = self.current.borrow().clone();
        let build = move || Generation::build(settings, old.as_deref(), &status);
        let built = tokio::task::spawn_blocking(build).await;
        let (generation, change) =
            built.unwrap_or_else(|_| Err(ModelError::Broken { name: "the models".into() }.into()))?;
        let old = self.current.send_replace(Some(Arc::new(generation)));
        // Freeing the networks takes too long for a runtime thread.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(change)
    }

    /// Errs with the present step of loading until the first models are loaded.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.current.borrow().is_some() { Ok(()) } else { Err(NotReady(self.status.text())) }
    }

    /// The configured networks; empty before the first models are loaded.
    pub fn configured(&self) -> FaceAnalyzer {
        self.current.borrow().as_ref().map(|generation| generation.configured.clone()).unwrap_or_default()
    }

    /// The settings of the present models; `None` before the first models are loaded.
    pub fn settings(&self) -> Option<ModelSettings> {
        self.current.borrow().as_ref().map(|generation| generation.loader.settings.clone())
    }

    /// Number of networks in memory, including those that requests named.
    pub fn loaded(&self) -> usize {
        self.current.borrow().as_ref().map_or(0, |generation| generation.loaded())
    }

    /// The networks for one request. Loads a model that the request names, if that is allowed. Waits up to two seconds
    /// for the first models. Errs with 503 if they are not loaded by then, and with 400 and the possible names if a
    /// named model cannot be used.
    pub async fn choose(&self, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
        let mut current = self.current.subscribe();
        let waited = tokio::time::timeout(self.first_models_wait, current.wait_for(Option::is_some)).await;
        let generation = waited.ok().and_then(Result::ok).and_then(|found| found.clone());
        match generation {
            Some(generation) => generation.choose(choice).await,
            None => Err(ApiError::Overloaded(self.status.text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Setting, Settings};
    use crate::detect::Detector;
    use crate::models::ModelStore;
    use crate::recognize::Recognizer;
    use std::sync::Weak;

    fn settings() -> ModelSettings {
        ModelSettings { max_size: "64,64".parse().unwrap(), ..Settings::defaults().models }
    }

    fn weak(analyzer: &FaceAnalyzer) -> (Weak<Detector>, Weak<Recognizer>) {
        (Arc::downgrade(analyzer.detector.as_ref().unwrap()), Arc::downgrade(analyzer.recognizer.as_ref().unwrap()))
    }

    #[tokio::test]
    async fn without_the_switch_other_names_are_refused_with_the_configured_one() {
        let models = ModelRegistry::new();
        models.change(&settings()).await.unwrap();
        let choice = |name: &str| ModelChoice { det_name: Some(name.into()), ..Default::default() };
        assert!(models.choose(&choice("centerface")).await.is_ok());
        let Err(ApiError::BadRequest(message)) = models.choose(&choice("scrfd_10g_gnkps")).await else { panic!() };
        assert!(message.contains("configured: centerface") && message.contains("ALLOW_MODEL_SWITCH"), "{message}");
    }

    #[tokio::test]
    async fn without_models_requests_get_the_reason_after_a_wait() {
        let models = ModelRegistry::new();
        assert!(models.readiness().unwrap_err().to_string().contains("not loaded"));
        let started = std::time::Instant::now();
        let Err(ApiError::Overloaded(reason)) = models.choose(&ModelChoice::default()).await else { panic!() };
        assert!(reason.contains("not loaded") && started.elapsed() >= FIRST_MODELS_WAIT, "{reason}");
    }

    #[tokio::test]
    async fn requests_that_arrive_before_the_models_are_answered() {
        // A wait that no machine needs: without it a slow one could load the models too late.
        let wait = Duration::from_secs(3600);
        let models = Arc::new(ModelRegistry { first_models_wait: wait, ..ModelRegistry::new() });
        let early = tokio::spawn({
            let models = models.clone();
            async move { models.choose(&ModelChoice::default()).await.is_ok() }
        });
        while models.current.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        models.change(&settings()).await.unwrap();
        assert!(early.await.unwrap());
        assert!(models.readiness().is_ok());
    }

    #[tokio::test]
    async fn changed_models_are_loaded_and_old_ones_freed_after_their_last_request() {
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
        let models = ModelRegistry::new();
        let change = models.change(&settings).await.unwrap();
        assert_eq!(change, ModelChange { loaded: vec!["centerface".into(), "mine".into()], changed: true });
        assert_eq!(models.change(&settings).await.unwrap(), ModelChange { loaded: vec![], changed: false });

        let request = models.choose(&ModelChoice::default()).await.unwrap();
        let (detector, recognizer) = weak(&request);
        // The same network with an additional field of the protobuf, which readers ignore.
        install(&[onnx, &[0xf8, 0x3f, 0x00]].concat());
        let change = models.change(&settings).await.unwrap();
        assert_eq!(change, ModelChange { loaded: vec!["mine".into()], changed: true });
        let (same_detector, other_recognizer) = weak(&models.configured());
        assert!(Weak::ptr_eq(&detector, &same_detector) && !Weak::ptr_eq(&recognizer, &other_recognizer));
        assert!(recognizer.upgrade().is_some(), "a request still uses it");
        drop(request);
        // The old generation is dropped on another thread.
        let started = std::time::Instant::now();
        while recognizer.upgrade().is_some() {
            assert!(started.elapsed() < Duration::from_secs(60), "it is no longer used");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        install(b"no network");
        let error = models.change(&settings).await.unwrap_err().to_string();
        assert!(error.contains("mine.onnx"), "{error}");
        assert!(Weak::ptr_eq(&other_recognizer, &weak(&models.configured()).1), "the old one stays in use");
        settings.max_size = "96,96".parse().unwrap();
        settings.rec_name = Setting(None);
        assert!(models.change(&settings).await.unwrap().changed);
        assert!(models.configured().recognizer.is_none());
        assert_eq!(models.configured().detector.unwrap().canvas(), (96, 96));
    }
}
