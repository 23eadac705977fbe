//! One immutable set of models.

use super::cache::NetworkCache;
use super::fetch_progress::{LoadingStatus, fetch_options};
use super::loader::{LoadedNetwork, NetworkLoader, UnusableModel};
use crate::analyzer::FaceAnalyzer;
use crate::config::ModelSettings;
use crate::downloads::{self, FetchError};
use crate::models::{Inventory, ModelError, ModelStore, ModelVersion, Role, split_names};
use crate::server::api::schema::request::ModelChoice;
use crate::server::http::error::ApiError;
use crate::server::single_flight::SingleFlight;
use crate::text::for_message;
use std::sync::Arc;
use std::time::Duration;

/// Time for which a listing of the models directory is reused for requests that name models. A changed file is noticed
/// after this time at the latest.
const MAX_INVENTORY_AGE: Duration = Duration::from_secs(1);

/// The result of [`super::registry::ModelRegistry::change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChange {
    /// Names of the models that were loaded; unchanged models are not loaded again.
    pub loaded: Vec<String>,
    /// True if the set of models differs from the previous one.
    pub changed: bool,
}

/// One immutable set of models. A change builds a new set from new networks and unchanged ones, and replaces the old
/// set between two requests. Requests hold the networks they use, so old ones are freed when the last of those requests
/// ends.
pub(super) struct Generation {
    pub loader: NetworkLoader,
    pub configured: FaceAnalyzer,
    /// The configured networks with their versions.
    origins: Vec<(ModelVersion, LoadedNetwork)>,
    switch: Option<Arc<ModelSwitch>>,
}

/// State for ALLOW_MODEL_SWITCH: the loaded networks that requests named, and a recent listing of the directory.
struct ModelSwitch {
    cache: NetworkCache,
    /// At most one thread reads the directory: a network drive that hangs blocks only this thread, whatever the number
    /// of requests.
    inventory: SingleFlight<Arc<Inventory>>,
}

impl Generation {
    /// Fetches, loads and tests the models that `old` does not have. Blocks.
    pub fn build(
        settings: ModelSettings,
        old: Option<&Generation>,
        status: &LoadingStatus,
    ) -> Result<(Generation, ModelChange), FetchError> {
        let store = ModelStore::new(settings.models_dir.0.clone());
        let loader = NetworkLoader { store, settings };
        let wanted: Vec<(Role, &str)> =
            configured_names(&loader.settings).into_iter().filter_map(|(role, name)| Some((role, name?))).collect();
        let names: Vec<&str> = wanted.iter().flat_map(|(_, names)| split_names(names)).collect();
        downloads::ensure(&loader.store, &names, &fetch_options(status.clone()))?;
        status.set(format!("the models are being loaded: {}", names.join(", ")));

        // A network is reused if its file, its manifest entry and all settings it depends on are unchanged.
        let reusable = old.filter(|old| old.loader.is_equivalent(&loader));
        let mut origins = vec![];
        for (role, name) in &wanted {
            let origin = loader.store.version(*role, name)?;
            let known = reusable.and_then(|old| old.origins.iter().find(|(known, _)| *known == origin));
            origins.push((origin, known.map(|(_, network)| network.clone())));
        }
        let loaded: Vec<String> =
            origins.iter().filter(|(_, known)| known.is_none()).map(|(origin, _)| origin.name.clone()).collect();
        let origins = loader.complete(origins)?;
        let mut configured = FaceAnalyzer::default();
        for (_, network) in &origins {
            network.clone().install(&mut configured);
        }
        if !loaded.is_empty() {
            status.set("the models are being tested".into());
            configured.warm_up().map_err(|error| ModelError::Trial(Box::new(error)))?;
        }
        let capacity = loader.settings.max_loaded_models;
        let kept = reusable.and_then(|old| old.switch.clone()).filter(|switch| switch.cache.capacity() == capacity);
        let new = || Arc::new(ModelSwitch { cache: NetworkCache::new(capacity), inventory: SingleFlight::default() });
        let switch = loader.settings.allow_model_switch.then(|| kept.unwrap_or_else(new));
        let changed = !loaded.is_empty()
            || reusable
                .is_none_or(|old| old.origins.len() != origins.len() || old.switch.is_some() != switch.is_some());
        Ok((Generation { loader, configured, origins, switch }, ModelChange { loaded, changed }))
    }

    /// Number of networks in memory, including those that requests named.
    pub fn loaded(&self) -> usize {
        self.origins.len() + self.switch.as_ref().map_or(0, |switch| switch.cache.loaded())
    }

    /// The networks for one request. Errs with 400 if a named model cannot be used.
    pub async fn choose(&self, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
        let settings = &self.loader.settings;
        let mut analyzer = self.configured.clone();
        let asked = [&choice.det_name, &choice.rec_name, &choice.ga_name, &choice.mask_detector];
        for ((role, configured), asked) in configured_names(settings).into_iter().zip(asked) {
            if let Some(name) = asked.as_deref().filter(|name| Some(*name) != configured) {
                self.switch_to(role, name).await?.install(&mut analyzer);
            }
        }
        Ok(analyzer)
    }

    async fn switch_to(&self, role: Role, name: &str) -> Result<LoadedNetwork, ApiError> {
        let field = field(role);
        let shown = for_message(name);
        let Some(switch) = &self.switch else {
            let configured = configured_names(&self.loader.settings).into_iter().find(|(r, _)| *r == role);
            let configured = configured.and_then(|(_, name)| name);
            return Err(ApiError::BadRequest(format!(
                "{field} '{shown}' is not configured here; configured: {} (ALLOW_MODEL_SWITCH=true lets requests name \
                 any installed model)",
                configured.unwrap_or("none")
            )));
        };
        let unusable =
            |reason: UnusableModel| ApiError::BadRequest(format!("{field} '{shown}' cannot be used: {reason}"));
        let inventory = self.inventory(switch, name).await.ok_or_else(|| unusable(UnusableModel::Defect))?;
        if !inventory.names().iter().any(|installed| installed == name) {
            let installed = inventory.names().join(", ");
            return Err(ApiError::BadRequest(format!("{field} '{shown}' is not installed; installed: {installed}")));
        }
        let origin = inventory.version(role, name).map_err(|error| unusable(refusal(error)))?;
        let loader = self.loader.clone();
        let owned = name.to_string();
        let load = move || loader.load(role, &owned).map_err(|error| refusal(&error));
        switch.cache.get(origin, load).await.map_err(unusable)
    }

    /// A listing of the models directory: a recent one if it has `name`, else a new one. `None` if reading it panicked.
    async fn inventory(&self, switch: &ModelSwitch, name: &str) -> Option<Arc<Inventory>> {
        let has_name = |inventory: &Arc<Inventory>| inventory.names().iter().any(|installed| installed == name);
        let is_current = |inventory: &Arc<Inventory>, age| age < MAX_INVENTORY_AGE && has_name(inventory);
        let store = self.loader.store.clone();
        let read = async move { tokio::task::spawn_blocking(move || Arc::new(store.inventory())).await };
        let read = async move { read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) };
        switch.inventory.get(is_current, read).await
    }
}

/// Logs why a model that a request names cannot be used, and returns the message for clients.
fn refusal(error: &ModelError) -> UnusableModel {
    tracing::warn!(%error, "a model that a request names cannot be used");
    error.into()
}

/// The request field that names the network.
fn field(role: Role) -> &'static str {
    match role {
        Role::Detector => "det_name",
        Role::Recognizer => "rec_name",
        Role::GenderAge => "ga_name",
        Role::MaskDetector => "mask_detector",
        Role::Liveness => "liveness_name",
    }
}

/// The configured name of each role. The first four are those that a request may choose, in the order of
/// [`ModelChoice`].
fn configured_names(settings: &ModelSettings) -> [(Role, Option<&str>); 5] {
    [
        (Role::Detector, Some(settings.det_name.as_str())),
        (Role::Recognizer, settings.rec_name.as_deref()),
        (Role::GenderAge, settings.ga_name.as_deref()),
        (Role::MaskDetector, settings.mask_detector.as_deref()),
        (Role::Liveness, settings.liveness_name.as_deref()),
    ]
}
