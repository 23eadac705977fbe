//! What whole-program tests share.
#![allow(dead_code)]

use std::path::PathBuf;

/// Pictures, weights and the original's own results, which are not in the repository: `IFR_TEST_DATA` or `../shared`.
///
/// `None` after saying why the calling test skips.
pub fn test_data() -> Option<PathBuf> {
    let dir = match std::env::var_os("IFR_TEST_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    if dir.join("golden").is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no reference data at {} (set IFR_TEST_DATA)", dir.display());
    None
}
