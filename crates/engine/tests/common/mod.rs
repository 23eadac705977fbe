//! Model files for the tests of the engine.
#![allow(dead_code)]

use std::io::Write;
use std::path::PathBuf;

use ifr_engine::Network;

/// Pictures, weights and the original's own results, which are not in the repository: `IFR_TEST_DATA` or `../shared`.
///
/// `None` after saying why the calling test skips. With `IFR_REQUIRE_DATA` set there is no skipping.
pub fn test_data() -> Option<PathBuf> {
    let dir = match std::env::var_os("IFR_TEST_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => root().join("../shared"),
    };
    if dir.join("golden").is_dir() {
        return Some(dir);
    }
    missing_data(&format!("no reference data at {} (set IFR_TEST_DATA)", dir.display()));
    None
}

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All networks at hand: the default pack, and what [`test_data`] has.
pub fn model_files() -> Vec<PathBuf> {
    let mut folders = vec![root().join("models/onnx")];
    folders.extend(test_data().map(|data| data.join("models/onnx")));
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .flat_map(|model| std::fs::read_dir(model.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "the default pack is part of the repository");
    files
}

/// Side of the picture given to networks that take any.
pub const SIDE: usize = 320;

/// An input shape the network takes: what its file says, and [`SIDE`] where that is left open.
pub fn input_shape(network: &Network, batch: usize) -> Vec<usize> {
    let declared = network.input().shape;
    // Its fully connected layer wants this size; the file does not say so.
    let side = if network.name() == "seeta6_mask_detector" { 112 } else { SIDE };
    let mut shape: Vec<usize> = declared.iter().map(|d| d.unwrap_or(side)).collect();
    shape[0] = batch;
    if declared[1].is_none() {
        shape[1] = 3;
    }
    shape
}

/// The script that writes published architectures with made-up weights, where it and a Python that can run it are at
/// hand.
///
/// `None` after saying why the calling test skips. With IFR_REQUIRE_CLIENTS, as in CI, Python must have what it needs.
pub fn make_arch() -> Option<PathBuf> {
    let script = test_data()?.join("tools/make_arch.py");
    let python = std::process::Command::new("python3").args(["-c", "import onnx, numpy"]).output();
    if python.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(script);
    }
    assert!(std::env::var_os("IFR_REQUIRE_CLIENTS").is_none(), "python3 lacks onnx or numpy: {python:?}");
    skipped("needs python3 with onnx and numpy");
    None
}

/// Says that reference data is missing and the calling test skips; fails it where `IFR_REQUIRE_DATA` is set.
pub fn missing_data(what: &str) {
    assert!(std::env::var_os("IFR_REQUIRE_DATA").is_none_or(|v| v.is_empty()), "{what}, and IFR_REQUIRE_DATA is set");
    skipped(what);
}

/// Says why a test skips, past the test runner, which keeps what `eprintln!` writes in tests that pass.
pub fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}
