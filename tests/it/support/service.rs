//! A service inside the test's process, on a port of its own.

use super::Measured;
use futures_util::future::BoxFuture;
use ifr::config::Settings;
use ifr::server::{Lookup, Server, SystemLookup};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

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

impl Measured for Service {
    fn metrics(&self) -> String {
        self.get("/metrics").text().unwrap()
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
