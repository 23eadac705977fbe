//! Changes of models while the service runs, and a service whose models are still loading.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::*;
use ifr::analyzer::FaceAnalyzer;
use ifr::config::{Setting, Settings};
use ifr::models::{ModelStore, embedded};
use ifr::server::{ModelRegistry, Reloader, Server, SystemLookup};
use serde_json::{Value, json};

/// A service with its own models directory, which contains a recognizer with the name "mine".
pub struct Changing {
    pub dir: tempfile::TempDir,
    pub settings: Settings,
    pub address: SocketAddr,
    pub models: Arc<ModelRegistry>,
    pub runtime: tokio::runtime::Runtime,
}

pub fn recognizer() -> &'static [u8] {
    embedded("mobilefacenet").unwrap()
}

pub fn detector() -> &'static [u8] {
    embedded("centerface").unwrap()
}

/// Installs a model by writing a temporary file and renaming it.
pub fn install(dir: &Path, name: &str, bytes: &[u8]) {
    let file = ModelStore::new(Some(dir.into())).file(name).unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let beside = file.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, file).unwrap();
}

impl Changing {
    pub fn start() -> Changing {
        Changing::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut Settings)) -> Changing {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "mine", recognizer());
        let mut settings = Settings::defaults();
        settings.host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        settings.port = 0;
        settings.models.max_size = "128,128".parse().unwrap();
        settings.models.models_dir = Setting(Some(dir.path().into()));
        settings.models.rec_name = Setting(Some("mine".into()));
        settings.models.reload = true;
        settings.models.reload_interval = 0.05;
        change(&mut settings);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(Server::bind_with(settings.clone(), Arc::new(SystemLookup::new()))).unwrap();
        let (address, models) = (server.local_addr().unwrap(), server.models());
        let reloader = runtime.block_on(async {
            let mut reloader = Reloader::new(server.models(), &settings.models, None).unwrap();
            reloader.note_files().await;
            reloader
        });
        runtime.spawn(reloader.run());
        runtime.spawn(server.run(std::future::pending()));
        Changing { dir, settings, address, models, runtime }
    }

    pub fn under_load(&self, work: impl FnOnce()) -> Vec<Answer> {
        under_load(&self.address.to_string(), work)
    }

    pub fn embedding(&self) -> Vec<f64> {
        embedding(&self.address.to_string())
    }
}

/// Sends requests until `work` ends. Returns the answers.
pub fn under_load(address: &str, work: impl FnOnce()) -> Vec<Answer> {
    let body = json!({"images": {"data": [portrait64()]}});
    let (done, answers) = (AtomicBool::new(false), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let client = client();
                while !done.load(Ordering::SeqCst) {
                    let started = Instant::now();
                    let response = client.post(format!("http://{address}/extract")).json(&body).send();
                    let outcome = response.map_err(|e| e.to_string()).and_then(|response| {
                        let status = response.status();
                        let text = response.text().map_err(|e| e.to_string())?;
                        if status == 200 { Ok(text) } else { Err(format!("{status}: {text}")) }
                    });
                    answers.lock().unwrap().push(Answer { started, ended: Instant::now(), outcome });
                }
            });
        }
        // The threads must end even if `work` panics.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::SeqCst);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    answers.into_inner().unwrap()
}

/// The embedding of the portrait from the service at `address`.
pub fn embedding(address: &str) -> Vec<f64> {
    let body = json!({"images": {"data": [portrait64()]}});
    let response = client().post(format!("http://{address}/extract")).json(&body).send().unwrap();
    vector(&response.json().unwrap())
}

pub struct Answer {
    pub started: Instant,
    pub ended: Instant,
    pub outcome: Result<String, String>,
}

pub fn vector(answer: &Value) -> Vec<f64> {
    let vector = answer["data"][0]["faces"][0]["vec"].as_array().unwrap_or_else(|| panic!("{answer}"));
    vector.iter().map(|v| v.as_f64().unwrap()).collect()
}

pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub fn no_errors(answers: &[Answer]) {
    let failed: Vec<&String> = answers.iter().filter_map(|answer| answer.outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {}", failed.len(), answers.len(), failed[0]);
    for answer in answers {
        vector(&serde_json::from_str(answer.outcome.as_ref().unwrap()).unwrap());
    }
}

/// True if recognizer and detector are the same.
pub fn same(a: &FaceAnalyzer, b: &FaceAnalyzer) -> (bool, bool) {
    let recognizers = Arc::ptr_eq(a.recognizer.as_ref().unwrap(), b.recognizer.as_ref().unwrap());
    (recognizers, Arc::ptr_eq(a.detector.as_ref().unwrap(), b.detector.as_ref().unwrap()))
}

#[test]
fn file_overwritten_in_place_leaves_the_network() {
    let service = Changing::start_with(|settings| {
        settings.models.max_size = "640,640".parse().unwrap();
        settings.models.rec_batch_size = 8;
    });
    let file = ModelStore::new(Some(service.dir.path().into())).file("mine").unwrap();
    std::fs::write(file, &recognizer()[..300_000]).unwrap();
    // New numbers of faces per batch need plans that are not prepared yet.
    let faces = base64(&three_faces());
    let body = json!({"images": {"data": [faces, faces, portrait64()]}});
    let response = client().post(format!("http://{}/extract", service.address)).json(&body).send().unwrap();
    let answer: Value = response.json().unwrap();
    for image in answer["data"].as_array().unwrap() {
        assert_eq!(image["status"], "ok", "{image}");
        assert!(image["faces"][0]["vec"].is_array());
    }
}

/// The name of the configured recognizer, as `/info` shows it.
fn configured(service: &Program) -> Value {
    service.get("/info").json::<Value>().unwrap()["models"]["rec_name"].clone()
}

/// A manifest with the model "far", whose server sends the second half only after a signal.
fn slow_model(dir: &Path) -> Arc<AtomicBool> {
    let go_on = Arc::new(AtomicBool::new(false));
    let told = go_on.clone();
    let host = HttpHost::start("127.0.0.1", move |_, _, stream| {
        let (first, rest) = recognizer().split_at(recognizer().len() / 2);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", recognizer().len()).unwrap();
        stream.write_all(first).unwrap();
        while !told.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stream.write_all(rest).unwrap();
    });
    let manifest = json!({"far": {"function": "arcface_torch", "link": host.link("/far.onnx")}});
    std::fs::write(dir.join("models.json"), manifest.to_string()).unwrap();
    go_on
}

#[test]
fn service_listens_while_a_model_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let go_on = slow_model(dir.path());
    let service = Program::with_models(dir.path(), &[("REC_NAME", "far")]);
    service.line_with("fetching a model");
    let started = Instant::now();
    let health = service.get("/health");
    assert_eq!(health.status(), 503);
    let text = health.text().unwrap();
    assert!(text.contains("far is being fetched"), "{text}");
    let body = json!({"images": {"data": [portrait64()]}});
    let response = service.post("/extract", &body);
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(response.text().unwrap().contains("far is being fetched"));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(service.get("/docs").status(), 200, "what needs no models is there");
    go_on.store(true, Ordering::SeqCst);
    service.line_with("a model is installed");
    service.line("ready");
    assert_eq!(service.get("/health").status(), 200);
    assert_eq!(vector(&service.post("/extract", &body).json().unwrap()).len(), 512);
}

#[test]
fn missing_model_ends_the_start_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&["serve", "--port", "0", "--rec-name", "absent", "--models-dir"]);
    let output = command.arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no model named 'absent'"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn hangup_reads_the_settings_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        install(dir.path(), name, recognizer());
    }
    let env: PathBuf = dir.path().join("settings.env");
    std::fs::write(&env, "REC_NAME=first\nMAX_SIZE=128,128\n").unwrap();
    let service = Program::with_env_file(dir.path(), &env, &[]);
    service.line("ready");
    assert_eq!(configured(&service), "first");
    std::fs::write(&env, "REC_NAME=second\nMAX_SIZE=160,160\n").unwrap();
    service.signal("-HUP");
    service.line_with("the models have been changed");
    assert_eq!(configured(&service), "second");
    std::fs::write(&env, "REC_NAME=absent\n").unwrap();
    service.signal("-HUP");
    service.line_with("no model named 'absent'");
    std::fs::write(&env, "DET_BATCH_SIZE=none at all\n").unwrap();
    service.signal("-HUP");
    service.line_with("the settings are wrong");
    assert_eq!(configured(&service), "second");
    assert_eq!(service.get("/health").status(), 200);
}

/// A settings file and a manifest that block, as on a network file system without its server: pipes without a writer.
#[test]
#[cfg(unix)]
fn hangup_with_hanging_files_delays_no_request() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), "first", recognizer());
    let (env, manifest) = (dir.path().join("settings.env"), dir.path().join("models.json"));
    let settings = "REC_NAME=first\nMAX_SIZE=128,128\n";
    std::fs::write(&env, settings).unwrap();
    // One runtime thread: a blocking read on it would stop the service.
    let mut service = Program::with_env_file(dir.path(), &env, &[("TOKIO_WORKER_THREADS", "1")]);
    service.line("ready");
    for (file, content) in [(&env, settings), (&manifest, "{}")] {
        let _ = std::fs::remove_file(file);
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        // Opened for reading and writing, so that opening does not block.
        let mut writer = std::fs::File::options().read(true).write(true).open(file).unwrap();
        service.signal("-HUP");
        service.line_with("SIGHUP");
        let asked = Instant::now();
        for _ in 0..5 {
            assert_eq!(service.get("/health/live").status(), 200);
            assert_eq!(service.get("/info").status(), 200);
            let body = json!({"images": {"data": [portrait64()]}});
            assert_eq!(service.post("/extract", &body).status(), 200);
        }
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        // The blocked read gets this content; later reads get the same content from a file.
        let beside = dir.path().join("beside");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(&beside, file).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
        drop(writer);
        service.line("the configured models are unchanged");
    }
    service.signal("-TERM");
    assert_eq!(service.exit_code(Duration::from_secs(20)), Some(0));
}
