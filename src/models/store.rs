//! Finding a model by name: first in the models directory, then in the embedded pack.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::embedded::PACK;
use crate::attributes::{AttributeError, GenderAge, Liveness, MaskDetector};
use crate::detect::{DetectError, Detector};
use crate::engine::{EngineError, Network};
use crate::recognize::{RecognizeError, Recognizer, RecognizerKind};

/// Why a model could not be had. Every message names the model and, where there is one, the file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("no model named '{name}': {searched}; available: {available}")]
    Unknown { name: String, searched: String, available: String },
    #[error("'{0}' is not a model name: letters, digits, '.', '_' and '-' only")]
    Name(String),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{origin}: {source}")]
    Load { origin: String, source: EngineError },
    #[error("{origin}: {source}")]
    Detector { origin: String, source: DetectError },
    #[error("{origin}: {source}")]
    Recognizer { origin: String, source: RecognizeError },
    #[error("{origin}: {source}")]
    Attribute { origin: String, source: AttributeError },
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

    /// Loads a detector for a canvas of (width, height) and up to `batch` images a pass.
    pub fn detector(&self, name: &str, canvas: (usize, usize), batch: usize) -> Result<Detector, ModelError> {
        let (network, origin) = self.network(name)?;
        Detector::new(network, canvas, batch).map_err(|source| ModelError::Detector { origin, source })
    }

    /// Loads a recogniser for up to `batch` faces a pass.
    pub fn recognizer(&self, name: &str, batch: usize) -> Result<Recognizer, ModelError> {
        let (network, origin) = self.network(name)?;
        let kind = match name {
            "adaface_ir101_webface12m" => Some(RecognizerKind::Adaface),
            _ => None,
        };
        Recognizer::new(network, kind, batch).map_err(|source| ModelError::Recognizer { origin, source })
    }

    /// Loads a gender and age network for up to `batch` faces a pass.
    pub fn gender_age(&self, name: &str, batch: usize) -> Result<GenderAge, ModelError> {
        let (network, origin) = self.network(name)?;
        GenderAge::new(network, batch).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads a mask detector for up to `batch` faces a pass.
    pub fn mask_detector(&self, name: &str, batch: usize) -> Result<MaskDetector, ModelError> {
        let (network, origin) = self.network(name)?;
        MaskDetector::new(network, batch).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Loads the networks of a liveness score, separated by commas, for up to `batch` faces a pass.
    pub fn liveness(&self, names: &str, batch: usize) -> Result<Liveness, ModelError> {
        let mut origins = vec![];
        let mut networks = vec![];
        for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let (network, origin) = self.network(name)?;
            origins.push(origin);
            networks.push((Liveness::scale_of(name), network));
        }
        let origin = origins.join(", ");
        Liveness::new(networks, batch).map_err(|source| ModelError::Attribute { origin, source })
    }

    /// Reads and decodes a model; also says where it came from.
    pub fn network(&self, name: &str) -> Result<(Network, String), ModelError> {
        let (bytes, origin) = self.bytes(name)?;
        let network =
            Network::from_onnx(&bytes, name).map_err(|source| ModelError::Load { origin: origin.clone(), source })?;
        Ok((network, origin))
    }

    fn bytes(&self, name: &str) -> Result<(Cow<'static, [u8]>, String), ModelError> {
        if !is_name(name) {
            return Err(ModelError::Name(name.into()));
        }
        if let Some(file) = self.file(name).filter(|f| f.is_file()) {
            let origin = file.display().to_string();
            return match std::fs::read(&file) {
                Ok(bytes) => Ok((bytes.into(), origin)),
                Err(source) => Err(ModelError::Read { path: file, source }),
            };
        }
        if let Some((_, bytes)) = PACK.iter().find(|(n, _)| *n == name) {
            return Ok((Cow::Borrowed(bytes), format!("embedded model {name}")));
        }
        let searched = match self.file(name) {
            Some(file) => format!("{} does not exist", file.display()),
            None => "no models directory is set (--models-dir or MODELS_DIR)".into(),
        };
        Err(ModelError::Unknown { name: name.into(), searched, available: self.names().join(", ") })
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        let file = |dir: &Path| dir.join("onnx").join(name).join(format!("{name}.onnx"));
        self.dir.as_deref().map(file)
    }
}

/// Names become part of a path, so nothing but plain characters may be in them.
fn is_name(name: &str) -> bool {
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
}
