//! Encoded pictures of a request, and the reasons why one could not be read.

use crate::server::sources::file_root::PathError;
use crate::server::sources::http::ImageFetchError;
use bytes::Bytes;

/// The encoded bytes of a picture, or the reason why they could not be read.
pub type ImageData = Result<Bytes, ImageReadError>;

/// The reason why a picture of a request could not be read. The messages are for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageReadError {
    /// The body has an empty string in the place of a picture.
    #[error("empty image data")]
    Empty,
    /// The body has a string that is not base64.
    #[error("image data is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The URL has another scheme than http and https.
    #[error("'{0}' cannot be fetched: only http and https URLs are allowed")]
    Scheme(String),
    /// The URL cannot be fetched.
    #[error("'{url}' cannot be fetched: {source}")]
    Fetch {
        /// The URL without its query.
        url: String,
        /// The problem.
        source: ImageFetchError,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] PathError),
    /// Reading the file failed because of a defect of this program or because the service is stopping.
    #[error("the file could not be read")]
    Interrupted,
}
