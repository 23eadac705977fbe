//! Downloads a file over HTTP to a part file: resumed after interruptions, retried after transient failures.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, COOKIE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::error::{FetchError, TransferError};
use super::google::{self, PageError};
use super::{Event, FetchOptions, MAX_MODEL_BYTES};
use crate::models::GOOGLE;

/// Maximum number of attempts, even if each makes progress.
const MAX_ATTEMPTS: u32 = 200;
/// Number of bytes between two progress events.
const PROGRESS_STEP: u64 = 256 << 10;
/// Maximum bytes of a page that are read.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// A file to download.
pub(super) struct Download<'a> {
    pub name: &'a str,
    /// An address, or `google:NUMBER`.
    pub url: &'a str,
    pub part: &'a Path,
    /// Number of bytes of the file, if known.
    pub size: Option<u64>,
    /// The hash of the file is known, so that parts may be joined although the server gives no ETag or date.
    pub hash_is_known: bool,
    pub options: &'a FetchOptions,
}

/// The source of a part file, stored next to it.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct PartSource {
    url: String,
    /// ETag or date: the server resumes only if its file has not changed.
    version: Option<String>,
}

/// The failure of an attempt.
enum AttemptError {
    /// The next attempt may succeed.
    Transient(TransferError),
    /// Further attempts would fail, too.
    Final(Box<FetchError>),
}

impl From<FetchError> for AttemptError {
    fn from(error: FetchError) -> Self {
        AttemptError::Final(Box::new(error))
    }
}

impl Download<'_> {
    /// Fills the part file; true if bytes of an earlier attempt are in it.
    pub async fn run(&self, http: &reqwest::Client) -> Result<bool, FetchError> {
        let (mut failures, mut resumed) = (0, false);
        let origin = self.part.with_extension("origin");
        for _ in 0..MAX_ATTEMPTS {
            let before = length(self.part);
            let error = match self.attempt(http, &origin, &mut resumed).await {
                Ok(()) => {
                    drop(fs::remove_file(&origin));
                    return Ok(resumed);
                }
                Err(AttemptError::Final(error)) => return Err(*error),
                Err(AttemptError::Transient(error)) => error,
            };
            // An attempt with progress does not count.
            failures = if length(self.part) > before { 1 } else { failures + 1 };
            if failures >= self.options.attempts {
                return Err(self.http_error(error));
            }
            self.options.tell(Event::Retry { name: self.name.into(), reason: error.to_string() });
            tokio::time::sleep(self.options.pause * 2u32.pow((failures - 1).min(6))).await;
        }
        Err(self.http_error(TransferError::Attempts(MAX_ATTEMPTS)))
    }

    async fn attempt(&self, http: &reqwest::Client, origin: &PathBuf, resumed: &mut bool) -> Result<(), AttemptError> {
        let remembered: PartSource =
            fs::read(origin).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let may_resume = remembered.url == self.url && (remembered.version.is_some() || self.hash_is_known);
        let mut have = if may_resume { length(self.part) } else { 0 };
        let mut headers = HeaderMap::new();
        // The bytes of a compressed answer could not be counted.
        headers.insert(ACCEPT_ENCODING, reqwest::header::HeaderValue::from_static("identity"));
        if have > 0 {
            if let Ok(range) = format!("bytes={have}-").parse() {
                headers.insert(RANGE, range);
            }
            if let Some(version) = remembered.version.as_ref().and_then(|v| v.parse().ok()) {
                headers.insert(IF_RANGE, version);
            }
        }
        let mut response = self.open(http, headers).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if have > 0 && range_start(&response) == Some(have) => *resumed = true,
            StatusCode::OK => {
                have = 0;
                *resumed = false;
            }
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                drop(fs::remove_file(self.part));
                return Err(AttemptError::Transient(TransferError::Changed));
            }
            status if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) => {
                return Err(AttemptError::Transient(TransferError::Status(status)));
            }
            status => return Err(self.http_error(TransferError::Status(status)).into()),
        }
        let total = response.content_length().map(|rest| have + rest);
        if let (Some(total), Some(size)) = (total, self.size)
            && total != size
        {
            let (expected, found) = (size.to_string(), total.to_string());
            return Err(FetchError::Mismatch { url: self.url.into(), what: "size", expected, found }.into());
        }
        self.remember(origin, &response);
        let mut file = self.open_part(have)?;
        let (name, url) = (self.name.to_owned(), self.url.to_owned());
        self.options.tell(Event::Started { name: name.clone(), url, have, total });
        let limit = self.size.unwrap_or(MAX_MODEL_BYTES);
        let mut told = have;
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(source) => return Err(AttemptError::Transient(TransferError::Broken { have, source })),
            };
            have += chunk.len() as u64;
            if have > limit {
                return Err(FetchError::TooLarge { url: self.url.into(), limit }.into());
            }
            file.write_all(&chunk).map_err(FetchError::file(self.part))?;
            if have - told >= PROGRESS_STEP {
                told = have;
                self.options.tell(Event::Progress { name: name.clone(), have });
            }
        }
        file.sync_all().map_err(FetchError::file(self.part))?;
        match total {
            Some(total) if total != have => Err(AttemptError::Transient(TransferError::Incomplete { have, total })),
            _ => Ok(()),
        }
    }

    /// Sends the request, and a second one if Google Drive answers with a page.
    async fn open(&self, http: &reqwest::Client, headers: HeaderMap) -> Result<Response, AttemptError> {
        let Some(id) = self.url.strip_prefix(GOOGLE) else {
            let url = Url::parse(self.url).map_err(|error| self.http_error(TransferError::Url(error)))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(self.http_error(TransferError::Scheme).into());
            }
            return self.send(http, url, headers).await;
        };
        let asked = Url::parse(&self.options.google);
        let mut asked = asked.map_err(|error| self.http_error(TransferError::Url(error)))?;
        asked.query_pairs_mut().extend_pairs([("export", "download"), ("id", id)]);
        let response = self.send(http, asked.clone(), headers.clone()).await?;
        if !is_page(&response) {
            return Ok(response);
        }
        let cookies: Vec<String> = response
            .headers()
            .get_all(reqwest::header::SET_COOKIE)
            .iter()
            .filter_map(|v| Some(v.to_str().ok()?.split(';').next()?.to_owned()))
            .collect();
        let warning = cookies.iter().find(|c| c.starts_with("download_warning"));
        let token = warning.and_then(|c| c.split_once('=')).map(|(_, value)| value);
        let page = self.page(response).await?;
        let google_error = |source| FetchError::Google { url: self.url.into(), source };
        let next = google::next_address(&page, &asked, id, token).map_err(google_error)?;
        let mut headers = headers;
        if let Ok(cookie) = cookies.join("; ").parse() {
            headers.insert(COOKIE, cookie);
        }
        let response = self.send(http, next, headers).await?;
        if is_page(&response) {
            let page = self.page(response).await?;
            let problem = google::next_address(&page, &asked, id, None).err();
            return Err(google_error(problem.unwrap_or(PageError::SecondPage)).into());
        }
        Ok(response)
    }

    async fn send(&self, http: &reqwest::Client, url: Url, headers: HeaderMap) -> Result<Response, AttemptError> {
        http.get(url).headers(headers).send().await.map_err(|error| match error.is_builder() || error.is_redirect() {
            true => self.http_error(error.into()).into(),
            false => AttemptError::Transient(error.into()),
        })
    }

    async fn page(&self, mut response: Response) -> Result<String, AttemptError> {
        let mut page = vec![];
        while let Some(chunk) = response.chunk().await.map_err(|error| AttemptError::Transient(error.into()))? {
            page.extend_from_slice(&chunk);
            if page.len() > MAX_PAGE_BYTES {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&page).into_owned())
    }

    /// Stores the source of the part file before its first byte.
    fn remember(&self, origin: &Path, response: &Response) {
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        // A weak tag does not guarantee the same bytes.
        let version =
            header(ETAG).filter(|t| !t.starts_with("W/")).or_else(|| header(LAST_MODIFIED)).map(str::to_owned);
        let note = PartSource { url: self.url.into(), version };
        // Without it the next attempt starts over.
        let written = serde_json::to_vec(&note).map_err(std::io::Error::other).and_then(|n| fs::write(origin, n));
        if let Err(e) = written {
            tracing::debug!("{}: {e}", origin.display());
        }
    }

    fn open_part(&self, have: u64) -> Result<File, FetchError> {
        let open = || -> std::io::Result<File> {
            let mut file = File::options().create(true).write(true).truncate(false).open(self.part)?;
            file.set_len(have)?;
            file.seek(SeekFrom::Start(have))?;
            Ok(file)
        };
        open().map_err(FetchError::file(self.part))
    }

    fn http_error(&self, source: TransferError) -> FetchError {
        FetchError::Http { url: self.url.into(), source }
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    kind.is_some_and(|k| k.starts_with("text/html"))
}

/// The position of the first byte of a partial answer.
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
