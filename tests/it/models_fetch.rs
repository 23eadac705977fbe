//! Downloads from servers that are slow, send wrong data, disconnect, or require a confirmation.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::*;

use ifr::downloads::{self, Event, FetchError, FetchOptions};
use ifr::models::ModelStore;
use ifr::models::hash::sha256;

const MODEL: &[u8] = include_bytes!("../../models/onnx/mobilefacenet/mobilefacenet.onnx");

pub const LOCAL: &str = "127.0.0.1";

/// Sends the file from the requested position, at most `most` bytes of it.
pub fn send(request: &Request, stream: &mut TcpStream, body: &[u8], most: usize, extra: &str) {
    let start = request.start().min(body.len());
    let rest = &body[start..];
    let status = match start {
        0 => "200 OK".to_owned(),
        _ => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{}", body.len() - 1, body.len()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n", rest.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&rest[..most.min(rest.len())]));
}

fn page(stream: &mut TcpStream, status: &str, extra: &str, body: &str) {
    respond(stream, status, &format!("Content-Type: text/html; charset=utf-8\r\n{extra}"), body.as_bytes());
}

pub struct Fixture {
    pub dir: tempfile::TempDir,
    events: Arc<Mutex<Vec<Event>>>,
    pub options: FetchOptions,
}

impl Fixture {
    /// A models directory whose manifest has one model, `m`.
    pub fn new(entry: serde_json::Value) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let manifest = serde_json::json!({ "m": entry });
        std::fs::write(dir.path().join("models.json"), manifest.to_string()).unwrap();
        let events = Arc::new(Mutex::new(vec![]));
        let sink = events.clone();
        let options = FetchOptions {
            silence: Duration::from_secs(10),
            pause: Duration::from_millis(5),
            on_event: Arc::new(move |e| sink.lock().unwrap().push(e.clone())),
            ..FetchOptions::default()
        };
        Fixture { dir, events, options }
    }

    pub fn store(&self) -> ModelStore {
        ModelStore::new(Some(self.dir.path().into()))
    }

    fn pull(&self) -> Result<(), String> {
        downloads::pull(&self.store(), &["m".into()], &self.options).map_err(|e| e.to_string())
    }

    fn installed(&self) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join("onnx/m/m.onnx")).ok()
    }

    fn install(&self, bytes: &[u8]) {
        std::fs::create_dir_all(self.dir.path().join("onnx/m")).unwrap();
        std::fs::write(self.dir.path().join("onnx/m/m.onnx"), bytes).unwrap();
    }

    fn retries(&self) -> usize {
        self.events.lock().unwrap().iter().filter(|e| matches!(e, Event::Retry { .. })).count()
    }
}

/// The manifest entry of a model on `host`.
fn entry(host: &HttpHost, hash: Option<String>) -> serde_json::Value {
    serde_json::json!({ "function": "arcface_torch", "link": host.link("/m.onnx"), "sha256": hash })
}

#[test]
fn fetched_model_runs() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    fixture.pull().unwrap();
    assert_eq!(fixture.installed().as_deref(), Some(MODEL));
    assert_eq!(fixture.store().recognizer("m", 1).unwrap().dimension(), 512);
    // A correct file is not downloaded again.
    fixture.pull().unwrap();
    downloads::ensure(&fixture.store(), &["m", "centerface"], &fixture.options).unwrap();
    assert_eq!(host.count(), 1);
    let left: Vec<_> =
        std::fs::read_dir(fixture.dir.path().join("onnx/m")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|n| n == "m.onnx" || n == ".m.lock"), "{left:?}");
}

#[test]
fn broken_download_resumes() {
    let asked = Arc::new(Mutex::new(vec![]));
    let log = asked.clone();
    let host = HttpHost::start(LOCAL, move |request, number, stream| {
        log.lock().unwrap().push((request.start(), request.header("if-range").map(str::to_owned)));
        let most = if number < 3 { 1_000_000 } else { usize::MAX };
        send(request, stream, MODEL, most, "ETag: \"v1\"\r\n");
    });
    let fixture = Fixture::new(entry(&host, None));
    fixture.pull().unwrap();
    assert_eq!(fixture.installed().as_deref(), Some(MODEL));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked.windows(2).all(|w| w[1].0 > w[0].0), "each goes on where the one before broke off: {asked:?}");
    assert!(asked[1..].iter().all(|(_, version)| version.as_deref() == Some("\"v1\"")), "{asked:?}");
    assert!(fixture.retries() == 3);
}

#[test]
fn download_resumes_after_a_restart() {
    let first = Arc::new(AtomicUsize::new(usize::MAX));
    let start = first.clone();
    let host = HttpHost::start(LOCAL, move |request, number, stream| {
        if number > 0 {
            start.fetch_min(request.start(), Ordering::SeqCst);
        }
        send(request, stream, MODEL, if number == 0 { 2_000_000 } else { usize::MAX }, "");
    });
    let mut fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    fixture.options.attempts = 1;
    assert!(fixture.pull().unwrap_err().contains("broke off"));
    assert!(fixture.installed().is_none());
    fixture.pull().unwrap();
    assert_eq!(fixture.installed().as_deref(), Some(MODEL));
    assert!(first.load(Ordering::SeqCst) > 0, "the rest alone was asked for");
}

#[test]
fn part_of_another_file_starts_over() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    fixture.install(b"old");
    let folder = fixture.dir.path().join("onnx/m");
    std::fs::write(folder.join(".m.onnx.part"), vec![7u8; 1000]).unwrap();
    let origin = serde_json::json!({ "url": host.link("/m.onnx"), "version": null });
    std::fs::write(folder.join(".m.onnx.origin"), origin.to_string()).unwrap();
    fixture.pull().unwrap();
    assert_eq!(fixture.installed().as_deref(), Some(MODEL));
    assert_eq!(host.count(), 2);
}

#[test]
fn wrong_hash_keeps_the_old_file() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(entry(&host, Some("ab".repeat(32))));
    fixture.install(b"the old one");
    let message = fixture.pull().unwrap_err();
    assert!(message.contains(&"ab".repeat(32)) && message.contains(&sha256(MODEL)), "{message}");
    assert_eq!(fixture.installed().as_deref(), Some(&b"the old one"[..]));
    let md5 = serde_json::json!({ "link": host.link("/m.onnx"), "md5": "00".repeat(16) });
    let fixture = Fixture::new(md5);
    assert!(fixture.pull().unwrap_err().contains(&"00".repeat(16)));
    assert!(fixture.installed().is_none());
}

#[test]
fn html_pages_are_refused_without_a_hash() {
    let host = HttpHost::start(LOCAL, |_, _, stream| page(stream, "200 OK", "", "<title>Sign in</title>"));
    let fixture = Fixture::new(entry(&host, None));
    fixture.install(b"the old one");
    std::fs::remove_file(fixture.dir.path().join("onnx/m/m.onnx")).unwrap();
    assert!(fixture.pull().unwrap_err().contains("not a model"));
    assert!(fixture.installed().is_none());
}

#[test]
fn silent_server_times_out() {
    let host = HttpHost::start(LOCAL, |request, _, stream| {
        send(request, stream, MODEL, 1000, "");
        std::thread::sleep(Duration::from_secs(20));
    });
    let mut fixture = Fixture::new(entry(&host, None));
    fixture.options.silence = Duration::from_millis(500);
    fixture.options.attempts = 2;
    let started = std::time::Instant::now();
    let message = fixture.pull().unwrap_err();
    assert!(message.contains("in time"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(host.count() >= 2);
}

#[test]
fn slow_server_is_no_error() {
    let host = HttpHost::start(LOCAL, |request, _, stream| {
        send(request, stream, MODEL, 100_000, "");
        for piece in MODEL[100_000..].chunks(240_000) {
            std::thread::sleep(Duration::from_millis(200));
            let _ = stream.write_all(piece);
        }
    });
    // Each pause is far below the limit; their sum is above it.
    let mut fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    fixture.options.silence = Duration::from_secs(3);
    fixture.pull().unwrap();
    assert_eq!(fixture.retries(), 0);
}

#[test]
fn server_errors_are_retried_but_not_404() {
    let host = HttpHost::start(LOCAL, |request, number, stream| match number {
        0 => page(stream, "503 Service Unavailable", "", ""),
        1 => {} // hangs up
        _ => send(request, stream, MODEL, usize::MAX, ""),
    });
    let fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    fixture.pull().unwrap();
    assert_eq!(host.count(), 3);

    let host = HttpHost::start(LOCAL, |_, _, stream| page(stream, "404 Not Found", "", ""));
    let fixture = Fixture::new(entry(&host, None));
    assert!(fixture.pull().unwrap_err().contains("404"));
    assert_eq!(host.count(), 1, "there is no hope in asking again");
}

#[test]
fn dead_link_falls_back_to_the_next() {
    let host = HttpHost::start(LOCAL, |request, _, stream| match request.line().contains("/good") {
        true => send(request, stream, MODEL, usize::MAX, ""),
        false => page(stream, "410 Gone", "", ""),
    });
    let links = [host.link("/good")];
    let fixture = Fixture::new(serde_json::json!({ "link": host.link("/dead"), "links": links }));
    fixture.pull().unwrap();
    assert_eq!(fixture.installed().as_deref(), Some(MODEL));
}

#[test]
fn wrong_size_is_refused_before_the_download() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(serde_json::json!({ "link": host.link("/"), "size": 5 }));
    let message = fixture.pull().unwrap_err();
    assert!(message.contains("size") && message.contains(&MODEL.len().to_string()), "{message}");
}

#[test]
fn google_drive_confirmation_page_is_followed() {
    let host = HttpHost::start(LOCAL, |request, _, stream| {
        if request.line().contains("/download?") {
            assert!(
                request.line().contains("confirm=t")
                    && request.line().contains("uuid=u")
                    && request.line().contains("id=ID")
            );
            assert_eq!(request.header("cookie"), Some("NID=1"));
            send(request, stream, MODEL, usize::MAX, "Content-Type: application/octet-stream\r\n");
        } else {
            assert!(request.line().starts_with("GET /uc?export=download&id=ID "), "{}", request.line());
            let form = r#"<title>Virus scan warning</title><form id="download-form" action="/download" method="get">
                <input type="hidden" name="id" value="ID"><input type="hidden" name="confirm" value="t">
                <input type="hidden" name="uuid" value="u"></form>"#;
            page(stream, "200 OK", "Set-Cookie: NID=1; Path=/\r\n", form);
        }
    });
    let mut fixture = Fixture::new(serde_json::json!({ "link": "ID", "dl_type": "google", "sha256": sha256(MODEL) }));
    fixture.options.google = host.link("/uc");
    fixture.pull().unwrap();
    assert_eq!((fixture.installed().as_deref(), host.count()), (Some(MODEL), 2));
}

#[test]
fn google_drive_quota_message_is_shown() {
    let host = HttpHost::start(LOCAL, |_, _, stream| {
        page(stream, "200 OK", "", "<title>Google Drive - Quota exceeded</title>")
    });
    let mut fixture = Fixture::new(serde_json::json!({ "link": "ID", "dl_type": "google" }));
    fixture.options.google = host.link("/uc");
    let message = fixture.pull().unwrap_err();
    assert!(message.contains("Quota exceeded"), "{message}");
}

pub fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    for (name, bytes) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn archive_with_several_models_is_fetched_once() {
    let archive =
        zip_of(&[("pack/readme.txt", b"hello"), ("pack/a.onnx", MODEL), ("b.onnx", MODEL), ("text.onnx", b"x")]);
    let host = HttpHost::start(LOCAL, move |request, _, stream| send(request, stream, &archive, usize::MAX, ""));
    let fixture = Fixture::new(serde_json::json!({}));
    let link = |member: &str| host.link(&format!("/p.zip#{member}"));
    let manifest = serde_json::json!({
        "a": { "link": link("a.onnx"), "sha256": sha256(MODEL) },
        "b": { "link": link("b.onnx") },
        "c": { "link": link("absent.onnx") },
        "d": { "link": link("text.onnx") },
        "p": { "members": ["a", "b"] },
    });
    std::fs::write(fixture.dir.path().join("models.json"), manifest.to_string()).unwrap();
    let store = fixture.store();
    downloads::pull(&store, &["p".into()], &fixture.options).unwrap();
    assert_eq!(host.count(), 1, "one archive for both");
    assert!(store.names().contains(&"a".into()) && store.names().contains(&"b".into()));
    let archives = std::fs::read_dir(fixture.dir.path().join("onnx/.downloads")).unwrap().flatten();
    assert!(archives.into_iter().all(|f| f.path().extension().is_some_and(|e| e == "lock")), "the archive is gone");
    let message = downloads::pull(&store, &["c".into()], &fixture.options).unwrap_err().to_string();
    assert!(message.contains("absent.onnx") && message.contains("pack/a.onnx"), "{message}");
    assert!(downloads::pull(&store, &["d".into()], &fixture.options).unwrap_err().to_string().contains("not a model"));
}

#[test]
fn archive_is_removed_after_a_failed_pull() {
    let archive = zip_of(&[("a.onnx", MODEL)]);
    let host = HttpHost::start(LOCAL, move |request, _, stream| match request.line().contains("p.zip") {
        true => send(request, stream, &archive, usize::MAX, ""),
        false => page(stream, "404 Not Found", "", ""),
    });
    let fixture = Fixture::new(serde_json::json!({}));
    let manifest = serde_json::json!({
        "a": { "link": host.link("/p.zip#a.onnx") },
        "b": { "link": host.link("/b.onnx") },
    });
    std::fs::write(fixture.dir.path().join("models.json"), manifest.to_string()).unwrap();
    assert!(downloads::pull(&fixture.store(), &["a".into(), "b".into()], &fixture.options).is_err());
    let left = std::fs::read_dir(fixture.dir.path().join("onnx/.downloads")).unwrap().flatten();
    assert!(left.into_iter().all(|f| f.path().extension().is_some_and(|e| e == "lock")), "the archive is gone");
}

#[test]
fn first_download_pins_the_hash() {
    let host = HttpHost::start(LOCAL, |request, number, stream| match number {
        0 | 1 => send(request, stream, MODEL, usize::MAX, ""),
        _ => send(request, stream, &relu_network(), usize::MAX, ""),
    });
    let fixture = Fixture::new(entry(&host, None));
    let dir = fixture.dir.path();
    fixture.pull().unwrap();
    let pin = std::fs::read_to_string(dir.join("onnx/m/m.onnx.sha256")).unwrap();
    assert_eq!(pin, format!("{}  m.onnx\n", sha256(MODEL)));
    assert!(text(&ifr(dir, &["models", "verify", "m"], &[])).contains("m: ok"));
    // A damaged file is downloaded again.
    fixture.install(b"damaged");
    assert!(text(&ifr(dir, &["models", "verify", "m"], &[])).contains("DIFFERS: the first download's SHA-256"));
    fixture.pull().unwrap();
    assert_eq!(fixture.installed().as_deref(), Some(MODEL));
    // Another file at the same address is refused until the user removes the pinned one.
    fixture.install(b"damaged");
    let message = fixture.pull().unwrap_err();
    assert!(message.contains(&sha256(MODEL)) && message.contains(&sha256(&relu_network())), "{message}");
    fixture.store().remove("m").unwrap();
    assert!(!dir.join("onnx/m").exists());
    fixture.pull().unwrap();
    assert_eq!((host.count(), fixture.installed()), (4, Some(relu_network())));
}

#[test]
fn embedded_models_are_fetched_only_by_override() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(serde_json::json!({}));
    let offline = FetchOptions { offline: true, ..fixture.options.clone() };
    downloads::pull(&fixture.store(), &["centerface".into(), "mobilefacenet".into()], &offline).unwrap();
    let own = serde_json::json!({ "mobilefacenet": entry(&host, None) }).to_string();
    std::fs::write(fixture.dir.path().join("models.override.json"), own).unwrap();
    downloads::pull(&fixture.store(), &["mobilefacenet".into()], &fixture.options).unwrap();
    assert_eq!(host.count(), 1);
}

#[test]
fn removed_models_can_be_fetched_again() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(serde_json::json!({}));
    let own = serde_json::json!({ "own": entry(&host, None) }).to_string();
    std::fs::write(fixture.dir.path().join("models.override.json"), &own).unwrap();
    for _ in 0..2 {
        downloads::pull(&fixture.store(), &["own".into()], &fixture.options).unwrap();
        fixture.store().remove("own").unwrap();
        assert!(!fixture.dir.path().join("onnx/own").exists());
    }
    assert_eq!(std::fs::read_to_string(fixture.dir.path().join("models.override.json")).unwrap(), own);
}

#[test]
fn invalid_names_do_not_stop_list_and_verify() {
    let fixture = Fixture::new(serde_json::json!({}));
    let dir = fixture.dir.path();
    std::fs::write(dir.join("models.override.json"), r#"{"my model": {}, "a/b": {}, "x": {"reshape": 5}}"#).unwrap();
    std::fs::create_dir_all(dir.join("onnx/my model")).unwrap();
    std::fs::write(dir.join("onnx/my model/my model.onnx"), MODEL).unwrap();
    for arguments in [&["models", "list"][..], &["models", "verify"]] {
        let output = ifr(dir, arguments, &[]);
        let all = text(&output);
        assert!(output.status.success() && all.contains("centerface"), "{all}");
        assert!(all.contains("'a/b'") && all.contains("'x'") && all.contains("onnx/my model is left out"), "{all}");
    }
}

#[test]
fn unpublished_file_causes_a_warning() {
    let fixture = Fixture::new(serde_json::json!({ "size": 5, "function": "arcface_torch" }));
    fixture.install(MODEL);
    let arguments = ["extract", "--rec-name", "m", "--max-size", "128,128", PICTURE];
    let output = ifr(fixture.dir.path(), &arguments, &[]);
    assert!(output.status.success() && text(&output).contains("warning: m: "), "{}", text(&output));
}

#[test]
fn offline_and_license_stop_a_fetch() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let link = host.link("/");
    let mut fixture = Fixture::new(serde_json::json!({ "link": link, "license": "non-commercial research only" }));
    let error = downloads::pull(&fixture.store(), &["m".into()], &fixture.options).unwrap_err();
    assert!(matches!(&error, FetchError::License { .. }), "{error}");
    assert!(error.to_string().contains("non-commercial research") && error.to_string().contains("--accept-license"));
    fixture.options.accept_license = true;
    fixture.options.offline = true;
    let error = downloads::pull(&fixture.store(), &["m".into()], &fixture.options).unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }));
    assert!(downloads::ensure(&fixture.store(), &["m"], &fixture.options).is_err());
    assert_eq!(host.count(), 0);
    fixture.options.offline = false;
    fixture.pull().unwrap();
    let shown = fixture.events.lock().unwrap().iter().filter(|e| matches!(e, Event::License { .. })).count();
    assert_eq!(shown, 1);
}

/// `ifr` with a models directory.
fn ifr(dir: &Path, args: &[&str], environment: &[(&str, String)]) -> Output {
    let environment = environment.iter().map(|(name, value)| (*name, value.as_str()));
    command(args).env("MODELS_DIR", dir).envs(environment).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn models_subcommands() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let mut entry = entry(&host, Some(sha256(MODEL)));
    entry["license"] = "non-commercial".into();
    let fixture = Fixture::new(entry);
    let dir = fixture.dir.path();
    let refused = ifr(dir, &["models", "pull", "m"], &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("--accept-license"));
    let offline = ifr(dir, &["models", "pull", "--accept-license", "m"], &[("IFR_OFFLINE", "1".into())]);
    assert!(text(&offline).contains("IFR_OFFLINE") && host.count() == 0, "{}", text(&offline));
    let pulled = ifr(dir, &["models", "pull", "m", "--accept-license"], &[]);
    assert!(pulled.status.success() && text(&pulled).contains("installed as"), "{}", text(&pulled));
    let listed = text(&ifr(dir, &["models", "list"], &[]));
    let line = |name: &str| listed.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_default().to_owned();
    assert!(line("m").contains("installed") && line("centerface").contains("embedded"), "{listed}");
    assert!(line("glintr100").contains("available") && line("buffalo_l").contains("w600k_r50"), "{listed}");
    let json = text(&ifr(dir, &["models", "list", "--json"], &[]));
    assert!(json.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{json}");
    assert!(text(&ifr(dir, &["models", "verify"], &[])).contains("m: ok"));
    let info = text(&ifr(dir, &["models", "info", "m"], &[]));
    assert!(info.contains("1x3x112x112") && info.contains("conv") && info.contains("G multiply-adds"), "{info}");

    let mut broken = MODEL.to_vec();
    broken[3_000_000] ^= 1;
    fixture.install(&broken);
    let verified = ifr(dir, &["models", "verify", "m"], &[]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified).contains("DIFFERS"), "{}", text(&verified));

    let file = dir.join("own.onnx");
    std::fs::write(&file, MODEL).unwrap();
    let added = ifr(dir, &["models", "add", file.to_str().unwrap(), "--name", "own", "--function", "adaface"], &[]);
    assert!(added.status.success(), "{}", text(&added));
    let added = text(&ifr(dir, &["models", "list"], &[]));
    assert!(added.lines().any(|l| l.starts_with("own ") && l.contains("adaface")), "{added}");
    assert!(ifr(dir, &["models", "rm", "own"], &[]).status.success());
    assert_eq!(ifr(dir, &["models", "rm", "own"], &[]).status.code(), Some(2));
    assert_eq!(ifr(dir, &["models", "info", "nothing"], &[]).status.code(), Some(2));
}

#[test]
fn proxy_of_the_environment_is_used() {
    let host = HttpHost::start(LOCAL, |request, _, stream| {
        assert!(request.line().starts_with("GET http://models.invalid/m.onnx "), "{}", request.line());
        send(request, stream, MODEL, usize::MAX, "");
    });
    let fixture = Fixture::new(serde_json::json!({ "link": "http://models.invalid/m.onnx", "sha256": sha256(MODEL) }));
    let environment = [("http_proxy", host.link(""))];
    let pulled = ifr(fixture.dir.path(), &["models", "pull", "m"], &environment);
    assert!(pulled.status.success(), "{}", text(&pulled));
    assert_eq!(host.count(), 1);
}

#[test]
fn concurrent_processes_fetch_once() {
    let host = HttpHost::start(LOCAL, |request, _, stream| {
        std::thread::sleep(Duration::from_millis(200));
        send(request, stream, MODEL, usize::MAX, "");
    });
    let fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| ifr(fixture.dir.path(), &["models", "pull", "m"], &[]))).collect();
        pulls.into_iter().map(|p| p.join().unwrap()).collect()
    });
    assert!(outputs.iter().all(|o| o.status.success()), "{}", outputs.iter().map(text).collect::<String>());
    assert_eq!((host.count(), fixture.installed().as_deref()), (1, Some(MODEL)));
}

#[test]
fn extract_fetches_its_models() {
    let host = HttpHost::start(LOCAL, |request, _, stream| send(request, stream, MODEL, usize::MAX, ""));
    let fixture = Fixture::new(entry(&host, Some(sha256(MODEL))));
    let arguments = ["extract", "--rec-name", "m", "--max-size", "320,320", PICTURE];
    let output = ifr(fixture.dir.path(), &arguments, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("m: installed as"));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["faces"][0]["vec"].as_array().unwrap().len(), 512);
}
