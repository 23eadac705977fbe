//! Hashes of files, as hexadecimal digits.

use std::io::{self, Read};

use md5::Md5;
use sha2::{Digest, Sha256};

/// Hashes and length of a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// MD5 in hexadecimal digits.
    pub md5: String,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

impl Hashes {
    /// Hashes all bytes of `reader`.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub fn of(mut reader: impl Read) -> io::Result<Hashes> {
        let (mut md5, mut sha256, mut size) = (Md5::new(), Sha256::new(), 0);
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            md5.update(&buffer[..read]);
            sha256.update(&buffer[..read]);
            size += read as u64;
        }
        Ok(Hashes { md5: hex(&md5.finalize()), sha256: hex(&sha256.finalize()), size })
    }
}

/// SHA-256 of `bytes` in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        let hashes = Hashes::of(&b"abc"[..]).unwrap();
        assert_eq!(hashes.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hashes.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((hashes.size, sha256(b"abc")), (3, hashes.sha256));
    }
}
