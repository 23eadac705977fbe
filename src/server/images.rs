//! From what a request names to encoded pictures: URLs are fetched, paths read, data is there already.

use super::fetch::{FetchHeaders, Fetcher};
use super::limits::BodyShare;
use super::paths::{ImageRoot, shown};
use super::schema::request::{ImageData, Images};
use futures_util::{StreamExt, stream};

/// URLs and paths of one request that are read at once.
const AT_ONCE: usize = 32;

/// Reads pictures from where clients say they are.
#[derive(Clone)]
pub struct ImageReader {
    fetcher: Fetcher,
    root: ImageRoot,
    default_headers: FetchHeaders,
}

impl ImageReader {
    /// A reader that sends `default_headers` with URL requests that bring none of their own.
    pub fn new(fetcher: Fetcher, root: ImageRoot, default_headers: FetchHeaders) -> Self {
        ImageReader { fetcher, root, default_headers }
    }

    /// All pictures of a request, in order; each that cannot be read is one sentence instead. What is read counts
    /// against `share`.
    pub async fn read(&self, images: Images, headers: Option<&FetchHeaders>, share: &mut BodyShare) -> Vec<ImageData> {
        let Some(urls) = images.urls else {
            return images.data.unwrap_or_default();
        };
        let headers = headers.filter(|headers| !headers.is_empty()).unwrap_or(&self.default_headers);
        let reads = urls.into_iter().map(|url| self.read_one(url, headers));
        let mut reads = stream::iter(reads).buffered(AT_ONCE);
        let mut pictures = Vec::new();
        while let Some(picture) = reads.next().await {
            pictures.push(picture.and_then(|bytes| match share.grow(bytes.len() as u64) {
                true => Ok(bytes),
                false => Err("the service holds too many images at the moment; try again later".to_string()),
            }));
        }
        pictures
    }

    async fn read_one(&self, url: String, headers: &FetchHeaders) -> ImageData {
        match url.split_once("://").map(|(scheme, _)| scheme.trim().to_ascii_lowercase()) {
            Some(scheme) if scheme == "http" || scheme == "https" => {
                let fetched = self.fetcher.fetch(&url, headers).await;
                fetched.map_err(|error| format!("'{}' cannot be fetched: {error}", shown(without_secrets(&url))))
            }
            Some(scheme) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                Err(format!("'{}' cannot be fetched: only http and https URLs are", shown(&url)))
            }
            _ => {
                let root = self.root.clone();
                let read = tokio::task::spawn_blocking(move || root.read(&url)).await;
                match read {
                    Ok(read) => read.map(Into::into).map_err(|error| error.to_string()),
                    Err(_) => Err("the file could not be read".into()),
                }
            }
        }
    }
}

/// A URL without its query, which often holds a signature. Messages end up in logs of clients.
fn without_secrets(url: &str) -> &str {
    url.split_once('?').map_or(url, |(before, _)| before)
}
