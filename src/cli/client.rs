//! The HTTP client of the subcommands that send requests to a service.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url};

use crate::tls::{CaFile, TlsError, client_config};

/// A client for `http` and `https` that waits at most `timeout` for an answer. It also trusts the certificate
/// authorities of SSL_CERT_FILE.
///
/// Redirects are not followed: they could lead to another service than the named one.
pub(super) fn client(timeout: Duration) -> Result<Client, Box<dyn std::error::Error>> {
    Ok(builder(timeout, CaFile::from_environment().as_ref())?.build()?)
}

fn builder(timeout: Duration, ca_file: Option<&CaFile>) -> Result<ClientBuilder, TlsError> {
    let builder = Client::builder()
        .tls_backend_preconfigured(client_config(ca_file)?)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("ifr/", env!("CARGO_PKG_VERSION")));
    Ok(builder)
}

/// A text that is not the address of a service.
#[derive(Debug, thiserror::Error)]
#[error("expected an address such as http://localhost:18080")]
pub(super) struct InvalidUrl;

/// Parses an address; `http://` may be omitted.
pub(super) fn parse_url(text: &str) -> Result<Url, InvalidUrl> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&whole) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(InvalidUrl),
    }
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

    /// The certificate of the server is for the name `images.test`, and no public authority has signed it.
    #[test]
    fn services_with_a_private_certificate_authority_are_reached() {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        use std::io::{Read, Write};
        use std::sync::Arc;
        let file = |name: &str| format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let certificate = CertificateDer::from_pem_file(file("certificate.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = Arc::new(config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let session = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut stream = rustls::StreamOwned::new(session, socket);
                if stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let status = |ca_file: Option<&CaFile>| {
            let client = builder(Duration::from_secs(20), ca_file).unwrap().resolve("images.test", address).build();
            let request = client.unwrap().get(format!("https://images.test:{}/", address.port()));
            runtime.block_on(async { request.send().await }).map(|response| response.status().as_u16())
        };
        let refusal = crate::error_chain::root_cause(&status(None).unwrap_err());
        assert!(refusal.contains("certificate"), "{refusal}");
        assert_eq!(status(Some(&CaFile::new("SSL_CERT_FILE", file("certificate.pem")))).unwrap(), 200);
    }
}
