//! Reads the encoded pictures of a request: fetches URLs, reads paths, and takes the data of the body.

use crate::server::api::schema::request::Images;
use crate::server::http::body_budget::{BodyBudget, BodyShare, counted};
use crate::server::sources::error::{ImageData, ImageReadError};
use crate::server::sources::file_root::ImageRoot;
use crate::server::sources::http::{FetchHeaders, Fetcher};
use crate::text::for_message;
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Maximum number of URLs and paths of one request that are read at once.
const MAX_READS: usize = 32;
/// Maximum number of files that are read at once over all requests: a network drive that hangs blocks at most this
/// number of threads.
const MAX_FILE_READS: usize = 32;

/// Reads pictures from the sources that requests name.
#[derive(Clone)]
pub struct ImageReader {
    fetcher: Fetcher,
    root: ImageRoot,
    files: Arc<Semaphore>,
    default_headers: FetchHeaders,
}

impl ImageReader {
    /// A reader that sends `default_headers` to image hosts for requests without their own headers.
    pub fn new(fetcher: Fetcher, root: ImageRoot, default_headers: FetchHeaders) -> Self {
        ImageReader { fetcher, root, files: Arc::new(Semaphore::new(MAX_FILE_READS)), default_headers }
    }

    /// All pictures of a request, in order; a picture that cannot be read is an error in its place. Fetched bytes count
    /// against `budget` from their arrival until they are dropped.
    pub async fn read(&self, images: Images, headers: Option<&FetchHeaders>, budget: &BodyBudget) -> Vec<ImageData> {
        let Some(urls) = images.urls else {
            return images.data.unwrap_or_default();
        };
        let headers = headers.filter(|headers| !headers.is_empty()).unwrap_or(&self.default_headers);
        let reads = urls.into_iter().map(|url| self.read_one(url, headers, budget));
        stream::iter(reads).buffered(MAX_READS).collect().await
    }

    async fn read_one(&self, url: String, headers: &FetchHeaders, budget: &BodyBudget) -> ImageData {
        let mut share = budget.share();
        match url.split_once("://").map(|(scheme, _)| scheme.trim().to_ascii_lowercase()) {
            Some(scheme) if scheme == "http" || scheme == "https" => {
                let fetched = self.fetcher.fetch(&url, headers, &mut share).await;
                let failed = |source| ImageReadError::Fetch { url: for_message(without_query(&url)), source };
                fetched.map(|bytes| counted(bytes, share)).map_err(failed)
            }
            Some(scheme) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                Err(ImageReadError::Scheme(for_message(&url)))
            }
            _ => self.read_file(url, share).await,
        }
    }

    async fn read_file(&self, path: String, mut share: BodyShare) -> ImageData {
        let turn = self.files.clone().acquire_owned().await.map_err(|_| ImageReadError::Interrupted)?;
        let root = self.root.clone();
        // Turn and share move along: a thread that hangs keeps them after the end of the request.
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let bytes = root.read(&path, &mut |bytes| share.grow(bytes))?;
            Ok(counted(bytes.into(), share))
        });
        read.await.unwrap_or(Err(ImageReadError::Interrupted))
    }
}

/// A URL without its query, which often contains a signature: clients write messages to their logs.
fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Setting, Settings};
    use crate::server::sources::http::SystemLookup;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    const MIB: usize = 1 << 20;

    /// A host that sends `bytes` of a longer picture and then hangs.
    fn hanging_host(bytes: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/face.jpg", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut open = vec![];
            for mut stream in listener.incoming().flatten() {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes + 1);
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![0; bytes]));
                open.push(stream);
            }
        });
        url
    }

    /// Waits until `left` bytes of the budget are left.
    async fn wait_for_budget(budget: &BodyBudget, left: usize) {
        for _ in 0..4000 {
            if budget.left() == left as u64 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} bytes are left, not {left}", budget.left());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn fetched_and_read_bytes_count_when_they_arrive() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("large.jpg"), vec![0; 3 * MIB]).unwrap();
        let mut sources = Settings::defaults().sources;
        sources.allow_nets = "127.0.0.1".parse().unwrap();
        sources.root_images_dir = Setting(Some(directory.path().into()));
        let root = ImageRoot::new(sources.root_images_dir.as_deref(), sources.max_image_size).unwrap();
        let fetcher = Fetcher::new(&sources, Arc::new(SystemLookup::new())).unwrap();
        let reader = ImageReader::new(fetcher, root, FetchHeaders::default());
        let silent = hanging_host(0);
        for (urls, held) in [
            // Files that wait for a URL that hangs; the second one does not fit and takes nothing.
            (vec![silent, "large.jpg".into(), "large.jpg".into()], 3 * MIB),
            // The received part of a picture whose host hangs.
            (vec![hanging_host(2 * MIB)], 2 * MIB),
        ] {
            let budget = BodyBudget::new(5 * MIB as u64);
            let (reader, task_budget) = (reader.clone(), budget.clone());
            let task = tokio::spawn(async move {
                let images = Images { urls: Some(urls), ..Images::default() };
                reader.read(images, None, &task_budget).await
            });
            wait_for_budget(&budget, 5 * MIB - held).await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            // A thread may still read the file.
            wait_for_budget(&budget, 5 * MIB).await;
        }
    }
}
