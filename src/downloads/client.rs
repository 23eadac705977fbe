//! The HTTP client, and the runtime it needs.

use std::sync::Arc;
use std::time::Duration;

use super::{FetchError, FetchOptions};

/// An HTTP client that is used from code without a runtime.
pub(super) struct Client {
    pub http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// Proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY); certificates those of Mozilla, and of the file
    /// that SSL_CERT_FILE names.
    pub fn new(options: &FetchOptions) -> Result<Client, FetchError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .user_agent(concat!("ifr/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.silence.min(Duration::from_secs(15)))
            .read_timeout(options.silence)
            .build()
            .map_err(|e| FetchError::Setup(reason(&e)))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| FetchError::Setup(e.to_string()))?;
        Ok(Client { http, runtime })
    }

    /// Downloads to the part file; tells whether bytes of an earlier attempt are in it.
    pub fn download(&self, download: &super::download::Download) -> Result<bool, FetchError> {
        self.runtime.block_on(download.run(&self.http))
    }
}

fn tls() -> Result<rustls::ClientConfig, FetchError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()) {
        let unusable = |e: String| FetchError::Setup(format!("SSL_CERT_FILE {}: {e}", path.display()));
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|e| unusable(e.to_string()))? {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| FetchError::Setup(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error of the client with everything that lies behind it, but not the address, which messages name anyway.
pub(super) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut last = None;
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        last = Some(inner.to_string());
        source = inner.source();
    }
    last.unwrap_or_else(|| error.to_string())
}
