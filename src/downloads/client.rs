//! The HTTP client of downloads, and the runtime it needs.

use std::future::Future;
use std::time::Duration;

use super::{FetchError, FetchOptions};
use crate::tls::{CaFile, client_config};

/// An HTTP client for callers without a runtime.
pub(super) struct HttpClient {
    pub http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl HttpClient {
    /// A client with the proxies of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY). It trusts the
    /// certificate authorities of SSL_CERT_FILE, in addition to those of Mozilla.
    pub fn new(options: &FetchOptions) -> Result<HttpClient, FetchError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(CaFile::from_environment().as_ref())?)
            .user_agent(concat!("ifr/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.silence.min(Duration::from_secs(15)))
            .read_timeout(options.silence)
            .build()
            .map_err(FetchError::Client)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FetchError::Runtime)?;
        Ok(HttpClient { http, runtime })
    }

    /// Runs `work` to its end on this thread.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}
