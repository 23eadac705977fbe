//! Fetches images from URLs of clients. Clients cannot reach hosts through this service that are not public.
//!
//! Every address is checked before the connection. This module resolves the names itself, so that the checked address
//! is the used one, on the first request and on every redirect.

use crate::config::SourceSettings;
use crate::error_chain::{chain, root_cause};
use crate::server::http::body_budget::BodyShare;
use crate::server::sources::address_policy::AddressPolicy;
use crate::text::for_message;
use crate::tls::{CaFile, TlsError, client_config};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use reqwest::{Client, Response, Url};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Maximum number of headers for image requests. Each URL of a request has a copy of them.
const MAX_HEADERS: usize = 64;
/// Maximum bytes of the names and values of all headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Maximum number of redirects for one image.
const MAX_REDIRECTS: usize = 3;
/// Wait before the second attempt; doubled for each further one, up to [`MAX_RETRY_WAIT`].
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(250);
/// Maximum wait between two attempts.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(2);

/// The reason why an image was not fetched.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImageFetchError {
    /// The text is not a URL.
    #[error("not a valid URL: {0}")]
    Url(String),
    /// The scheme is neither http nor https.
    #[error("the URL scheme '{0}' is not allowed: only http and https are")]
    Scheme(String),
    /// The policy refuses the address of the host.
    #[error("'{host}' is not allowed: it has a {class} address (ALLOW_NETS can allow it)")]
    Address {
        /// The host in the URL.
        host: String,
        /// Class of the address, such as loopback or private.
        class: &'static str,
    },
    /// The name of the host cannot be resolved.
    #[error("the host name '{0}' cannot be resolved")]
    Dns(String),
    /// The status is neither success nor a redirect.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// There are more than [`MAX_REDIRECTS`] redirects.
    #[error("more than {MAX_REDIRECTS} redirects")]
    Redirects,
    /// A redirect has no usable target.
    #[error("a redirect without a valid location")]
    Location,
    /// The body is longer than the limit, in bytes.
    #[error("the image has more than {0} bytes")]
    TooLarge(u64),
    /// The memory for the bodies and images of all requests is used up.
    #[error("the service holds too many images at the moment; try again later")]
    NoRoom,
    /// The time limit has passed.
    #[error("not fetched in time")]
    Timeout,
    /// TLS failed, for example because the certificate is not trusted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The connection failed or broke.
    #[error("the connection failed: {0}")]
    Connection(String),
}

impl ImageFetchError {
    /// True if another attempt may succeed.
    fn is_transient(&self) -> bool {
        match self {
            ImageFetchError::Status(status) => *status >= 500,
            ImageFetchError::Timeout | ImageFetchError::Connection(_) => true,
            _ => false,
        }
    }
}

/// Headers to send with image requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchHeaders(HeaderMap);

/// Headers that cannot be sent.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RefusedHeaders {
    /// A header is not allowed.
    #[error("the header '{name}' {reason}")]
    Header {
        /// The name as given.
        name: String,
        /// The reason, as the end of a sentence.
        reason: &'static str,
    },
    /// There are more than [`MAX_HEADERS`] headers.
    #[error("there should be at most {MAX_HEADERS} headers, not {0}")]
    Many(usize),
    /// The headers have more than [`MAX_HEADER_BYTES`] bytes in total.
    #[error("the headers should have at most {MAX_HEADER_BYTES} bytes together, not {0}")]
    Long(usize),
}

/// Headers that frame the message or select the host: the HTTP client sets them.
const FRAMING: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

impl FetchHeaders {
    /// Headers from names and values. Errs with the first header that is not allowed, or if there are too many.
    pub fn new(entries: &[(String, String)]) -> Result<Self, RefusedHeaders> {
        if entries.len() > MAX_HEADERS {
            return Err(RefusedHeaders::Many(entries.len()));
        }
        let bytes = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MAX_HEADER_BYTES {
            return Err(RefusedHeaders::Long(bytes));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in entries {
            let refused = |reason| RefusedHeaders::Header { name: for_message(name), reason };
            let parsed: HeaderName = name.parse().map_err(|_| refused("is not a valid header name"))?;
            if FRAMING.contains(&parsed.as_str()) || parsed.as_str().starts_with("proxy-") {
                return Err(refused("cannot be set for image requests"));
            }
            let value: HeaderValue = value.parse().map_err(|_| refused("has an invalid value"))?;
            headers.insert(parsed, value);
        }
        Ok(FetchHeaders(headers))
    }

    /// True if there are no headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers for another origin than the one in the URL of the client, without possible credentials.
    fn for_other_origins(&self) -> HeaderMap {
        self.0.get(USER_AGENT).map(|agent| (USER_AGENT, agent.clone())).into_iter().collect()
    }
}

/// Resolves host names. The service asks the name servers of the system; tests use fixed answers.
pub trait Lookup: Send + Sync {
    /// All addresses of `host`. Errs if it cannot be resolved.
    fn lookup(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>>>;
}

/// The name servers and the hosts file of the system, used without the C library: its resolver does not work in a
/// static program.
pub struct SystemLookup {
    resolver: Arc<tokio::sync::OnceCell<hickory_resolver::TokioResolver>>,
}

impl SystemLookup {
    /// A resolver that reads the configuration of the system at the first lookup.
    pub fn new() -> Self {
        SystemLookup { resolver: Arc::new(tokio::sync::OnceCell::new()) }
    }
}

impl Default for SystemLookup {
    fn default() -> Self {
        Self::new()
    }
}

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>>> {
        let cell = self.resolver.clone();
        Box::pin(async move {
            // It reads files, which must not block a runtime thread.
            let read = || async {
                let build = || hickory_resolver::TokioResolver::builder_tokio()?.build();
                Ok::<_, Box<dyn Error + Send + Sync>>(tokio::task::spawn_blocking(build).await??)
            };
            let resolver = cell.get_or_try_init(read).await?;
            Ok(resolver.lookup_ip(host).await?.iter().collect())
        })
    }
}

/// Gives reqwest only addresses that the policy allows.
struct CheckedLookup {
    lookup: Arc<dyn Lookup>,
    policy: Arc<AddressPolicy>,
}

impl reqwest::dns::Resolve for CheckedLookup {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = name.as_str().to_string();
        let policy = self.policy.clone();
        let looked_up = self.lookup.lookup(host.clone());
        Box::pin(async move {
            let addresses = looked_up.await.map_err(|error| {
                tracing::debug!(host, %error, "name lookup failed");
                ImageFetchError::Dns(host.clone())
            })?;
            let mut allowed = Vec::with_capacity(addresses.len());
            let mut refused = None;
            for address in addresses {
                match policy.check(address) {
                    Ok(()) => allowed.push(SocketAddr::new(address, 0)),
                    Err(class) => refused = Some(class),
                }
            }
            match (allowed.is_empty(), refused) {
                (true, Some(class)) => Err(ImageFetchError::Address { host, class }.into()),
                (true, None) => Err(ImageFetchError::Dns(host).into()),
                _ => Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

/// The reason why the fetcher cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS cannot be set up, for example because IMAGE_CA_FILE cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client refuses its configuration.
    #[error("image fetching cannot be set up: {0}")]
    Client(#[source] reqwest::Error),
}

/// Fetches images, up to a maximum number at once.
#[derive(Clone)]
pub struct Fetcher {
    client: Client,
    policy: Arc<AddressPolicy>,
    slots: Arc<Semaphore>,
    attempts: usize,
    total: Duration,
    max_bytes: u64,
}

impl Fetcher {
    /// A fetcher with the limits of `sources` that resolves names through `lookup`.
    pub fn new(sources: &SourceSettings, lookup: Arc<dyn Lookup>) -> Result<Self, SetupError> {
        let policy = Arc::new(AddressPolicy::new(sources.allow_nets.0.clone()));
        let ca_file = sources.image_ca_file.as_deref().map(|path| CaFile::new("IMAGE_CA_FILE", path));
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(ca_file.as_ref())?)
            .dns_resolver(CheckedLookup { lookup, policy: policy.clone() })
            // A proxy would connect to addresses that this service has not checked.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(sources.fetch_connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .build()
            .map_err(SetupError::Client)?;
        Ok(Fetcher {
            client,
            policy,
            slots: Arc::new(Semaphore::new(sources.fetch_concurrency)),
            attempts: sources.fetch_attempts,
            total: sources.fetch_timeout,
            max_bytes: sources.max_image_size,
        })
    }

    /// Fetches the body of `url`. Waits for its turn, then takes at most the configured time in total. `share` counts
    /// the bytes when they arrive.
    pub async fn fetch(
        &self,
        url: &str,
        headers: &FetchHeaders,
        share: &mut BodyShare,
    ) -> Result<Bytes, ImageFetchError> {
        let url = Url::parse(url.trim()).map_err(|error| ImageFetchError::Url(error.to_string()))?;
        let _slot = self.slots.acquire().await.map_err(|_| ImageFetchError::Timeout)?;
        timeout(self.total, self.with_retries(url, headers, share)).await.unwrap_or(Err(ImageFetchError::Timeout))
    }

    async fn with_retries(
        &self,
        url: Url,
        headers: &FetchHeaders,
        share: &mut BodyShare,
    ) -> Result<Bytes, ImageFetchError> {
        let mut wait = FIRST_RETRY_WAIT;
        let mut attempt = 1;
        loop {
            match self.follow(url.clone(), headers, share).await {
                Err(error) if error.is_transient() && attempt < self.attempts => {
                    tracing::debug!(%error, attempt, "image request failed; retrying");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_RETRY_WAIT);
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn follow(
        &self,
        start: Url,
        headers: &FetchHeaders,
        share: &mut BodyShare,
    ) -> Result<Bytes, ImageFetchError> {
        let origin = start.origin();
        let mut url = start;
        for _ in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            let headers = if url.origin() == origin { headers.0.clone() } else { headers.for_other_origins() };
            let request = self.client.get(url.clone()).headers(headers).send();
            // Half of the time for the start of an answer, so that there is a second attempt after a server that hangs.
            let response =
                timeout(self.total / 2, request).await.map_err(|_| ImageFetchError::Timeout)?.map_err(cause)?;
            self.check_peer(&url, &response)?;
            if !response.status().is_redirection() {
                return self.body(response, share).await;
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            url = location.and_then(|location| url.join(location).ok()).ok_or(ImageFetchError::Location)?;
        }
        Err(ImageFetchError::Redirects)
    }

    /// Checks the scheme, and the address of a host that is an IP address: the resolver does not see those.
    fn check(&self, url: &Url) -> Result<(), ImageFetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ImageFetchError::Scheme(for_message(url.scheme())));
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal.map(|address| self.policy.check(address)) {
            Ok(Err(class)) => Err(ImageFetchError::Address { host: for_message(host), class }),
            _ => Ok(()),
        }
    }

    /// Checks the address of the connection, in case that the earlier checks were bypassed.
    fn check_peer(&self, url: &Url, response: &Response) -> Result<(), ImageFetchError> {
        match response.remote_addr().map(|peer| self.policy.check(peer.ip())) {
            Some(Err(class)) => {
                Err(ImageFetchError::Address { host: for_message(url.host_str().unwrap_or_default()), class })
            }
            _ => Ok(()),
        }
    }

    async fn body(&self, mut response: Response, share: &mut BodyShare) -> Result<Bytes, ImageFetchError> {
        // The bytes of an earlier attempt have been dropped.
        share.release();
        if !response.status().is_success() {
            return Err(ImageFetchError::Status(response.status().as_u16()));
        }
        // A correct length saves the read; a wrong one does no harm, because arriving bytes are counted.
        if response.content_length().is_some_and(|length| length > self.max_bytes) {
            return Err(ImageFetchError::TooLarge(self.max_bytes));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(cause)? {
            if (body.len() + chunk.len()) as u64 > self.max_bytes {
                return Err(ImageFetchError::TooLarge(self.max_bytes));
            }
            if !share.grow(chunk.len() as u64) {
                return Err(ImageFetchError::NoRoom);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// The cause of an error of the HTTP client: an error of the resolver in this module, of TLS, or of the connection.
fn cause(error: reqwest::Error) -> ImageFetchError {
    if error.is_timeout() {
        return ImageFetchError::Timeout;
    }
    for inner in chain(&error) {
        if let Some(own) = inner.downcast_ref::<ImageFetchError>() {
            return own.clone();
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return ImageFetchError::Tls(tls.to_string());
        }
    }
    ImageFetchError::Connection(for_message(&root_cause(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str, value: &str) -> Result<FetchHeaders, RefusedHeaders> {
        FetchHeaders::new(&[(name.to_string(), value.to_string())])
    }

    #[test]
    fn headers_that_frame_the_message_are_refused() {
        assert!(headers("User-Agent", "x").is_ok());
        assert!(headers("Authorization", "Bearer x").is_ok());
        for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "Proxy-Authorization", "bad name", ""]
        {
            assert!(headers(name, "x").is_err(), "{name}");
        }
        assert!(headers("X-Split", "a\r\nHost: b").is_err());
    }

    #[test]
    fn headers_are_limited_in_number_and_length() {
        let many = |count: usize| {
            FetchHeaders::new(&(0..count).map(|n| (format!("x-{n}"), "y".to_string())).collect::<Vec<_>>())
        };
        assert!(many(MAX_HEADERS).is_ok());
        // The second number is more than a header map can hold.
        for count in [MAX_HEADERS + 1, 40_000] {
            assert_eq!(many(count), Err(RefusedHeaders::Many(count)));
        }
        assert!(headers("x", &"a".repeat(MAX_HEADER_BYTES - 1)).is_ok());
        assert_eq!(headers("x", &"a".repeat(MAX_HEADER_BYTES)), Err(RefusedHeaders::Long(MAX_HEADER_BYTES + 1)));
    }

    #[test]
    fn other_origins_get_no_credentials() {
        let own = FetchHeaders::new(&[
            ("User-Agent".into(), "x".into()),
            ("Authorization".into(), "secret".into()),
            ("X-Key".into(), "secret".into()),
        ]);
        let sent = own.unwrap().for_other_origins();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent["user-agent"], "x");
    }

    #[test]
    fn only_transient_errors_are_retried() {
        assert!(ImageFetchError::Status(500).is_transient() && ImageFetchError::Timeout.is_transient());
        for error in [
            ImageFetchError::Status(404),
            ImageFetchError::Status(429),
            ImageFetchError::Redirects,
            ImageFetchError::TooLarge(1),
        ] {
            assert!(!error.is_transient(), "{error}");
        }
    }
}
