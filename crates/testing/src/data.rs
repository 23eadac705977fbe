//! Reference data that is not part of the repository, and the models that are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root directory of the repository.
pub fn repository() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent);
    crates.expect("this crate is in crates/testing")
}

/// The directory with pictures, models and results of InsightFace-REST: `IFR_TEST_DATA`, or `../shared`.
///
/// `None` if it does not exist; the calling test then skips. See [`reference_file`].
pub fn reference_data() -> Option<PathBuf> {
    reference_file("golden")?.parent().map(PathBuf::from)
}

/// A file or directory of the reference data, as an absolute path.
///
/// `None` if it does not exist. This is reported, and the calling test skips. With `IFR_REQUIRE_DATA` set, the test fails.
pub fn reference_file(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IFR_TEST_DATA").map_or_else(|| repository().join("../shared"), PathBuf::from);
    let full = root.join(path);
    if let Ok(found) = full.canonicalize() {
        return Some(found);
    }
    let reason = format!("{} does not exist (set IFR_TEST_DATA)", full.display());
    assert!(!is_set("IFR_REQUIRE_DATA"), "{reason}, and IFR_REQUIRE_DATA is set");
    skipped(&reason);
    None
}

/// The ONNX files of the default models, and those of the [`reference_data`]. Never empty.
pub fn model_files() -> Vec<PathBuf> {
    let mut folders = vec![repository().join("models/onnx")];
    folders.extend(reference_data().map(|data| data.join("models/onnx")));
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("a directory of models"))
        .flat_map(|model| std::fs::read_dir(model.expect("a directory entry").path()).expect("a directory of a model"))
        .map(|file| file.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    files.sort();
    assert!(files.len() >= 2, "the repository contains the default models");
    files
}

/// The script that writes published architectures with random weights. Needs the [`reference_data`], and Python with
/// `onnx` and `numpy`.
///
/// `None` if one of them is missing; the calling test then skips. With `IFR_REQUIRE_CLIENTS` set, a missing package fails
/// the test.
pub fn make_arch() -> Option<PathBuf> {
    let script = reference_file("tools/make_arch.py")?;
    let python = Command::new("python3").args(["-c", "import onnx, numpy"]).output();
    if python.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(script);
    }
    assert!(!is_set("IFR_REQUIRE_CLIENTS"), "python3 lacks onnx or numpy: {python:?}");
    skipped("needs python3 with onnx and numpy");
    None
}

/// Reports why a test skips. Writes to the process's standard error: the test runner hides the output of `eprintln!` in
/// tests that pass.
pub fn skipped(reason: &str) {
    // The report is for people; a closed standard error is not a failure of the test.
    let _ = std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes());
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}
