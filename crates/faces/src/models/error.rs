//! Errors of the model store.

use std::io;
use std::path::PathBuf;

use super::classify::ClassifyError;
use super::name::NAME_RULE;
use crate::analyzer::AnalyzeError;
use crate::attributes::AttributeError;
use crate::detect::DetectError;
use crate::recognize::RecognizeError;
use ifr_engine::EngineError;

/// Maximum size of a model file in bytes. Published models are far smaller.
pub const MAX_MODEL_BYTES: u64 = 4 << 30;

/// Failure to find, load, add or remove a model. Every message names the model and the file, if there is one.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages document the fields")]
pub enum ModelError {
    /// No installed or embedded model has the name.
    #[error("no model named '{name}': {searched}; available: {available}")]
    Unknown { name: String, searched: String, available: String },
    /// The string is not a valid model name.
    #[error("'{0}' is not a model name: {NAME_RULE}")]
    Name(String),
    /// The manifest assigns the model to another stage of the pipeline.
    #[error("'{name}' is a {is} (function '{function}'), not a {wanted}; there are: {fitting}")]
    Role { name: String, function: String, is: &'static str, wanted: &'static str, fitting: String },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The path is no regular file, or the file is larger than [`MAX_MODEL_BYTES`].
    #[error("{path}: not a file of at most {} GB", MAX_MODEL_BYTES >> 30, path = .path.display())]
    NoModelFile { path: PathBuf },
    /// A file cannot be written or removed.
    #[error("cannot write {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A manifest file is not valid JSON of the expected form.
    #[error("{path}: not a model manifest: {source}", path = .path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },
    /// The loaded networks failed in a trial run.
    #[error("the models are loaded, but a trial run failed: {0}")]
    Trial(#[source] Box<AnalyzeError>),
    /// Loading panicked.
    #[error("loading '{name}' failed in an unexpected way")]
    Broken { name: String },
    /// The operation needs a models directory.
    #[error("no models directory is set (--models-dir or MODELS_DIR)")]
    NoDirectory,
    /// The engine cannot load the network.
    #[error("{origin}: {source}")]
    Load { origin: String, source: EngineError },
    /// The network is of no known kind.
    #[error("{origin}: {source}")]
    Unclassified { origin: String, source: ClassifyError },
    /// The network does not work as a detector.
    #[error("{origin}: {source}")]
    Detector { origin: String, source: DetectError },
    /// The network does not work as a recognizer.
    #[error("{origin}: {source}")]
    Recognizer { origin: String, source: RecognizeError },
    /// The network does not work as an attribute network.
    #[error("{origin}: {source}")]
    Attribute { origin: String, source: AttributeError },
}
