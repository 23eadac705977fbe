//! Requests that schemathesis makes up.

use std::process::Command;

use crate::clients::{python_is_ready, serve, succeeded};

/// Requests made up from `/openapi.json`: none may be answered with an error of the server.
#[test]
#[ignore = "slow"]
fn schemathesis_finds_no_server_error() {
    if !python_is_ready("schemathesis") {
        return;
    }
    let service = serve();
    let output = Command::new("python3")
        .args([
            "-m",
            "schemathesis.cli",
            "run",
            "--checks",
            "not_a_server_error",
            "--max-examples",
            "40",
            "--seed",
            "7",
        ])
        .args(["--phases", "coverage,fuzzing", "--request-timeout", "60", "--no-color"])
        // That requests are made up slowly on a busy machine, and what another run came upon, is no matter of the
        // service.
        .args(["--suppress-health-check", "too_slow", "--generation-database", "none"])
        .arg(format!("{}/openapi.json", service.url("")))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    succeeded("schemathesis", &output);
}
