//! Errors of downloads.

use std::io;
use std::path::PathBuf;

use crate::error_chain::root_cause;
use crate::tls::TlsError;

/// A model cannot be fetched. An existing file is untouched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Model(#[from] crate::models::ModelError),
    #[error("{name} is not installed, and IFR_OFFLINE forbids fetching it")]
    Offline { name: String },
    #[error(
        "{name} has a licence that must be accepted first: {license}. \
         Run `ifr models pull --accept-license {name}`, or set IFR_ACCEPT_LICENSE=1"
    )]
    License { name: String, license: String },
    #[error("{url}: {reason}")]
    Http { url: String, reason: String },
    #[error("{url}: Google Drive answered with a page instead of the file: {reason}")]
    Google { url: String, reason: String },
    #[error("{url}: the file has {what} {found}, but {expected} was expected")]
    Mismatch { url: String, what: &'static str, expected: String, found: String },
    #[error("{url}: the download is not a model: {reason}")]
    NotAModel { url: String, reason: String },
    #[error("{url}: {reason}")]
    Archive { url: String, reason: String },
    #[error("{url}: larger than {limit} bytes")]
    TooLarge { url: String, limit: u64 },
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot fetch: {0}")]
    Tls(#[from] TlsError),
    #[error("cannot fetch: {0}")]
    Setup(String),
    #[error("{name} cannot be fetched: {reasons}")]
    AllFailed { name: String, reasons: String },
}

impl FetchError {
    pub(super) fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> FetchError {
        let path = path.to_owned();
        move |source| FetchError::File { path, source }
    }
}

/// The cause of an error of the client, without the address, which the messages name.
pub(super) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no answer in time".into() } else { root_cause(error) }
}
