//! Finding a model by name: first in the models directory, then in the embedded pack.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::embedded::PACK;
use super::function::{Role, detector_hints, recognizer_kind};
use super::manifest::{Manifest, ModelEntry};
use super::recognise::RecogniseError;
use crate::attributes::{AttributeError, GenderAge, Liveness, MaskDetector};
use crate::detect::{DetectError, Detector};
use crate::recognize::{RecognizeError, Recognizer};
use ifr_engine::{EngineError, Network};

/// No published model comes near this.
pub const MOST_BYTES: u64 = 4 << 30;
/// Names become part of a path and of an address.
pub(super) const NAME_RULE: &str = "letters, digits, '.', '_' and '-' only";

/// Why a model could not be had. Every message names the model and, where there is one, the file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("no model named '{name}': {searched}; available: {available}")]
    Unknown { name: String, searched: String, available: String },
    #[error("'{0}' is not a model name: {NAME_RULE}")]
    Name(String),
    #[error("'{name}' is a {is} (function '{function}'), not a {wanted}; there are: {fitting}")]
    Role { name: String, function: String, is: &'static str, wanted: &'static str, fitting: String },
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: not a file of at most {} GB", MOST_BYTES >> 30, path = .path.display())]
    NoModelFile { path: PathBuf },
    #[error("cannot write {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: not a model manifest: {source}", path = .path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error("the models are loaded, but a trial run failed: {0}")]
    Trial(Box<crate::analyzer::AnalyzeError>),
    #[error("loading '{name}' failed in an unexpected way")]
    Broken { name: String },
    #[error("no models directory is set (--models-dir or MODELS_DIR)")]
    NoDirectory,
    #[error("{origin}: {source}")]
    Load { origin: String, source: EngineError },
    #[error("{origin}: {source}")]
    Unrecognised { origin: String, source: RecogniseError },
    #[error("{origin}: {source}")]
    Detector { origin: String, source: DetectError },
    #[error("{origin}: {source}")]
    Recognizer { origin: String, source: RecognizeError },
    #[error("{origin}: {source}")]
    Attribute { origin: String, source: AttributeError },
}

/// Where a model's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the models directory.
    Installed(PathBuf),
    /// In the program.
    Embedded,
    /// Nowhere yet; the manifest says where to get it.
    Available,
    /// Known by name only.
    Unavailable,
}

/// Where models come from: `DIR/onnx/NAME/NAME.onnx` as in InsightFace-REST, and the embedded pack when nothing there has the name.
#[derive(Clone, Debug, Default)]
pub struct ModelStore {
    dir: Option<PathBuf>,
}

impl ModelStore {
    pub fn new(dir: Option<PathBuf>) -> ModelStore {
        ModelStore { dir }
    }

    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// What is known of models, installed or not. Read anew at each call: the files may change while the program runs.
    pub fn manifest(&self) -> Result<Manifest, ModelError> {
        Manifest::load(self.dir())
    }

    /// What the manifest says of `name`; nothing for a model that is not in it.
    pub fn entry(&self, name: &str) -> Result<ModelEntry, ModelError> {
        Ok(self.manifest()?.get(name).cloned().unwrap_or_default())
    }

    /// Names of installed and embedded models, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = PACK.iter().map(|(name, _)| (*name).to_owned()).collect();
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

    /// What of the models directory is left out, and why: entries of manifests that cannot be understood, and folders whose name is none.
    pub fn notes(&self) -> Result<Vec<String>, ModelError> {
        let mut notes = self.manifest()?.notes().to_vec();
        let odd = self.folders().filter(|name| !is_name(name));
        notes.extend(odd.map(|name| format!("onnx/{name} is left out: a model's name has {NAME_RULE}")));
        Ok(notes)
    }

    /// Where the bytes of `name` are now.
    pub fn locate(&self, name: &str) -> Result<Location, ModelError> {
        if !is_name(name) {
            return Err(ModelError::Name(name.into()));
        }
        if let Some(file) = self.file(name).filter(|f| f.is_file()) {
            return Ok(Location::Installed(file));
        }
        if PACK.iter().any(|(n, _)| *n == name) {
            return Ok(Location::Embedded);
        }
        Ok(match self.entry(name)?.all_links().is_empty() {
            true => Location::Unavailable,
            false => Location::Available,
        })
    }

    /// Loads a detector for a canvas of (width, height) and up to `batch` images a pass.
    ///
    /// One that the manifest forbids to reshape, and one whose graph cannot take another size than its own, gets a canvas of that size; the
    /// log says so.
    pub fn detector(&self, name: &str, canvas: (usize, usize), batch: usize) -> Result<Detector, ModelError> {
        let entry = self.entry_as(name, Role::Detector)?;
        fit_detector(|| self.network(name), canvas, batch, &entry)
    }

    /// Loads a recogniser for up to `batch` faces a pass.
    pub fn recognizer(&self, name: &str, batch: usize) -> Result<Recognizer, ModelError> {
        let entry = self.entry_as(name, Role::Recognizer)?;
        let (network, origin) = self.network(name)?;
        let kind = recognizer_kind(entry.function.as_deref());
        Recognizer::new(network, kind, entry.batch(batch)).map_err(|source| ModelError::Recognizer { origin, source })
    }

    /// Loads a gender and age network for up to `batch` faces a pass.
    pub fn gender_age(&self, name: &str, batch: usize) -> Result<GenderAge, ModelError> {
        let entry = self.entry_as(name, Role::GenderAge)?;
        let (network, origin) = self.network(name)?;
        GenderAge::new(network, entry.batch(batch)).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads a mask detector for up to `batch` faces a pass.
    pub fn mask_detector(&self, name: &str, batch: usize) -> Result<MaskDetector, ModelError> {
        let entry = self.entry_as(name, Role::MaskDetector)?;
        let (network, origin) = self.network(name)?;
        MaskDetector::new(network, entry.batch(batch)).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads the networks of a liveness score, separated by commas, for up to `batch` faces a pass.
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

    /// The manifest's entry, unless it says that the model is for something else.
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

    /// Installed and embedded models that the manifest knows to do this, for messages.
    fn fitting(&self, role: Role) -> Result<String, ModelError> {
        let manifest = self.manifest()?;
        let fits = |name: &String| manifest.get(name).and_then(ModelEntry::role) == Some(role);
        let names: Vec<String> = self.names().into_iter().filter(fits).collect();
        Ok(if names.is_empty() { "none installed".into() } else { names.join(", ") })
    }

    /// Reads and decodes a model; also says where it came from.
    pub fn network(&self, name: &str) -> Result<(Network, String), ModelError> {
        let (network, origin) = match self.locate(name)? {
            Location::Installed(path) => {
                let origin = path.display().to_string();
                File::open(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
                (Network::from_file(&path, name), origin)
            }
            Location::Embedded => {
                let bytes = PACK.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, bytes)| bytes);
                (Network::from_static(bytes, name), format!("embedded model {name}"))
            }
            location => return Err(self.unknown(name, location == Location::Available)),
        };
        match network {
            Ok(network) => Ok((network, origin)),
            Err(source) => Err(ModelError::Load { origin, source }),
        }
    }

    pub fn unknown(&self, name: &str, can_be_had: bool) -> ModelError {
        let mut searched = match self.file(name) {
            Some(file) => format!("{} does not exist", file.display()),
            None => "no models directory is set (--models-dir or MODELS_DIR)".into(),
        };
        if can_be_had {
            searched += &format!("; `ifr models pull {name}` fetches it");
        }
        ModelError::Unknown { name: name.into(), searched, available: self.names().join(", ") }
    }

    /// The place of a model in the models directory, whether it is there or not.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let file = |dir: &Path| dir.join("onnx").join(name).join(format!("{name}.onnx"));
        self.dir.as_deref().map(file)
    }
}

/// Prepares the detector that `open` opens for `canvas`, or for its own size where it may or can have no other.
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

/// Names separated by commas.
pub fn split_names(names: &str) -> impl Iterator<Item = &str> {
    names.split(',').map(str::trim).filter(|n| !n.is_empty())
}

/// Names become part of a path, so nothing but plain characters may be in them.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pack_is_there_without_a_directory() {
        let store = ModelStore::default();
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        assert_eq!(store.network("centerface").unwrap().0.outputs().len(), 4);
    }

    #[test]
    fn unknown_and_odd_names_are_refused_with_what_there_is() {
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
            [("empty", &b""[..]), ("text", b"hello, this is no model"), ("cut", &PACK[1].1[..100_000])]
        {
            let file = dir.path().join("onnx").join(name).join(format!("{name}.onnx"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, content).unwrap();
            let message = ModelStore::new(Some(dir.path().into())).recognizer(name, 1).err().unwrap().to_string();
            assert!(message.contains(&format!("{name}.onnx")), "{message}");
        }
    }

    #[test]
    fn odd_folders_are_left_out_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("onnx/my model/my model.onnx");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, PACK[1].1).unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        let notes = store.notes().unwrap();
        assert!(notes.len() == 1 && notes[0].contains("onnx/my model"), "{notes:?}");
    }

    #[test]
    fn batches_are_forbidden_by_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"mobilefacenet": {"allow_batching": false}, "centerface": {"reshape": false, "shape": [1, 3, 96, 64]}}"#;
        std::fs::write(dir.path().join("models.override.json"), text).unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        assert_eq!(store.recognizer("mobilefacenet", 4).unwrap().batch(), 1);
        assert_eq!(ModelStore::default().recognizer("mobilefacenet", 4).unwrap().batch(), 4);
        // Its file declares 32x32, which wins over what the manifest says of it.
        assert_eq!(store.detector("centerface", (128, 64), 1).unwrap().canvas(), (32, 32));
        assert_eq!(ModelStore::default().detector("centerface", (128, 64), 1).unwrap().canvas(), (128, 64));
    }

    #[test]
    fn what_could_be_fetched_is_said() {
        let message = ModelStore::default().network("glintr100").err().unwrap().to_string();
        assert!(message.contains("ifr models pull glintr100"), "{message}");
    }
}
