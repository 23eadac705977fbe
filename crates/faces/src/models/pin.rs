//! Pins: the hash of the first download, for models without a published hash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::replace_file;

/// Path of the pin of the model `file`: next to it, in the format of `sha256sum`.
pub(super) fn pin_path(file: &Path) -> PathBuf {
    file.with_extension("onnx.sha256")
}

/// Stores the SHA-256 of a first download, in hexadecimal digits. An existing pin is replaced atomically.
///
/// # Errors
///
/// If the pin cannot be written.
pub fn pin(file: &Path, sha256: &str) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    replace_file(&pin_path(file), format!("{sha256}  {name}\n").as_bytes())
}

/// The SHA-256 that [`pin`] stored; `None` without a pin or if the pin is malformed.
pub(super) fn pinned(file: &Path) -> Option<String> {
    let line = fs::read_to_string(pin_path(file)).ok()?;
    let digits = line.get(..64)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| digits.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_back_and_a_malformed_one_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.onnx");
        assert_eq!(pinned(&file), None);
        pin(&file, &"ab".repeat(32)).unwrap();
        assert_eq!(pinned(&file), Some("ab".repeat(32)));
        fs::write(pin_path(&file), "nonsense").unwrap();
        assert_eq!(pinned(&file), None);
    }
}
