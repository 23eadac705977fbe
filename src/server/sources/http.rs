//! Fetches images from URLs that clients name, without letting them reach what only this host can reach.
//!
//! Every address is checked when it is connected to: names are resolved by this module, so that the address checked is
//! the address used, on the first request and on every redirect.

use crate::config::Sources;
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

/// Headers that may be sent with image requests, and bytes of their names and values together. Each URL of a request has a copy.
const MOST_HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;
/// Redirects followed for one image.
const MOST_REDIRECTS: usize = 3;
/// Wait before the second attempt; doubled for each further one, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Why an image was not fetched.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FetchError {
    /// Not a URL at all.
    #[error("not a valid URL: {0}")]
    Url(String),
    /// Anything but http and https.
    #[error("the URL scheme '{0}' is not allowed: only http and https are")]
    Scheme(String),
    /// The host is, or resolves to, an address that the policy refuses.
    #[error("'{host}' is not allowed: it has a {class} address (ALLOW_NETS can allow it)")]
    Address {
        /// As in the URL.
        host: String,
        /// Loopback, private and so on.
        class: &'static str,
    },
    /// The name does not resolve.
    #[error("the host name '{0}' cannot be resolved")]
    Dns(String),
    /// Neither success nor a redirect.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// More redirects than followed.
    #[error("more than {MOST_REDIRECTS} redirects")]
    Redirects,
    /// A redirect without a usable target.
    #[error("a redirect without a valid location")]
    Location,
    /// The body is longer than allowed.
    #[error("the image has more than {0} bytes")]
    TooLarge(u64),
    /// What all requests may hold in memory is used up.
    #[error("the service holds too many images at the moment; try again later")]
    NoRoom,
    /// Out of time.
    #[error("not fetched in time")]
    Timeout,
    /// The certificate is not to be trusted.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The connection failed or broke.
    #[error("the connection failed: {0}")]
    Connection(String),
}

impl FetchError {
    /// Whether another attempt can help.
    fn is_transient(&self) -> bool {
        match self {
            FetchError::Status(status) => *status >= 500,
            FetchError::Timeout | FetchError::Connection(_) => true,
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
    /// One is not allowed.
    #[error("the header '{name}' {reason}")]
    Header {
        /// Its name, as given.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// They are more than are taken.
    #[error("there should be at most {MOST_HEADERS} headers, not {0}")]
    Many(usize),
    /// They are longer than is taken.
    #[error("the headers should have at most {HEADER_BYTES} bytes together, not {0}")]
    Long(usize),
}

/// Headers that frame the message or choose the host: they follow from the URL.
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
    /// Headers from names and values. Errs on the first that HTTP or this service does not allow, and when all are too much.
    pub fn new(entries: &[(String, String)]) -> Result<Self, RefusedHeaders> {
        if entries.len() > MOST_HEADERS {
            return Err(RefusedHeaders::Many(entries.len()));
        }
        let bytes = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > HEADER_BYTES {
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For another origin than the one the client named: nothing that could be a credential.
    fn for_strangers(&self) -> HeaderMap {
        self.0.get(USER_AGENT).map(|agent| (USER_AGENT, agent.clone())).into_iter().collect()
    }
}

/// Resolves host names. The service asks the system's name servers; tests have answers of their own.
pub trait Lookup: Send + Sync {
    /// All addresses of `host`.
    fn lookup(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>>>;
}

/// The system's name servers and hosts file, read without the C library: a static program has no other way.
pub struct SystemLookup {
    resolver: Arc<tokio::sync::OnceCell<hickory_resolver::TokioResolver>>,
}

impl SystemLookup {
    /// Reads the configuration at the first lookup.
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
            // Reads files, which is not for a runtime thread.
            let read = || async {
                let build = || hickory_resolver::TokioResolver::builder_tokio()?.build();
                Ok::<_, Box<dyn Error + Send + Sync>>(tokio::task::spawn_blocking(build).await??)
            };
            let resolver = cell.get_or_try_init(read).await?;
            Ok(resolver.lookup_ip(host).await?.iter().collect())
        })
    }
}

/// Hands reqwest only addresses that the policy allows.
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
                FetchError::Dns(host.clone())
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
                (true, Some(class)) => Err(FetchError::Address { host, class }.into()),
                (true, None) => Err(FetchError::Dns(host).into()),
                _ => Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

/// Why the fetcher could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS cannot be set up: IMAGE_CA_FILE cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP library refused its configuration.
    #[error("image fetching cannot be set up: {0}")]
    Client(String),
}

/// Fetches images, many at once up to a bound.
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
    /// A fetcher with these limits that resolves names through `lookup`.
    pub fn new(sources: &Sources, lookup: Arc<dyn Lookup>) -> Result<Self, SetupError> {
        let policy = Arc::new(AddressPolicy::new(sources.allow_nets.0.clone()));
        let ca_file = sources.image_ca_file.as_deref().map(|path| CaFile::new("IMAGE_CA_FILE", path));
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(ca_file.as_ref())?)
            .dns_resolver(CheckedLookup { lookup, policy: policy.clone() })
            // A proxy would connect on this client's behalf, to addresses that nobody has checked.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(sources.fetch_connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .build()
            .map_err(|error| SetupError::Client(error.to_string()))?;
        Ok(Fetcher {
            client,
            policy,
            slots: Arc::new(Semaphore::new(sources.fetch_concurrency)),
            attempts: sources.fetch_attempts,
            total: sources.fetch_timeout,
            max_bytes: sources.max_image_size,
        })
    }

    /// The body behind `url`. Waits for its turn, then takes at most the configured time in all. `share` holds as much as has arrived.
    pub async fn fetch(&self, url: &str, headers: &FetchHeaders, share: &mut BodyShare) -> Result<Bytes, FetchError> {
        let url = Url::parse(url.trim()).map_err(|error| FetchError::Url(error.to_string()))?;
        let _slot = self.slots.acquire().await.map_err(|_| FetchError::Timeout)?;
        timeout(self.total, self.with_retries(url, headers, share)).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn with_retries(&self, url: Url, headers: &FetchHeaders, share: &mut BodyShare) -> Result<Bytes, FetchError> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            match self.follow(url.clone(), headers, share).await {
                Err(error) if error.is_transient() && attempt < self.attempts => {
                    tracing::debug!(%error, attempt, "image request failed, trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn follow(&self, start: Url, headers: &FetchHeaders, share: &mut BodyShare) -> Result<Bytes, FetchError> {
        let origin = start.origin();
        let mut url = start;
        for _ in 0..=MOST_REDIRECTS {
            self.check(&url)?;
            let headers = if url.origin() == origin { headers.0.clone() } else { headers.for_strangers() };
            let request = self.client.get(url.clone()).headers(headers).send();
            // Half of the time for an answer to begin, so that a server that hangs once gets a second chance.
            let response = timeout(self.total / 2, request).await.map_err(|_| FetchError::Timeout)?.map_err(cause)?;
            self.check_peer(&url, &response)?;
            if !response.status().is_redirection() {
                return self.body(response, share).await;
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            url = location.and_then(|location| url.join(location).ok()).ok_or(FetchError::Location)?;
        }
        Err(FetchError::Redirects)
    }

    /// The scheme, and the address of a host that is one: those never reach the resolver.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Scheme(for_message(url.scheme())));
        }
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal.map(|address| self.policy.check(address)) {
            Ok(Err(class)) => Err(FetchError::Address { host: for_message(host), class }),
            _ => Ok(()),
        }
    }

    /// The address that was in fact connected to: holds even if the checks before are ever bypassed.
    fn check_peer(&self, url: &Url, response: &Response) -> Result<(), FetchError> {
        match response.remote_addr().map(|peer| self.policy.check(peer.ip())) {
            Some(Err(class)) => {
                Err(FetchError::Address { host: for_message(url.host_str().unwrap_or_default()), class })
            }
            _ => Ok(()),
        }
    }

    async fn body(&self, mut response: Response, share: &mut BodyShare) -> Result<Bytes, FetchError> {
        // What an attempt before this one has left is gone.
        share.release();
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        // An honest length saves reading; a false one changes nothing, because what arrives is counted.
        if response.content_length().is_some_and(|length| length > self.max_bytes) {
            return Err(FetchError::TooLarge(self.max_bytes));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(cause)? {
            if (body.len() + chunk.len()) as u64 > self.max_bytes {
                return Err(FetchError::TooLarge(self.max_bytes));
            }
            if !share.grow(chunk.len() as u64) {
                return Err(FetchError::NoRoom);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// What lies behind an error of the HTTP client: an error of this module's resolver, TLS, or the connection.
fn cause(error: reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Timeout;
    }
    for inner in chain(&error) {
        if let Some(own) = inner.downcast_ref::<FetchError>() {
            return own.clone();
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return FetchError::Tls(tls.to_string());
        }
    }
    FetchError::Connection(for_message(&root_cause(&error)))
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
    fn headers_are_bounded_in_number_and_length() {
        let many = |count: usize| {
            FetchHeaders::new(&(0..count).map(|n| (format!("x-{n}"), "y".to_string())).collect::<Vec<_>>())
        };
        assert!(many(MOST_HEADERS).is_ok());
        // More than a header map can hold, too.
        for count in [MOST_HEADERS + 1, 40_000] {
            assert_eq!(many(count), Err(RefusedHeaders::Many(count)));
        }
        assert!(headers("x", &"a".repeat(HEADER_BYTES - 1)).is_ok());
        assert_eq!(headers("x", &"a".repeat(HEADER_BYTES)), Err(RefusedHeaders::Long(HEADER_BYTES + 1)));
    }

    #[test]
    fn strangers_get_no_credentials() {
        let own = FetchHeaders::new(&[
            ("User-Agent".into(), "x".into()),
            ("Authorization".into(), "secret".into()),
            ("X-Key".into(), "secret".into()),
        ]);
        let sent = own.unwrap().for_strangers();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent["user-agent"], "x");
    }

    #[test]
    fn only_what_can_change_is_tried_again() {
        assert!(FetchError::Status(500).is_transient() && FetchError::Timeout.is_transient());
        for error in [FetchError::Status(404), FetchError::Status(429), FetchError::Redirects, FetchError::TooLarge(1)]
        {
            assert!(!error.is_transient(), "{error}");
        }
    }
}
