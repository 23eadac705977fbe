//! Errors of downloads.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use zip::result::ZipError;

use super::google::{PageError, UrlError};
use crate::engine::EngineError;
use crate::error_chain::root_cause;
use crate::models::ModelError;
use crate::tls::TlsError;

/// A model cannot be fetched. An existing file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A name is invalid, or a model or a manifest cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model is missing, and downloads are forbidden.
    #[error("{name} is not installed, and IFR_OFFLINE forbids fetching it")]
    Offline {
        /// The model.
        name: String,
    },
    /// The license of the model has not been accepted.
    #[error(
        "{name} has a license that must be accepted first: {license}. \
         Run `ifr models pull --accept-license {name}`, or set IFR_ACCEPT_LICENSE=1"
    )]
    License {
        /// The model.
        name: String,
        /// The license, as the manifest describes it.
        license: String,
    },
    /// The transfer failed.
    #[error("{url}: {source}")]
    Http {
        /// The link.
        url: String,
        /// The problem.
        source: TransferError,
    },
    /// Google Drive answers with a page that does not lead to the file.
    #[error("{url}: Google Drive answered with a page instead of the file: {source}")]
    Google {
        /// The link.
        url: String,
        /// The problem.
        source: PageError,
    },
    /// The size or the hash of the file is wrong.
    #[error("{url}: the file has {what} {found}, but {expected} was expected")]
    Mismatch {
        /// The link.
        url: String,
        /// The property that differs: size, MD5 or SHA-256.
        what: &'static str,
        /// The value in the manifest.
        expected: String,
        /// The value of the file.
        found: String,
    },
    /// The file is not a network.
    #[error("{url}: the download is not a model: {source}")]
    NotAModel {
        /// The link.
        url: String,
        /// The problem.
        source: EngineError,
    },
    /// The member of an archive cannot be extracted.
    #[error("{url}: {source}")]
    Archive {
        /// The link to the archive.
        url: String,
        /// The problem.
        source: ArchiveError,
    },
    /// The file is too large.
    #[error("{url}: larger than {limit} bytes")]
    TooLarge {
        /// The link.
        url: String,
        /// Maximum number of bytes.
        limit: u64,
    },
    /// A local file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot fetch: {0}")]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be set up.
    #[error("cannot fetch: {}", reason(.0))]
    Client(#[source] reqwest::Error),
    /// The runtime of the HTTP client cannot be started.
    #[error("cannot fetch: {0}")]
    Runtime(#[source] io::Error),
    /// A defect of this program; standard error has the message of the panic.
    #[error("cannot fetch: an unexpected failure")]
    Defect,
    /// All links of a model failed.
    #[error("{name} cannot be fetched: {}", joined(.errors))]
    AllFailed {
        /// The model.
        name: String,
        /// One error per link.
        errors: Vec<FetchError>,
    },
}

impl FetchError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
        let path = path.to_owned();
        move |source| FetchError::File { path, source }
    }
}

/// The transfer of a file over HTTP failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The link is not a URL.
    #[error("{0}")]
    Url(#[source] UrlError),
    /// The scheme of the link is not supported.
    #[error("only http and https are supported")]
    Scheme,
    /// The status is not a success.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// The request failed.
    #[error("{}", reason(.0))]
    Request(#[from] reqwest::Error),
    /// The server has another version of the file than at the earlier attempt.
    #[error("the file has changed on the server; starting over")]
    Changed,
    /// The connection broke.
    #[error("broke off after {have} bytes: {}", reason(.source))]
    Broken {
        /// Number of bytes received so far.
        have: u64,
        /// The problem.
        source: reqwest::Error,
    },
    /// The answer ended early.
    #[error("broke off after {have} of {total} bytes")]
    Incomplete {
        /// Number of bytes received so far.
        have: u64,
        /// Number of bytes of the file.
        total: u64,
    },
    /// The limit on attempts with progress is reached.
    #[error("not complete after {0} attempts")]
    Attempts(u32),
}

/// The member of an archive cannot be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file is not a zip archive.
    #[error("not a zip archive: {0}")]
    NotAZip(#[source] ZipError),
    /// The archive has no such member.
    #[error("the archive has no member {member}; it has {}", .names.join(", "))]
    NoMember {
        /// The member that the link names.
        member: String,
        /// All members.
        names: Vec<String>,
    },
    /// The member cannot be read.
    #[error(transparent)]
    Member(#[from] ZipError),
    /// The data of the member is damaged, or the part file cannot be written.
    #[error("{name} cannot be unpacked: {source}")]
    Unpack {
        /// The member.
        name: String,
        /// The problem.
        source: io::Error,
    },
}

/// The cause of an error of the client, without the address, which the messages name.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no answer in time".into() } else { root_cause(error) }
}

fn joined(errors: &[FetchError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
