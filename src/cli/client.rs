//! The HTTP client of the subcommands that talk to a service.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};

/// A client for `http` and `https` that waits at most `timeout` for an answer and follows no redirects.
///
/// Redirects would measure or check something else than what was named.
pub(super) fn client(timeout: Duration) -> Result<Client, Box<dyn std::error::Error>> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("ifr/", env!("CARGO_PKG_VERSION")));
    Ok(client.build()?)
}

/// An address as people type it: the scheme may be left out.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&whole) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("expected an address such as http://localhost:18080".into()),
    }
}

/// The last sentence of a chain of causes: what people need to know of "error sending request".
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_typed() {
        assert_eq!(parse_url("localhost:18080").unwrap().as_str(), "http://localhost:18080/");
        assert_eq!(parse_url("https://faces.example/prefix").unwrap().path(), "/prefix");
        for odd in ["", "ftp://x", "http://", "a b"] {
            assert!(parse_url(odd).is_err(), "{odd}");
        }
    }
}
