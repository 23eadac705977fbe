//! Loads networks with the configured sizes and batches.

use crate::analyzer::FaceAnalyzer;
use crate::attributes::{GenderAge, Liveness, MaskDetector};
use crate::config::ModelSettings;
use crate::detect::Detector;
use crate::models::{ModelError, ModelStore, ModelVersion, Role};
use crate::recognize::Recognizer;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

/// A loaded network, by its role.
#[derive(Clone)]
pub enum LoadedNetwork {
    /// Finds faces.
    Detector(Arc<Detector>),
    /// Computes embeddings.
    Recognizer(Arc<Recognizer>),
    /// Estimates gender and age.
    GenderAge(Arc<GenderAge>),
    /// Detects masks.
    MaskDetector(Arc<MaskDetector>),
    /// Scores liveness.
    Liveness(Arc<Liveness>),
}

impl LoadedNetwork {
    /// Sets the network as the one of its role in `analyzer`.
    pub fn install(self, analyzer: &mut FaceAnalyzer) {
        match self {
            LoadedNetwork::Detector(network) => analyzer.detector = Some(network),
            LoadedNetwork::Recognizer(network) => analyzer.recognizer = Some(network),
            LoadedNetwork::GenderAge(network) => analyzer.gender_age = Some(network),
            LoadedNetwork::MaskDetector(network) => analyzer.mask_detector = Some(network),
            LoadedNetwork::Liveness(network) => analyzer.liveness = Some(network),
        }
    }
}

/// The reason why a model that a request names cannot be used. The messages are for clients: paths and details are in
/// the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableModel {
    /// The name is invalid, or the model has another role. The message is that of [`ModelError`].
    #[error("{0}")]
    Unfit(String),
    /// There is no such model.
    #[error("it is not installed")]
    NotInstalled,
    /// Its file cannot be read or written.
    #[error("its files cannot be read")]
    Unreadable,
    /// A manifest cannot be read.
    #[error("the manifests of the models directory cannot be read")]
    Manifest,
    /// The file is not ONNX, or cannot be loaded.
    #[error("its file is not a network that can be loaded")]
    NotANetwork,
    /// The shapes of its inputs and outputs belong to no known kind.
    #[error("it is not a network of a known kind")]
    UnknownKind,
    /// It is not a detector of a supported family.
    #[error("it is not a supported face detector")]
    NotADetector,
    /// It is not a recognizer.
    #[error("it is not a supported face recognizer")]
    NotARecognizer,
    /// It is not an attribute network of the requested role.
    #[error("it is not a supported network for this field")]
    NotAnAttribute,
    /// It can be loaded, but a run fails.
    #[error("a trial run failed")]
    Trial,
    /// A defect of this program.
    #[error("loading it failed in an unexpected way")]
    Defect,
}

impl From<&ModelError> for UnusableModel {
    fn from(error: &ModelError) -> Self {
        match error {
            ModelError::Name(_) | ModelError::Role { .. } | ModelError::Broken { .. } => {
                UnusableModel::Unfit(error.to_string())
            }
            ModelError::Unknown { .. } | ModelError::NoDirectory => UnusableModel::NotInstalled,
            ModelError::Read { .. } | ModelError::Write { .. } | ModelError::NoModelFile { .. } => {
                UnusableModel::Unreadable
            }
            ModelError::Manifest { .. } => UnusableModel::Manifest,
            ModelError::Load { .. } => UnusableModel::NotANetwork,
            ModelError::Unclassified { .. } => UnusableModel::UnknownKind,
            ModelError::Detector { .. } => UnusableModel::NotADetector,
            ModelError::Recognizer { .. } => UnusableModel::NotARecognizer,
            ModelError::Attribute { .. } => UnusableModel::NotAnAttribute,
            ModelError::Trial(_) => UnusableModel::Trial,
        }
    }
}

/// Loads models of one directory with one set of settings.
#[derive(Clone)]
pub struct NetworkLoader {
    /// The models.
    pub store: ModelStore,
    /// Sizes and batches.
    pub settings: ModelSettings,
}

impl NetworkLoader {
    /// True if both loaders make equal networks from a model with the same origin.
    pub fn is_equivalent(&self, other: &NetworkLoader) -> bool {
        let relevant = |settings: &ModelSettings| {
            let directory = settings.models_dir.0.clone();
            (directory, settings.max_size.floored(), settings.det_batch_size, settings.rec_batch_size)
        };
        relevant(&self.settings) == relevant(&other.settings)
    }

    /// Loads the missing networks, each on its own thread. Errs with the first error in the order of `origins`.
    pub fn complete(
        &self,
        origins: Vec<(ModelVersion, Option<LoadedNetwork>)>,
    ) -> Result<Vec<(ModelVersion, LoadedNetwork)>, ModelError> {
        std::thread::scope(|scope| {
            let mut loads = vec![];
            for (origin, known) in origins {
                let (role, name) = (origin.role, origin.name.clone());
                let load = known.is_none().then(|| scope.spawn(move || self.load(role, &name)));
                loads.push((origin, known, load));
            }
            type Load<'a> = Option<ScopedJoinHandle<'a, Result<LoadedNetwork, ModelError>>>;
            let finish = |(origin, known, load): (ModelVersion, Option<LoadedNetwork>, Load)| {
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

    /// Loads one model in the given role.
    pub fn load(&self, role: Role, name: &str) -> Result<LoadedNetwork, ModelError> {
        let (store, settings) = (&self.store, &self.settings);
        let batch = settings.rec_batch_size;
        Ok(match role {
            Role::Detector => {
                let canvas = settings.max_size.floored();
                LoadedNetwork::Detector(store.detector(name, canvas, settings.det_batch_size)?.into())
            }
            Role::Recognizer => LoadedNetwork::Recognizer(store.recognizer(name, batch)?.into()),
            Role::GenderAge => LoadedNetwork::GenderAge(store.gender_age(name, batch)?.into()),
            Role::MaskDetector => LoadedNetwork::MaskDetector(store.mask_detector(name, batch)?.into()),
            Role::Liveness => LoadedNetwork::Liveness(store.liveness(name, batch)?.into()),
        })
    }
}
