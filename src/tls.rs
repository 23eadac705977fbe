//! TLS of all outgoing connections: rustls on ring, with the certificate authorities of Mozilla and those of a file.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// A PEM file with certificate authorities, and the setting that names it.
#[derive(Clone, Debug)]
pub struct CaFile {
    setting: &'static str,
    path: PathBuf,
}

impl CaFile {
    /// The file that the setting `setting` names.
    pub fn new(setting: &'static str, path: impl Into<PathBuf>) -> CaFile {
        CaFile { setting, path: path.into() }
    }

    /// The file that the variable SSL_CERT_FILE names, if it is set and not empty.
    pub fn from_environment() -> Option<CaFile> {
        let path = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty())?;
        Some(CaFile::new("SSL_CERT_FILE", path))
    }

    /// Adds the certificates of the file. Errs if the file has no certificate, or if one of them is damaged.
    fn add_to(&self, roots: &mut RootCertStore) -> Result<(), CaFileError> {
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(&self.path)? {
            roots.add(certificate?)?;
        }
        if roots.len() == before { Err(CaFileError::Empty) } else { Ok(()) }
    }
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificate authorities cannot be used.
    #[error("{setting} {path}: {source}")]
    CaFile {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The problem.
        source: CaFileError,
    },
    /// rustls refuses the configuration.
    #[error(transparent)]
    Config(#[from] rustls::Error),
}

/// A file with certificate authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// The file cannot be read, or is no PEM file.
    #[error(transparent)]
    Read(#[from] pem::Error),
    /// A certificate is damaged.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    /// The file has no certificate.
    #[error("no certificate in it")]
    Empty,
}

/// The configuration of a client that trusts the certificate authorities of Mozilla and of `ca_file`.
pub fn client_config(ca_file: Option<&CaFile>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = ca_file {
        let failed = |source| TlsError::CaFile { setting: file.setting, path: file.path.clone(), source };
        file.add_to(&mut roots).map_err(failed)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_usable_certificate_are_refused() {
        let certificate = include_str!("../tests/tls/certificate.pem");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let config = || client_config(Some(&CaFile::new("SSL_CERT_FILE", &path))).map_err(|error| error.to_string());
        assert!(config().unwrap_err().starts_with(&format!("SSL_CERT_FILE {}: ", path.display())));
        for (content, problem) in [("", "no certificate"), ("no PEM", "no certificate"), (&certificate[..200], "")] {
            std::fs::write(&path, content).unwrap();
            assert!(config().unwrap_err().contains(problem), "{content}");
        }
        std::fs::write(&path, certificate).unwrap();
        assert!(config().is_ok());
        assert!(client_config(None).is_ok());
    }
}
