//! The model store: finds models by name, first in the models directory, then among the embedded models.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::embedded::{EMBEDDED, embedded};
use super::error::ModelError;
use super::function::{Role, detector_hints, recognizer_kind};
use super::manifest::{Manifest, ModelEntry};
use super::name::{NAME_RULE, is_name, split_names};
use crate::attributes::{GenderAge, Liveness, MaskDetector};
use crate::detect::{DetectError, Detector};
use crate::recognize::Recognizer;
use ifr_engine::Network;

/// Location of a model's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the models directory.
    Installed(PathBuf),
    /// Embedded in the program.
    Embedded,
    /// Not installed; the manifest has a link.
    Available,
    /// Not installed, and the manifest has no link.
    Unavailable,
}

/// Installed models, as `DIR/onnx/NAME/NAME.onnx` like in InsightFace-REST, and embedded models. Installed models take
/// precedence.
#[derive(Clone, Debug, Default)]
pub struct ModelStore {
    dir: Option<PathBuf>,
}

impl ModelStore {
    /// A store with the models directory `dir`, or with embedded models only.
    pub fn new(dir: Option<PathBuf>) -> ModelStore {
        ModelStore { dir }
    }

    /// The models directory.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Reads the manifest. The files may change while the program runs, so every call reads them.
    ///
    /// # Errors
    ///
    /// If a manifest file cannot be read.
    pub fn manifest(&self) -> Result<Manifest, ModelError> {
        Manifest::load(self.dir())
    }

    /// The manifest entry of `name`; an empty entry if there is none.
    ///
    /// # Errors
    ///
    /// If a manifest file cannot be read.
    pub fn entry(&self, name: &str) -> Result<ModelEntry, ModelError> {
        Ok(self.manifest()?.get(name).cloned().unwrap_or_default())
    }

    /// Names of installed and embedded models, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = EMBEDDED.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.extend(self.folders().filter(|name| is_name(name)));
        names.sort();
        names.dedup();
        names
    }

    /// Folders of the models directory that hold a model of their name.
    fn folders(&self) -> impl Iterator<Item = String> {
        let entries = self.dir.as_ref().and_then(|d| std::fs::read_dir(d.join("onnx")).ok());
        let names = entries.into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.filter(|name| self.file(name).is_some_and(|f| f.is_file()))
    }

    /// What the store ignores in the models directory, with the reason: malformed manifest entries and folders with
    /// invalid names.
    ///
    /// # Errors
    ///
    /// If a manifest file cannot be read.
    pub fn notes(&self) -> Result<Vec<String>, ModelError> {
        let mut notes = self.manifest()?.notes().to_vec();
        let odd = self.folders().filter(|name| !is_name(name));
        notes.extend(odd.map(|name| format!("onnx/{name} is left out: a model's name has {NAME_RULE}")));
        Ok(notes)
    }

    /// The current location of the model `name`.
    ///
    /// # Errors
    ///
    /// If the name is invalid or a manifest file cannot be read.
    pub fn locate(&self, name: &str) -> Result<Location, ModelError> {
        if !is_name(name) {
            return Err(ModelError::Name(name.into()));
        }
        if let Some(file) = self.file(name).filter(|f| f.is_file()) {
            return Ok(Location::Installed(file));
        }
        if embedded(name).is_some() {
            return Ok(Location::Embedded);
        }
        Ok(match self.entry(name)?.all_links().is_empty() {
            true => Location::Unavailable,
            false => Location::Available,
        })
    }

    /// Loads a detector for a canvas of (width, height) pixels and batches of up to `batch` pictures.
    ///
    /// A detector with a fixed size, by its manifest entry or by its graph, gets a canvas of that size; this is logged.
    ///
    /// # Errors
    ///
    /// If the model is not found, cannot be read, or is not a detector.
    pub fn detector(&self, name: &str, canvas: (usize, usize), batch: usize) -> Result<Detector, ModelError> {
        let entry = self.entry_as(name, Role::Detector)?;
        fit_detector(|| self.network(name), canvas, batch, &entry)
    }

    /// Loads a recognizer for batches of up to `batch` faces.
    ///
    /// # Errors
    ///
    /// If the model is not found, cannot be read, or is not a recognizer.
    pub fn recognizer(&self, name: &str, batch: usize) -> Result<Recognizer, ModelError> {
        let entry = self.entry_as(name, Role::Recognizer)?;
        let (network, origin) = self.network(name)?;
        let kind = recognizer_kind(entry.function.as_deref());
        Recognizer::new(network, kind, entry.batch(batch)).map_err(|source| ModelError::Recognizer { origin, source })
    }

    /// Loads a gender and age network for batches of up to `batch` faces.
    ///
    /// # Errors
    ///
    /// If the model is not found, cannot be read, or is not such a network.
    pub fn gender_age(&self, name: &str, batch: usize) -> Result<GenderAge, ModelError> {
        let entry = self.entry_as(name, Role::GenderAge)?;
        let (network, origin) = self.network(name)?;
        GenderAge::new(network, entry.batch(batch)).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads a mask detector for batches of up to `batch` faces.
    ///
    /// # Errors
    ///
    /// If the model is not found, cannot be read, or is not a mask detector.
    pub fn mask_detector(&self, name: &str, batch: usize) -> Result<MaskDetector, ModelError> {
        let entry = self.entry_as(name, Role::MaskDetector)?;
        let (network, origin) = self.network(name)?;
        MaskDetector::new(network, entry.batch(batch)).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads liveness networks, by names separated by commas, for batches of up to `batch` faces.
    ///
    /// # Errors
    ///
    /// If a model is not found, cannot be read, or is not a liveness network.
    pub fn liveness(&self, names: &str, batch: usize) -> Result<Liveness, ModelError> {
        let mut origins = vec![];
        let mut networks = vec![];
        let mut batch = batch;
        for name in split_names(names) {
            batch = self.entry_as(name, Role::Liveness)?.batch(batch);
            let (network, origin) = self.network(name)?;
            origins.push(origin);
            networks.push((Liveness::scale_of(name), network));
        }
        let origin = origins.join(", ");
        Liveness::new(networks, batch).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// The manifest entry of `name`. An error if it assigns the model to another role than `wanted`.
    fn entry_as(&self, name: &str, wanted: Role) -> Result<ModelEntry, ModelError> {
        let entry = self.entry(name)?;
        match (entry.role(), &entry.function) {
            (Some(is), Some(function)) if is != wanted => Err(ModelError::Role {
                name: name.into(),
                function: function.clone(),
                is: is.describe(),
                wanted: wanted.describe(),
                fitting: self.fitting(wanted)?,
            }),
            _ => Ok(entry),
        }
    }

    /// Names of the installed and embedded models with this role, for messages.
    fn fitting(&self, role: Role) -> Result<String, ModelError> {
        let manifest = self.manifest()?;
        let fits = |name: &String| manifest.get(name).and_then(ModelEntry::role) == Some(role);
        let names: Vec<String> = self.names().into_iter().filter(fits).collect();
        Ok(if names.is_empty() { "none installed".into() } else { names.join(", ") })
    }

    /// Loads a network; also returns its origin for messages.
    ///
    /// # Errors
    ///
    /// If the model is not found or cannot be read.
    pub fn network(&self, name: &str) -> Result<(Network, String), ModelError> {
        let (network, origin) = match self.locate(name)? {
            Location::Installed(path) => {
                let origin = path.display().to_string();
                File::open(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
                (Network::from_file(&path, name), origin)
            }
            Location::Embedded => {
                let bytes = embedded(name).unwrap_or_default();
                (Network::from_static(bytes, name), format!("embedded model {name}"))
            }
            location => return Err(self.unknown(name, location == Location::Available)),
        };
        match network {
            Ok(network) => Ok((network, origin)),
            Err(source) => Err(ModelError::Load { origin, source }),
        }
    }

    /// The error for a model that is not installed. `downloadable`: it can be downloaded.
    pub fn unknown(&self, name: &str, downloadable: bool) -> ModelError {
        let mut searched = match self.file(name) {
            Some(file) => format!("{} does not exist", file.display()),
            None => "no models directory is set (--models-dir or MODELS_DIR)".into(),
        };
        if downloadable {
            searched += &format!("; `ifr models pull {name}` fetches it");
        }
        ModelError::Unknown { name: name.into(), searched, available: self.names().join(", ") }
    }

    /// Path of a model in the models directory, existing or not; `None` without a directory.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let file = |dir: &Path| dir.join("onnx").join(name).join(format!("{name}.onnx"));
        self.dir.as_deref().map(file)
    }
}

/// Prepares the detector that `open` reads for `canvas`, or for its own size if that is fixed.
pub(super) fn fit_detector(
    open: impl Fn() -> Result<(Network, String), ModelError>,
    canvas: (usize, usize),
    batch: usize,
    entry: &ModelEntry,
) -> Result<Detector, ModelError> {
    let (network, origin) = open()?;
    let hints = detector_hints(entry.function.as_deref());
    let batch = entry.batch(batch);
    let name = network.name().to_owned();
    let own = match network.input().shape[..] {
        [_, _, Some(h), Some(w)] => Some((w, h)),
        _ => entry.published_size(),
    };
    let canvas = match own.filter(|own| entry.reshape == Some(false) && *own != canvas) {
        Some((w, h)) => {
            tracing::info!("{name}: runs at its own size, {w}x{h}: the manifest says \"reshape\": false");
            (w, h)
        }
        None => canvas,
    };
    let detector = match Detector::with_hints(network, canvas, batch, hints) {
        Err(DetectError::FixedSize { width, height, .. }) => {
            tracing::warn!("{name}: runs at {width}x{height} instead of {}x{}: its graph is fixed", canvas.0, canvas.1);
            Detector::with_hints(open()?.0, (width, height), batch, hints)
        }
        other => other,
    };
    detector.map_err(|source| ModelError::Detector { origin, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_models_need_no_directory() {
        let store = ModelStore::default();
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        assert_eq!(store.network("centerface").unwrap().0.outputs().len(), 4);
    }

    #[test]
    fn unknown_and_invalid_names_are_refused() {
        let store = ModelStore::new(Some("/nonexistent".into()));
        let message = store.network("glintr100").err().unwrap().to_string();
        assert!(message.contains("glintr100.onnx does not exist") && message.contains("centerface"), "{message}");
        for odd in ["", "../secret", "a/b", ".hidden", "nul\0"] {
            assert!(matches!(store.network(odd), Err(ModelError::Name(_))), "{odd:?}");
        }
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in
            [("empty", &b""[..]), ("text", b"hello, this is no model"), ("cut", &EMBEDDED[1].1[..100_000])]
        {
            let file = dir.path().join("onnx").join(name).join(format!("{name}.onnx"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, content).unwrap();
            let message = ModelStore::new(Some(dir.path().into())).recognizer(name, 1).err().unwrap().to_string();
            assert!(message.contains(&format!("{name}.onnx")), "{message}");
        }
    }

    #[test]
    fn folders_with_invalid_names_are_noted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("onnx/my model/my model.onnx");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, EMBEDDED[1].1).unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        let notes = store.notes().unwrap();
        assert!(notes.len() == 1 && notes[0].contains("onnx/my model"), "{notes:?}");
    }

    #[test]
    fn the_manifest_can_forbid_batches_and_reshaping() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"mobilefacenet": {"allow_batching": false}, "centerface": {"reshape": false, "shape": [1, 3, 96, 64]}}"#;
        std::fs::write(dir.path().join("models.override.json"), text).unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        assert_eq!(store.recognizer("mobilefacenet", 4).unwrap().batch(), 1);
        assert_eq!(ModelStore::default().recognizer("mobilefacenet", 4).unwrap().batch(), 4);
        // The file declares 32x32, which takes precedence over the manifest.
        assert_eq!(store.detector("centerface", (128, 64), 1).unwrap().canvas(), (32, 32));
        assert_eq!(ModelStore::default().detector("centerface", (128, 64), 1).unwrap().canvas(), (128, 64));
    }

    #[test]
    fn downloadable_models_are_mentioned() {
        let message = ModelStore::default().network("glintr100").err().unwrap().to_string();
        assert!(message.contains("ifr models pull glintr100"), "{message}");
    }
}
