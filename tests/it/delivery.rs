//! The interface for process managers and operators: readiness, health, load test, stop.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::*;
use ifr::config::{Secret, Setting};

#[test]
fn load_prints_a_row_per_concurrency() {
    let service = Service::start(|_| {});
    let url = format!("http://{}", service.address);
    let output = ifr(&["load", &url, "--concurrency", "1,3", "--duration", "500ms", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows: Vec<Value> =
        std::str::from_utf8(&output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|r| r["concurrency"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
    for row in &rows {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("answered") >= 1.0 && number("failed") == 0.0);
        assert!((number("requests_per_second") - number("answered") / number("seconds")).abs() < 1e-6);
        assert!(0.0 < number("p50_ms") && number("p50_ms") <= number("p95_ms"));
        assert!(number("p95_ms") <= number("p99_ms") && number("p99_ms") <= number("max_ms"));
        assert!(number("seconds") >= 0.5);
    }
    let table = ifr(&["load", &url, "-c", "2", "-d", "300ms", "--images-per-request", "2", "--no-embedding"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("2 faces in it") && text.contains("p99 ms"), "{text}");
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn load_reports_errors_of_a_service() {
    let service = Service::start(|settings| settings.access.api_key = Setting(Some(Secret::new("secret"))));
    let url = format!("http://{}", service.address);
    let refused = ifr(&["load", &url, "-d", "300ms"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("401"), "{}", stderr(&refused));
    assert_eq!(ifr(&["load", &url, "-d", "300ms", "-c", "1", "--api-key", "secret"]).status.code(), Some(0));
    let nobody = ifr(&["load", "http://127.0.0.1:1", "-d", "300ms"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("refused"), "{}", stderr(&nobody));
    assert_eq!(ifr(&["load", "no address", "-d", "1s"]).status.code(), Some(2));
}

#[test]
fn health_exit_codes() {
    let service = Service::start(|_| {});
    let url = format!("http://{}", service.address);
    assert_eq!(ifr(&["health", "--url", &url]).status.code(), Some(0));
    assert_eq!(ifr(&["health", "--url", &format!("{url}/info")]).status.code(), Some(0));
    let missing = ifr(&["health", "--url", &format!("{url}/nothing/here")]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("404"));
    drop(service);
    assert_eq!(ifr(&["health", "--url", &url, "--timeout", "1s"]).status.code(), Some(1));
}

#[test]
fn text_log_names_the_address() {
    let mut serve = command(&["serve", "--host", "127.0.0.1", "--port", "0"]);
    let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listening = lines.into_iter().find(|line| line.contains("listening"));
    child.kill().unwrap();
    child.wait().unwrap();
    let listening = listening.expect("a line on the start");
    let address = listening.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(address.is_some_and(|address| address.starts_with("127.0.0.1:")), "{listening}");
}

/// The protocol of systemd's `Type=notify` and `WatchdogSec=`.
#[test]
#[cfg(target_os = "linux")]
fn systemd_notifications() {
    use std::os::unix::net::UnixDatagram;
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let notify = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut service = Program::start(&notify);
    let hear = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    // On slow machines loading extends the time for the start repeatedly.
    let mut first = hear();
    assert!(first.starts_with("EXTEND_TIMEOUT_USEC="), "{first}");
    while first.starts_with("EXTEND_TIMEOUT_USEC=") {
        first = hear();
    }
    let mut heard = vec![first];
    let ready = Instant::now();
    for _ in 0..3 {
        heard.push(hear());
    }
    assert!(ready.elapsed() < Duration::from_secs(10));
    service.signal("-TERM");
    while heard.last().unwrap() != "STOPPING=1" {
        heard.push(hear());
    }
    assert_eq!(service.exit_code(Duration::from_secs(60)), Some(0));
    assert_eq!(heard[0], "READY=1");
    assert!(heard[1..heard.len() - 1].iter().all(|state| state == "WATCHDOG=1") && heard.len() >= 5, "{heard:?}");
}

/// Every setting can be set in the .env of the compose file.
#[test]
fn compose_file_passes_every_setting() {
    use clap::Args;

    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/compose.yaml")).unwrap();
    let command = ifr::config::Settings::augment_args(clap::Command::new("ifr"));
    let names: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let passed = match name {
            // Set by the image.
            "HOST" | "PORT" | "MODELS_DIR" => continue,
            // Has a fixed value, or the name of the original.
            "INFERENCE_BACKEND" => "INFERENCE_BACKEND: onnx".into(),
            "GA_NAME" => "GA_NAME: ${GA_MODEL:-}".into(),
            // An empty value means no origin.
            "CORS_ORIGINS" => "CORS_ORIGINS: ${CORS_ORIGINS:-*}".into(),
            name => format!("{name}: ${{{name}:-}}"),
        };
        assert!(text.lines().any(|line| line.trim() == passed), "deploy/compose.yaml does not say {passed}");
    }
}
