//! Reference data that is not part of the repository.

use std::io::Write;
use std::path::PathBuf;

/// The directory with pictures, models and the original's own results: `IFR_TEST_DATA`, or `../shared`.
///
/// `None`, with a message, when it is missing: the calling test skips. With `IFR_REQUIRE_DATA` set, a missing directory
/// fails the test.
pub fn shared_data() -> Option<PathBuf> {
    shared("golden")?.parent().map(PathBuf::from)
}

/// A file or directory of the reference data. `None` as for [`shared_data`].
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IFR_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let full = root.join(path);
    if !full.exists() {
        missing_data(&format!("{} does not exist (set IFR_TEST_DATA)", full.display()));
        return None;
    }
    full.canonicalize().ok()
}

/// Reports missing reference data; fails the test where `IFR_REQUIRE_DATA` is set.
fn missing_data(what: &str) {
    assert!(std::env::var_os("IFR_REQUIRE_DATA").is_none_or(|v| v.is_empty()), "{what}, and IFR_REQUIRE_DATA is set");
    skipped(what);
}

/// Reports why a test skips. Writes to the process's standard error: the test runner hides what `eprintln!` prints in
/// tests that pass.
pub fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}
