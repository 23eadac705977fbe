//! The optional API key.

use crate::config::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use warp::http::{HeaderMap, header};

/// Compares keys of clients with the configured key, in a time that does not depend on the keys.
#[derive(Clone)]
pub struct ApiKey {
    digest: [u8; 32],
}

impl ApiKey {
    /// The key that clients must send.
    pub fn new(key: &Secret) -> Self {
        ApiKey { digest: Sha256::digest(key.reveal().as_bytes()).into() }
    }

    /// Whether the headers carry the key, as `Authorization: Bearer KEY` or `x-api-key: KEY`.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| bearer_token(value.as_bytes()));
        let plain = headers.get_all("x-api-key").iter().map(|value| value.as_bytes());
        // Every candidate is compared completely, without a short circuit. Digests of all keys have the same length.
        bearer.chain(plain).fold(false, |admitted, key| {
            let digest: [u8; 32] = Sha256::digest(key).into();
            admitted | bool::from(digest.ct_eq(&self.digest))
        })
    }
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(name: &'static str, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        ApiKey::new(&Secret::new("swordfish")).admits(&headers)
    }

    #[test]
    fn the_key_is_taken_from_either_header() {
        assert!(admits("authorization", "Bearer swordfish"));
        assert!(admits("authorization", "bearer  swordfish"));
        assert!(admits("x-api-key", "swordfish"));
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(!ApiKey::new(&Secret::new("swordfish")).admits(&HeaderMap::new()));
        for (name, value) in [
            ("authorization", "swordfish"),
            ("authorization", "Basic swordfish"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer swordfis"),
            ("authorization", "Bearer swordfish2"),
            ("x-api-key", ""),
            ("x-api-key", "SWORDFISH"),
        ] {
            assert!(!admits(name, value), "{name}: {value}");
        }
    }
}
