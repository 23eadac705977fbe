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

/// The script that writes published architectures with made-up weights, where it and a Python that can run it are at hand.
///
/// `None` after saying why the calling test skips. With IFR_REQUIRE_CLIENTS, as in CI, Python must have what it needs.
pub fn make_arch() -> Option<PathBuf> {
    let script = test_data()?.join("tools/make_arch.py");
    let python = std::process::Command::new("python3").args(["-c", "import onnx, numpy"]).output();
    if python.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(script);
    }
    assert!(std::env::var_os("IFR_REQUIRE_CLIENTS").is_none(), "python3 lacks onnx or numpy: {python:?}");
    eprintln!("skipped: needs python3 with onnx and numpy");
    None
}
