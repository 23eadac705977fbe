//! Models that change while the service answers, and a service that has none yet.

mod api_support;

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_support::{client, portrait64};
use ifr::analyzer::FaceAnalyzer;
use ifr::config::{Setting, Settings};
use ifr::models::{ModelStore, embedded};
use ifr::server::Server;
use ifr::server::models::configured::Models;
use ifr::server::models::reload::Reloader;
use ifr::server::sources::http::SystemLookup;
use serde_json::{Value, json};

/// A service whose models directory is its own, with a recogniser called "mine" in it.
struct Changing {
    dir: tempfile::TempDir,
    settings: Settings,
    address: SocketAddr,
    models: Arc<Models>,
    runtime: tokio::runtime::Runtime,
}

fn recognizer() -> &'static [u8] {
    embedded("mobilefacenet").unwrap()
}

fn detector() -> &'static [u8] {
    embedded("centerface").unwrap()
}

/// Puts a model into a directory as people do: beside and renamed.
fn install(dir: &Path, name: &str, bytes: &[u8]) {
    let file = ModelStore::new(Some(dir.into())).file(name).unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let beside = file.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, file).unwrap();
}

impl Changing {
    fn start() -> Changing {
        Changing::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Settings)) -> Changing {
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
        let reloader = runtime.block_on(async { Reloader::new(server.models(), &settings.models, None).unwrap() });
        runtime.spawn(reloader.run());
        runtime.spawn(server.run(std::future::pending()));
        Changing { dir, settings, address, models, runtime }
    }

    fn under_load(&self, work: impl FnOnce()) -> Vec<Answer> {
        under_load(&self.address.to_string(), work)
    }

    fn embedding(&self) -> Vec<f64> {
        embedding(&self.address.to_string())
    }
}

/// Asks all the time until `work` is done; the answers.
fn under_load(address: &str, work: impl FnOnce()) -> Vec<Answer> {
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
        // Threads that ask must end even if the work panics.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::SeqCst);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    answers.into_inner().unwrap()
}

/// What the service at `address` makes of the portrait.
fn embedding(address: &str) -> Vec<f64> {
    let body = json!({"images": {"data": [portrait64()]}});
    let response = client().post(format!("http://{address}/extract")).json(&body).send().unwrap();
    vector(&response.json().unwrap())
}

struct Answer {
    started: Instant,
    ended: Instant,
    outcome: Result<String, String>,
}

fn vector(answer: &Value) -> Vec<f64> {
    let vector = answer["data"][0]["faces"][0]["vec"].as_array().unwrap_or_else(|| panic!("{answer}"));
    vector.iter().map(|v| v.as_f64().unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn no_errors(answers: &[Answer]) {
    let failed: Vec<&String> = answers.iter().filter_map(|answer| answer.outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {}", failed.len(), answers.len(), failed[0]);
    for answer in answers {
        vector(&serde_json::from_str(answer.outcome.as_ref().unwrap()).unwrap());
    }
}

/// Whether recogniser and detector are the same ones.
fn same(a: &FaceAnalyzer, b: &FaceAnalyzer) -> (bool, bool) {
    let recognizers = Arc::ptr_eq(a.recognizer.as_ref().unwrap(), b.recognizer.as_ref().unwrap());
    (recognizers, Arc::ptr_eq(a.detector.as_ref().unwrap(), b.detector.as_ref().unwrap()))
}

#[test]
fn ten_files_that_change_under_load_are_taken_over_without_an_error() {
    let service = Changing::start_with(|settings| {
        install(settings.models.models_dir.0.as_deref().unwrap(), "seer", detector());
        settings.models.det_name = "seer".into();
    });
    let manifest = |function: &str| {
        let text = json!({"mine": {"function": function}}).to_string();
        let beside = service.dir.path().join("new.json");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, service.dir.path().join("models.json")).unwrap();
    };
    // As the colours come in another order, so does the same network give other numbers.
    let plain = service.embedding();
    let answers = service.under_load(|| {
        let mut swapped_colours = plain.clone();
        for round in 0..10 {
            let before = service.models.configured();
            // Another file with the same network: an unknown field at its end.
            let another = |bytes: &[u8]| [bytes, &[0xf8, 0x3f, round]].concat();
            match round % 4 {
                0 => manifest("adaface"),
                1 => install(service.dir.path(), "mine", &another(recognizer())),
                2 => manifest("arcface_torch"),
                _ => install(service.dir.path(), "seer", &another(detector())),
            }
            let started = Instant::now();
            while same(&before, &service.models.configured()) != (round % 4 == 3, round % 4 != 3) {
                assert!(started.elapsed() < Duration::from_secs(30), "round {round}: nothing has changed");
                std::thread::sleep(Duration::from_millis(5));
            }
            let now = service.embedding();
            if round == 0 {
                swapped_colours = now.clone();
                assert!(cosine(&now, &plain) < 0.99, "{}", cosine(&now, &plain));
            }
            let expected = if matches!(round, 0 | 1 | 4 | 5 | 8 | 9) { &swapped_colours } else { &plain };
            assert!(cosine(&now, expected) > 0.9999, "round {round}");
            drop(before);
        }
        // What does not work leaves the one before, whichever way it does not work.
        let serving = service.models.configured();
        for bad in [&b"no network"[..], &detector()[..100_000], recognizer()] {
            install(service.dir.path(), "seer", bad);
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(same(&serving, &service.models.configured()), (true, true));
        }
        for bad in [&b"no network"[..], &recognizer()[..100_000], detector()] {
            install(service.dir.path(), "mine", bad);
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(same(&serving, &service.models.configured()), (true, true));
        }
        std::fs::write(service.dir.path().join("models.json"), "{").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(same(&serving, &service.models.configured()), (true, true));
    });
    no_errors(&answers);
    assert!(answers.len() > 20, "only {} requests", answers.len());
}

#[test]
fn requests_are_answered_while_models_are_loaded() {
    let service = Changing::start();
    let change = |max_size: &str| {
        let mut models = service.settings.models.clone();
        models.max_size = max_size.parse().unwrap();
        service.runtime.block_on(service.models.change(&models)).unwrap();
    };
    let took = |answer: &Answer| answer.ended - answer.started;
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    // What requests take when nothing is loaded.
    let answers = service.under_load(|| std::thread::sleep(Duration::from_millis(700)));
    no_errors(&answers);
    let baseline = median(answers.iter().map(took).collect());
    // Another canvas: every network is prepared anew. Looked at while the larger one is, as the smaller one answers quickly.
    let mut windows = vec![];
    let answers = service.under_load(|| {
        for _ in 0..5 {
            let started = Instant::now();
            change("640,640");
            windows.push((started, Instant::now()));
            change("128,128");
        }
    });
    no_errors(&answers);
    let within: Vec<Duration> = answers
        .iter()
        .filter(|a| windows.iter().any(|(from, to)| a.started >= *from && a.started < *to))
        .map(took)
        .collect();
    assert!(!within.is_empty(), "nothing was answered");
    let (count, during) = (within.len(), median(within));
    let loading = median(windows.iter().map(|(from, to)| *to - *from).collect());
    println!("median {baseline:?} alone, {during:?} of {count} that came during loads of {loading:?}");
    // Loading takes cores from requests, on a busy machine more than its share, but none may wait for it to end.
    let bound = (baseline * 10).max(loading / 3);
    assert!(during < bound, "requests take {during:?} while models are loaded for {loading:?}; {baseline:?} else");
}

#[test]
fn a_file_that_is_written_over_in_place_does_not_disturb_the_network_in_use() {
    let service = Changing::start_with(|settings| {
        settings.models.max_size = "640,640".parse().unwrap();
        settings.models.rec_batch_size = 8;
    });
    let file = ModelStore::new(Some(service.dir.path().into())).file("mine").unwrap();
    std::fs::write(file, &recognizer()[..300_000]).unwrap();
    // Numbers of faces that were never asked for together need plans that were never prepared.
    let faces = api_support::base64(&api_support::three_faces());
    let body = json!({"images": {"data": [faces, faces, portrait64()]}});
    let response = client().post(format!("http://{}/extract", service.address)).json(&body).send().unwrap();
    let answer: Value = response.json().unwrap();
    for image in answer["data"].as_array().unwrap() {
        assert_eq!(image["status"], "ok", "{image}");
        assert!(image["faces"][0]["vec"].is_array());
    }
}

/// `ifr serve` as a process of its own.
struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    address: String,
}

impl Process {
    fn start(dir: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ifr"));
        for name in
            ["DET_NAME", "REC_NAME", "IFR_OFFLINE", "http_proxy", "HTTP_PROXY", "MAX_SIZE", "RELOAD", "ENV_FILE"]
        {
            command.env_remove(name);
        }
        command.args(["serve", "--host", "127.0.0.1", "--port", "0", "--max-size", "128,128", "--models-dir"]);
        let mut child = command.arg(dir).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sink, lines) = (log.clone(), BufReader::new(child.stderr.take().unwrap()).lines());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *sink.lock().unwrap() += &(line + "\n"))
        });
        let mut process = Process { child, log, address: String::new() };
        process.wait_for("listening");
        let log = process.log();
        let line = log.lines().find(|line| line.contains("listening")).unwrap();
        process.address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().into();
        process
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < Duration::from_secs(60), "no '{text}' in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let response = client().get(format!("http://{}{path}", self.address)).send().unwrap();
        (response.status().as_u16(), response.text().unwrap())
    }

    fn configured(&self) -> String {
        let info: Value = serde_json::from_str(&self.get("/info").1).unwrap();
        info["models"]["rec_name"].to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A manifest whose "far" is at a server that sends half of it, and the rest when told.
fn slow_model(dir: &Path) -> Arc<AtomicBool> {
    let go_on = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = format!("http://{}/far.onnx", listener.local_addr().unwrap());
    let told = go_on.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        api_support::read_head(&mut stream);
        let (first, rest) = recognizer().split_at(recognizer().len() / 2);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", recognizer().len()).unwrap();
        stream.write_all(first).unwrap();
        while !told.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stream.write_all(rest).unwrap();
    });
    let manifest = json!({"far": {"function": "arcface_torch", "link": link}});
    std::fs::write(dir.join("models.json"), manifest.to_string()).unwrap();
    go_on
}

#[test]
fn a_service_listens_at_once_and_says_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let go_on = slow_model(dir.path());
    let service = Process::start(dir.path(), &["--rec-name", "far"]);
    service.wait_for("fetching a model");
    let started = Instant::now();
    let (status, body) = service.get("/health");
    assert!(status == 503 && body.contains("far is being fetched"), "{status} {body}");
    let body = json!({"images": {"data": [portrait64()]}});
    let response = client().post(format!("http://{}/extract", service.address)).json(&body).send().unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(response.text().unwrap().contains("far is being fetched"));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(service.get("/docs").0, 200, "what needs no models is there");
    go_on.store(true, Ordering::SeqCst);
    service.wait_for(" ready");
    assert_eq!(service.get("/health").0, 200);
    assert!(service.log().contains("a model is installed"), "{}", service.log());
    let response = client().post(format!("http://{}/extract", service.address)).json(&body).send().unwrap();
    assert_eq!(vector(&response.json().unwrap()).len(), 512);
}

#[test]
fn a_model_that_cannot_be_had_ends_the_start_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = Process::start(dir.path(), &["--rec-name", "absent"]);
    assert_eq!(service.child.wait().unwrap().code(), Some(2));
    service.wait_for("no model named 'absent'");
}

#[cfg(unix)]
#[test]
fn a_hangup_takes_over_what_the_settings_say() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        install(dir.path(), name, recognizer());
    }
    let env: PathBuf = dir.path().join("settings.env");
    std::fs::write(&env, "REC_NAME=first\n").unwrap();
    let service = Process::start(dir.path(), &["--env-file", env.to_str().unwrap()]);
    service.wait_for(" ready");
    assert_eq!(service.configured(), "\"first\"");
    let hang_up = || {
        // SAFETY: sends a signal to the child that this test has started and not yet waited for.
        assert_eq!(unsafe { libc::kill(service.child.id() as i32, libc::SIGHUP) }, 0);
    };
    std::fs::write(&env, "REC_NAME=second\nMAX_SIZE=160,160\n").unwrap();
    hang_up();
    service.wait_for("the models have been changed");
    assert_eq!(service.configured(), "\"second\"");
    std::fs::write(&env, "REC_NAME=absent\n").unwrap();
    hang_up();
    service.wait_for("no model named 'absent'");
    std::fs::write(&env, "DET_BATCH_SIZE=none at all\n").unwrap();
    hang_up();
    service.wait_for("the settings are wrong");
    assert_eq!((service.configured().as_str(), service.get("/health").0), ("\"second\"", 200));
}

#[test]
#[cfg(unix)]
fn chaos_among_model_files_disturbs_no_request() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), "mine", recognizer());
    let file = ModelStore::new(Some(dir.path().into())).file("mine").unwrap();
    let (folder, manifest) = (file.parent().unwrap(), dir.path().join("models.json"));
    let service = Process::start(dir.path(), &["--rec-name", "mine", "--reload", "true", "--reload-interval", "0.05"]);
    service.wait_for(" ready");
    let plain = embedding(&service.address);
    let clean = || {
        let _ = std::fs::remove_dir_all(dir.path().join("onnx"));
        std::fs::create_dir_all(folder).unwrap();
    };
    let backwards: Vec<u8> = recognizer().iter().rev().copied().collect();
    let chaos: [(&str, &dyn Fn()); 9] = [
        ("cut off in place", &|| std::fs::write(&file, &recognizer()[..200_000]).unwrap()),
        ("no network", &|| std::fs::write(&file, &backwards).unwrap()),
        ("empty", &|| std::fs::write(&file, b"").unwrap()),
        ("removed", &|| std::fs::remove_file(&file).unwrap()),
        ("a directory", &|| std::fs::create_dir(&file).unwrap()),
        ("a link to itself", &|| {
            clean();
            std::os::unix::fs::symlink(&file, &file).unwrap();
        }),
        ("a network of another kind", &|| {
            clean();
            std::fs::write(&file, embedded("centerface").unwrap()).unwrap();
        }),
        ("a broken manifest", &|| std::fs::write(&manifest, b"{\"mine\": [").unwrap()),
        ("everything removed", &|| {
            std::fs::remove_file(&manifest).unwrap();
            std::fs::remove_dir_all(dir.path().join("onnx")).unwrap();
        }),
    ];
    let answers = under_load(&service.address, || {
        for (what, happens) in chaos {
            happens();
            std::thread::sleep(Duration::from_millis(400));
            assert!(cosine(&embedding(&service.address), &plain) > 0.9999, "{what}");
        }
        // What works again is taken over, as a change shows: the colours in another order.
        install(dir.path(), "mine", recognizer());
        std::fs::write(&manifest, json!({"mine": {"function": "adaface"}}).to_string()).unwrap();
        let started = Instant::now();
        while cosine(&embedding(&service.address), &plain) > 0.99 {
            assert!(started.elapsed() < Duration::from_secs(30), "not taken over:\n{}", service.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    no_errors(&answers);
    assert!(answers.len() > 20, "only {} requests", answers.len());
}
