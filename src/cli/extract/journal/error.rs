//! Errors of the journal.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// A run cannot start, resume or continue.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{0} exists already: delete it, or choose another name")]
    OutputExists(PathBuf),
    #[error("{0} holds an unfinished run: continue it with --resume, or delete that directory to start again")]
    Unfinished(PathBuf),
    #[error("another process works in {0}")]
    Locked(PathBuf),
    #[error(
        "the run in {partial} was started with other settings ({differences}): use those, or delete it to start again"
    )]
    OtherSettings { partial: PathBuf, differences: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path}: {source}")]
    Parquet { path: PathBuf, source: ParquetError },
}

impl JournalError {
    /// For `map_err`: an I/O error of the file `path`.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
        move |source| JournalError::Io { path: path.into(), source }
    }
}
