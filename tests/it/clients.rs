//! Other clients: curl and Python run the examples of the documentation, and code of users of the original.
//!
//! Needs `pip install -r tests/python/requirements.txt`. Without it the tests skip, or fail if `IFR_REQUIRE_CLIENTS` is
//! set.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `ifr serve` with the pictures of the repository.
pub fn serve() -> Program {
    let pictures = root().join("assets");
    Program::start(&[("ROOT_IMAGES_DIR", pictures.to_str().unwrap()), ("MAX_SIZE", "640,640")])
}

/// True if Python has these modules. Otherwise reports that the test skips, or fails it if `IFR_REQUIRE_CLIENTS` is
/// set.
pub fn python_is_ready(modules: &str) -> bool {
    let ready = Command::new("python3").args(["-c", &format!("import {modules}")]).output();
    if ready.is_ok_and(|r| r.status.success()) {
        return true;
    }
    assert!(std::env::var_os("IFR_REQUIRE_CLIENTS").is_none(), "python3 has no {modules}");
    skipped(&format!("python3 with {modules} is missing (pip install -r tests/python/requirements.txt)"));
    false
}

pub fn succeeded(what: &str, output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}\n{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// The fenced code blocks of a document in one of `languages` that send requests to the service.
fn examples(document: &str, languages: &[&str]) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let mut found = vec![];
    let mut block: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(language)) => block = Some((language.into(), String::new())),
            (Some(_), Some(_)) => found.extend(block.take()),
            (Some((_, code)), None) => {
                code.push_str(line);
                code.push('\n');
            }
            (None, None) => {}
        }
    }
    found.retain(|(language, code)| languages.contains(&language.as_str()) && code.contains("http://localhost:18080/"));
    found
}

#[test]
fn document_examples_work() {
    let python = python_is_ready("msgpack, requests");
    let service = serve();
    let mut ran = 0;
    for document in ["README.md", "docs/api.md"] {
        for (language, code) in examples(document, &["sh", "python"]) {
            if language == "python" && !python {
                continue;
            }
            let code = code.replace("http://localhost:18080", &service.url(""));
            // -f: an error status fails the example.
            let code = code.replace("curl -s ", "curl -sf ");
            if code.lines().any(|line| line.starts_with("ifr ")) {
                continue;
            }
            let mut command = Command::new(if language == "sh" { "bash" } else { "python3" });
            if language == "sh" {
                command.args(["-euo", "pipefail"]);
            }
            succeeded(
                &format!("{document}:\n{code}"),
                &command.args(["-c", &code]).current_dir(root()).output().unwrap(),
            );
            ran += 1;
        }
    }
    assert!(ran >= if python { 7 } else { 4 }, "only {ran} examples were found");
}

#[test]
fn readme_answer_is_current() {
    let service = serve();
    let (_, code) = examples("README.md", &["sh"]).into_iter().find(|(_, code)| code.contains("/extract")).unwrap();
    let output = Command::new("bash")
        .args(["-c", &code.replace("http://localhost:18080", &service.url(""))])
        .current_dir(root())
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let shown = readme.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shown: serde_json::Value = serde_json::from_str(shown).unwrap();
    let (ours, shown) = (&answer["data"][0]["faces"][0], &shown["data"][0]["faces"][0]);
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(ours), keys(shown));
    for key in ["bbox", "landmarks", "num_det", "scale", "size", "gender", "age", "mask"] {
        assert_eq!(ours[key], shown[key], "{key}");
    }
    for key in ["prob", "norm"] {
        assert!((ours[key].as_f64().unwrap() - shown[key].as_f64().unwrap()).abs() < 0.01, "{key}");
    }
}

#[test]
fn original_clients_work() {
    if !python_is_ready("aiohttp, msgpack, requests") {
        return;
    }
    let service = serve();
    let script: PathBuf = root().join("tests/python/client.py");
    let output = Command::new("python3")
        .arg(script)
        .args([service.url("").as_str(), root().join("assets").to_str().unwrap(), "astronaut.jpg"])
        .output()
        .unwrap();
    succeeded("client.py", &output);
}
