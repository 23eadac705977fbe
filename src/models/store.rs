//! Finding a model by name: first in the models directory, then in the embedded pack.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::embedded::PACK;
use super::function::{Role, detector_hints, recognizer_kind};
use super::manifest::{Manifest, ModelEntry, edit_override};
use super::recognise::{RecogniseError, recognise};
use crate::attributes::{AttributeError, GenderAge, Liveness, MaskDetector};
use crate::detect::{DetectError, Detector};
use crate::engine::{EngineError, Network};
use crate::recognize::{RecognizeError, Recognizer};

/// Why a model could not be had. Every message names the model and, where there is one, the file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("no model named '{name}': {searched}; available: {available}")]
    Unknown { name: String, searched: String, available: String },
    #[error("'{0}' is not a model name: letters, digits, '.', '_' and '-' only")]
    Name(String),
    #[error("'{name}' is a {is} (function '{function}'), not a {wanted}; there are: {fitting}")]
    Role { name: String, function: String, is: &'static str, wanted: &'static str, fitting: String },
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
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
    #[cfg(feature = "server")]
    #[error(transparent)]
    Fetch(#[from] super::fetch::FetchError),
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
        if let Some(entries) = self.dir.as_ref().and_then(|d| std::fs::read_dir(d.join("onnx")).ok()) {
            let installed = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            names.extend(installed.filter(|name| self.file(name).is_some_and(|f| f.is_file())));
        }
        names.sort();
        names.dedup();
        names
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
    pub fn detector(&self, name: &str, canvas: (usize, usize), batch: usize) -> Result<Detector, ModelError> {
        let entry = self.entry_as(name, Role::Detector)?;
        let (network, origin) = self.network(name)?;
        let hints = detector_hints(entry.function.as_deref());
        Detector::with_hints(network, canvas, batch, hints).map_err(|source| ModelError::Detector { origin, source })
    }

    /// Loads a recogniser for up to `batch` faces a pass.
    pub fn recognizer(&self, name: &str, batch: usize) -> Result<Recognizer, ModelError> {
        let entry = self.entry_as(name, Role::Recognizer)?;
        let (network, origin) = self.network(name)?;
        let kind = recognizer_kind(entry.function.as_deref());
        Recognizer::new(network, kind, batch).map_err(|source| ModelError::Recognizer { origin, source })
    }

    /// Loads a gender and age network for up to `batch` faces a pass.
    pub fn gender_age(&self, name: &str, batch: usize) -> Result<GenderAge, ModelError> {
        self.entry_as(name, Role::GenderAge)?;
        let (network, origin) = self.network(name)?;
        GenderAge::new(network, batch).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads a mask detector for up to `batch` faces a pass.
    pub fn mask_detector(&self, name: &str, batch: usize) -> Result<MaskDetector, ModelError> {
        self.entry_as(name, Role::MaskDetector)?;
        let (network, origin) = self.network(name)?;
        MaskDetector::new(network, batch).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads the networks of a liveness score, separated by commas, for up to `batch` faces a pass.
    pub fn liveness(&self, names: &str, batch: usize) -> Result<Liveness, ModelError> {
        let mut origins = vec![];
        let mut networks = vec![];
        for name in split_names(names) {
            self.entry_as(name, Role::Liveness)?;
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

    pub(super) fn unknown(&self, name: &str, can_be_had: bool) -> ModelError {
        let mut searched = match self.file(name) {
            Some(file) => format!("{} does not exist", file.display()),
            None => "no models directory is set (--models-dir or MODELS_DIR)".into(),
        };
        if can_be_had {
            searched += &format!("; `ifr models pull {name}` fetches it");
        }
        ModelError::Unknown { name: name.into(), searched, available: self.names().join(", ") }
    }

    /// Puts a file into the models directory under `name`, and what it is for into the override manifest.
    ///
    /// Errs when it is no network, or without a function none that is known by its shapes. A model of that name is replaced in one step.
    pub fn add(&self, file: &Path, name: &str, function: Option<&str>) -> Result<PathBuf, ModelError> {
        if !is_name(name) {
            return Err(ModelError::Name(name.into()));
        }
        let (Some(dir), Some(target)) = (self.dir(), self.file(name)) else { return Err(ModelError::NoDirectory) };
        let bytes = std::fs::read(file).map_err(|source| ModelError::Read { path: file.into(), source })?;
        let origin = file.display().to_string();
        match function {
            Some(_) => drop(
                Network::from_onnx(&bytes, name)
                    .map_err(|source| ModelError::Load { origin: origin.clone(), source })?,
            ),
            None => drop(
                recognise(|| Network::from_onnx(&bytes, name), (640, 640))
                    .map_err(|source| ModelError::Unrecognised { origin: origin.clone(), source })?,
            ),
        }
        let write = || -> io::Result<()> {
            let parent = target.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent)?;
            let part = parent.join(format!(".{name}.onnx.added"));
            std::fs::write(&part, &bytes)?;
            std::fs::rename(part, &target)
        };
        write().map_err(|source| ModelError::Write { path: target.clone(), source })?;
        let mut entry = ModelEntry { size: Some(bytes.len() as u64), ..Default::default() };
        entry.function = function.map(str::to_owned);
        #[cfg(feature = "server")]
        {
            entry.sha256 = Some(super::hash::sha256(&bytes));
        }
        edit_override(dir, name, Some(&entry))?;
        Ok(target)
    }

    /// Removes an installed model and its entry in the override manifest. Errs when it is not installed.
    pub fn remove(&self, name: &str) -> Result<PathBuf, ModelError> {
        let (Location::Installed(file), Some(dir)) = (self.locate(name)?, self.dir()) else {
            return Err(self.unknown(name, false));
        };
        std::fs::remove_file(&file).map_err(|source| ModelError::Write { path: file.clone(), source })?;
        // The folder goes too, unless something of the user's is in it.
        if let Some(folder) = file.parent() {
            let _ = std::fs::remove_dir(folder);
        }
        edit_override(dir, name, None)?;
        Ok(file)
    }

    /// The place of a model in the models directory, whether it is there or not.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let file = |dir: &Path| dir.join("onnx").join(name).join(format!("{name}.onnx"));
        self.dir.as_deref().map(file)
    }
}

/// Names separated by commas.
pub fn split_names(names: &str) -> impl Iterator<Item = &str> {
    names.split(',').map(str::trim).filter(|n| !n.is_empty())
}

/// Names become part of a path, so nothing but plain characters may be in them.
pub(super) fn is_name(name: &str) -> bool {
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
    fn models_are_added_used_as_declared_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let file = dir.path().join("some.onnx");
        std::fs::write(&file, PACK[1].1).unwrap();
        store.add(&file, "mine", Some("adaface")).unwrap();
        assert_eq!(store.names(), ["centerface", "mine", "mobilefacenet"]);
        assert_eq!(store.recognizer("mine", 1).unwrap().kind(), crate::recognize::RecognizerKind::Adaface);
        let message = store.detector("mine", (64, 64), 1).err().unwrap().to_string();
        assert!(
            message.contains("adaface") && message.contains("not a face detector; there are: centerface"),
            "{message}"
        );
        store.remove("mine").unwrap();
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        assert_eq!(store.entry("mine").unwrap(), ModelEntry::default());
        assert!(store.remove("mine").is_err() && store.remove("centerface").is_err());
        std::fs::write(&file, "no network").unwrap();
        assert!(store.add(&file, "text", None).is_err() && store.locate("text").unwrap() == Location::Unavailable);
    }

    #[test]
    fn what_could_be_fetched_is_said() {
        let message = ModelStore::default().network("glintr100").err().unwrap().to_string();
        assert!(message.contains("ifr models pull glintr100"), "{message}");
    }
}
