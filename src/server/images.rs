//! From what a request names to encoded pictures: URLs are fetched, paths read, data is there already.

use super::fetch::{FetchHeaders, Fetcher};
use super::limits::BodyShare;
use super::paths::{ImageRoot, shown};
use super::schema::request::{ImageData, Images};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// URLs and paths of one request that are read at once.
const AT_ONCE: usize = 32;
/// Files that are read at once, over all requests: a network drive that hangs holds no more threads than these.
const FILES_AT_ONCE: usize = 32;

/// Reads pictures from where clients say they are.
#[derive(Clone)]
pub struct ImageReader {
    fetcher: Fetcher,
    root: ImageRoot,
    files: Arc<Semaphore>,
    default_headers: FetchHeaders,
}

/// A picture, and the share of the memory that it takes.
type Read = Result<(Bytes, BodyShare), String>;

impl ImageReader {
    /// A reader that sends `default_headers` with URL requests that bring none of their own.
    pub fn new(fetcher: Fetcher, root: ImageRoot, default_headers: FetchHeaders) -> Self {
        ImageReader { fetcher, root, files: Arc::new(Semaphore::new(FILES_AT_ONCE)), default_headers }
    }

    /// All pictures of a request, in order; each that cannot be read is one sentence instead. What is read counts against the budget
    /// of `share` as it arrives, and is held by `share` at the end.
    pub async fn read(&self, images: Images, headers: Option<&FetchHeaders>, share: &mut BodyShare) -> Vec<ImageData> {
        let Some(urls) = images.urls else {
            return images.data.unwrap_or_default();
        };
        let headers = headers.filter(|headers| !headers.is_empty()).unwrap_or(&self.default_headers);
        let empty = share.sibling();
        let reads = urls.into_iter().map(|url| self.read_one(url, headers, empty.sibling()));
        let mut reads = stream::iter(reads).buffered(AT_ONCE);
        let mut pictures = Vec::new();
        while let Some(picture) = reads.next().await {
            pictures.push(picture.map(|(bytes, part)| {
                share.absorb(part);
                bytes
            }));
        }
        pictures
    }

    async fn read_one(&self, url: String, headers: &FetchHeaders, mut share: BodyShare) -> Read {
        match url.split_once("://").map(|(scheme, _)| scheme.trim().to_ascii_lowercase()) {
            Some(scheme) if scheme == "http" || scheme == "https" => {
                let fetched = self.fetcher.fetch(&url, headers, &mut share).await;
                let failed = |error| format!("'{}' cannot be fetched: {error}", shown(without_secrets(&url)));
                fetched.map(|bytes| (bytes, share)).map_err(failed)
            }
            Some(scheme) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                Err(format!("'{}' cannot be fetched: only http and https URLs are", shown(&url)))
            }
            _ => self.read_file(url, share).await,
        }
    }

    async fn read_file(&self, path: String, mut share: BodyShare) -> Read {
        let failed = || "the file could not be read".to_string();
        let turn = self.files.clone().acquire_owned().await.map_err(|_| failed())?;
        let root = self.root.clone();
        // Turn and share go along: a thread that hangs keeps them when the request is over.
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let bytes = root.read(&path, &mut |bytes| share.grow(bytes)).map_err(|error| error.to_string())?;
            Ok((Bytes::from(bytes), share))
        });
        read.await.unwrap_or_else(|_| Err(failed()))
    }
}

/// A URL without its query, which often holds a signature. Messages end up in logs of clients.
fn without_secrets(url: &str) -> &str {
    url.split_once('?').map_or(url, |(before, _)| before)
}
