//! A service inside the test's process, on a port of its own, and what tests send to it.

#![allow(dead_code)] // every test program uses its own part

pub mod program;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use ifr::config::Settings;
use ifr::server::Server;
use ifr::server::sources::http::{Lookup, SystemLookup};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::io::{Cursor, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

#[path = "../common/mod.rs"]
mod common;

/// A running service; stops when dropped.
pub struct Service {
    pub address: SocketAddr,
    pub client: Client,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts with default settings on loopback, changed by `change`.
    pub fn start(change: impl FnOnce(&mut Settings)) -> Service {
        Service::start_with(Arc::new(SystemLookup::new()), change)
    }

    /// Like `start`, with names of image hosts resolved by `lookup`.
    pub fn start_with(lookup: Arc<dyn Lookup>, change: impl FnOnce(&mut Settings)) -> Service {
        let mut settings = Settings::defaults();
        settings.host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        settings.port = 0;
        // Faces of the test pictures are large; a small canvas keeps the tests short.
        settings.models.max_size = "320,320".parse().unwrap();
        change(&mut settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let server = Server::bind_with(settings, lookup).await.unwrap();
                started.send(server.local_addr().unwrap()).unwrap();
                server
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        let address = address.recv().expect("the service starts");
        Service { address, client: client(), stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).json(body).send().unwrap()
    }

    /// `POST /extract`, which must answer 200.
    pub fn extract(&self, body: Value) -> Value {
        let response = self.post("/extract", &body);
        let status = response.status();
        let text = response.text().unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// `POST /extract` with one URL or path: the entry of that image.
    pub fn extract_url(&self, url: &str) -> Value {
        self.extract(json!({"images": {"urls": [url]}, "extract_embedding": false}))["data"][0].clone()
    }

    /// The sentence on why one URL or path could not be read.
    pub fn refusal(&self, url: &str) -> String {
        let image = self.extract_url(url);
        assert_eq!(image["status"], "failed", "{url} was read: {image}");
        assert_eq!(image["faces"], json!([]));
        image["traceback"].as_str().unwrap().to_string()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// What has a page of metrics.
pub trait Measured {
    fn metrics(&self) -> String;
}

impl Measured for Service {
    fn metrics(&self) -> String {
        self.get("/metrics").text().unwrap()
    }
}

/// The value of a metric, as it stands on the page: with its labels. None before anything was counted under them.
pub fn metric_if_any(service: &impl Measured, name: &str) -> Option<f64> {
    let page = service.metrics();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(|value| value.parse().unwrap())
}

/// The value of a metric that is there.
pub fn metric(service: &impl Measured, name: &str) -> f64 {
    metric_if_any(service, name).unwrap_or_else(|| panic!("{name} is not on the page"))
}

/// Waits until a metric is as it should be.
pub fn until(service: &impl Measured, name: &str, is_right: impl Fn(f64) -> bool) -> f64 {
    let started = Instant::now();
    loop {
        let value = metric_if_any(service, name);
        if let Some(value) = value.filter(|value| is_right(*value)) {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{name} stays {value:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One service for all tests that need no settings of their own.
pub fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::start(|_| {}))
}

/// Name servers that say what a test wants, a different answer each time if there are several.
#[derive(Default)]
pub struct FakeNames {
    answers: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: Mutex<HashMap<String, usize>>,
}

impl FakeNames {
    pub fn with(mut self, host: &str, answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        self.answers.insert(host.into(), answers.iter().map(parse).collect());
        self
    }
}

impl Lookup for FakeNames {
    fn lookup(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>>> {
        let mut asked = self.asked.lock().unwrap();
        let number = asked.entry(host.clone()).or_default();
        let answer = self.answers.get(&host).map(|answers| answers[(*number).min(answers.len() - 1)].clone());
        *number += 1;
        Box::pin(async move { answer.ok_or_else(|| format!("{host} is unknown").into()) })
    }
}

/// A service that may fetch from 127.0.0.2, which stands for the public internet; 127.0.0.1 stays forbidden.
pub fn with_internet(names: FakeNames, change: impl FnOnce(&mut Settings)) -> Service {
    Service::start_with(Arc::new(names), |settings| {
        settings.sources.allow_nets = "127.0.0.2".parse().unwrap();
        // Long enough for every attempt, on a slow machine, too.
        settings.sources.fetch_timeout = Duration::from_secs(30);
        change(settings);
    })
}

/// A client that goes straight to the service.
pub fn client() -> Client {
    // A second test in the same process finds it installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(120)).build().unwrap()
}

/// The picture of the health check: one face.
pub fn portrait() -> &'static [u8] {
    ifr::models::health_picture()
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn portrait64() -> String {
    base64(portrait())
}

/// The portrait as the images of a request.
pub fn data() -> Value {
    json!({"data": [portrait64()]})
}

/// The names of an object's fields, sorted.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Three times the portrait side by side, each smaller than the one before: three faces of different sizes.
pub fn three_faces() -> Vec<u8> {
    let portrait = image::load_from_memory(portrait()).unwrap().to_rgb8();
    let (w, h) = portrait.dimensions();
    let mut canvas = image::RgbImage::new(w * 9 / 4, h);
    let mut x = 0;
    for divisor in [1.0f32, 1.5, 2.0] {
        let (tw, th) = ((w as f32 / divisor) as u32, (h as f32 / divisor) as u32);
        let smaller = image::imageops::resize(&portrait, tw, th, image::imageops::FilterType::Triangle);
        image::imageops::overlay(&mut canvas, &smaller, x, 0);
        x += i64::from(tw);
    }
    encode(&canvas, image::ImageFormat::Jpeg)
}

/// A picture without a face.
pub fn empty_scene() -> Vec<u8> {
    let gradient = image::RgbImage::from_fn(200, 150, |x, y| image::Rgb([x as u8, y as u8, 128]));
    encode(&gradient, image::ImageFormat::Png)
}

pub fn encode(picture: &image::RgbImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A file of the test data that is not part of this repository; None, with a message, when it is not there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("IFR_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let full = root.join(path);
    if !full.exists() {
        common::missing_data(&format!("{} is not there (set IFR_TEST_DATA)", full.display()));
        return None;
    }
    full.canonicalize().ok()
}

/// The names of an object's fields, in the order they were written in.
pub fn keys_in_order(json: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Keys;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, serde::de::IgnoredAny)) = map.next_entry()? {
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Keys>(json).unwrap().0
}

/// A server that image URLs point to: answers every connection with what `answer` makes of the request's head.
pub struct ImageHost {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
}

impl ImageHost {
    /// Listens on `ip`. `answer` gets the head, the number of the request (from 0) and the stream to write to.
    pub fn start(ip: &str, answer: impl Fn(&str, usize, &mut TcpStream) + Send + Sync + 'static) -> ImageHost {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (answer, counter) = (answer.clone(), counter.clone());
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    if head.is_empty() {
                        return;
                    }
                    let number = counter.fetch_add(1, Ordering::SeqCst);
                    answer(&head, number, &mut stream);
                });
            }
        });
        ImageHost { address, requests }
    }

    /// Always answers the same.
    pub fn serving(ip: &str, status: &'static str, headers: &'static str, body: Vec<u8>) -> ImageHost {
        ImageHost::start(ip, move |_, _, stream| respond(stream, status, headers, &body))
    }

    pub fn url(&self) -> String {
        format!("http://{}/face.jpg", self.address)
    }

    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A whole answer; the client may be gone already, which is often the point of the test.
pub fn respond(stream: &mut impl Write, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}
