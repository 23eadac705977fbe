//! The options that select networks, shared by the subcommands that analyze pictures.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::download_progress::DownloadProgress;
use crate::analyzer::FaceAnalyzer;
use crate::downloads::{self, FetchError, FetchOptions};
use crate::models::hash::{Hashes, sha256};
use crate::models::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, Location, ModelError, ModelStore, Selection, embedded};
use crate::parse::{self, is_unset};

/// The networks, their directory, and the size of the canvas of the detector.
#[derive(Args, Clone)]
pub(super) struct NetworkArgs {
    /// Face detector; `ifr models list` shows the names
    #[arg(long, env = "DET_NAME", default_value = DEFAULT_DETECTOR, value_name = "NAME")]
    pub det_name: String,

    /// Face recognizer; None for no embeddings
    #[arg(long, env = "REC_NAME", default_value = DEFAULT_RECOGNIZER, value_name = "NAME")]
    pub rec_name: String,

    /// Directory with models as onnx/NAME/NAME.onnx, to which missing models are downloaded; not needed for the
    /// built-in models
    #[arg(long, env = "MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,

    /// Width and height to which pictures are scaled before detection, rounded down to multiples of 32. A smaller size
    /// is faster, but small faces are missed
    #[arg(long, env = "MAX_SIZE", default_value = "640,640", value_name = "W,H", value_parser = parse::size)]
    pub max_size: (usize, usize),
}

impl NetworkArgs {
    /// Loads the detector, the recognizer if `embedding` is set and one is named, and the attribute networks of
    /// `attributes`. Fetches missing models and reports that on standard error.
    pub fn load_with(&self, embedding: bool, batch: usize, attributes: Selection) -> Result<FaceAnalyzer, FetchError> {
        let store = ModelStore::new(self.models_dir.clone());
        let selection = Selection {
            detector: self.det_name.clone(),
            recognizer: named(&self.rec_name).filter(|_| embedding).map(str::to_owned),
            canvas: self.max_size,
            face_batch: batch,
            ..attributes
        };
        let on_event = Arc::new(DownloadProgress::default().listener());
        let on_warning = Arc::new(|warning: &str| eprintln!("warning: {warning}"));
        let options = FetchOptions { on_event, on_warning, ..FetchOptions::from_environment() };
        downloads::ensure(&store, &selection.names(), &options)?;
        Ok(store.load(&selection)?)
    }

    /// Identifies a network by the SHA-256 of its file, and the function that the manifest declares. Networks with the
    /// same identity give the same results.
    pub fn identity(&self, name: &str) -> Result<String, ModelError> {
        let store = ModelStore::new(self.models_dir.clone());
        let hash = match (store.locate(name)?, embedded(name)) {
            (Location::Installed(path), _) => {
                let hashes = File::open(&path).and_then(Hashes::of);
                hashes.map_err(|source| ModelError::Read { path, source })?.sha256
            }
            (_, Some(bytes)) => sha256(bytes),
            _ => return Err(ModelError::Broken { name: name.into() }),
        };
        let function = store.entry(name)?.function.map_or_else(String::new, |function| format!(", {function}"));
        Ok(format!("SHA-256 {hash}{function}"))
    }
}

/// The name of a model; `None` for "None" and blank texts, as in the settings of the original.
pub(super) fn named(name: &str) -> Option<&str> {
    Some(name).filter(|name| !is_unset(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_a_network_is_its_hash_and_its_declared_function() {
        let dir = tempfile::tempdir().unwrap();
        let models_dir = Some(dir.path().to_owned());
        let args = NetworkArgs { det_name: "".into(), rec_name: "".into(), models_dir, max_size: (64, 64) };
        let built_in = args.identity("mobilefacenet").unwrap();
        assert!(built_in.starts_with("SHA-256 ") && built_in.len() >= 72, "{built_in}");
        let file = ModelStore::new(args.models_dir.clone()).file("mine").unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, embedded("mobilefacenet").unwrap()).unwrap();
        assert_eq!(args.identity("mine").unwrap()[..72], built_in[..72]);
        std::fs::write(dir.path().join("models.json"), r#"{"mine": {"function": "adaface"}}"#).unwrap();
        assert!(args.identity("mine").unwrap().ends_with(", adaface"));
        std::fs::write(&file, "another").unwrap();
        assert_ne!(args.identity("mine").unwrap()[..72], built_in[..72]);
        assert!(args.identity("nothing").is_err());
    }
}
