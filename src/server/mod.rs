//! The REST service: InsightFace-REST's addresses and answers on warp.
//!
//! ```text
//! descriptors (room for sockets)
//! listener (which connections there may be) ─ connection, phase, watched (what each does, and for how long)
//!   └ gateway (request id, CORS, API key, body limits, panics, log line)
//!       └ routes ─ handlers ─ body + schema (what is asked)
//!                           ─ images ─ fetch + address, paths (where pictures come from)
//!                           ─ models, model_cache, reload (who answers, and when that changes)
//!                           ─ inference (the only door to the analyzer)
//!                               └ schedule (queue, batches, workers)
//!                           ─ answer (the original's shapes)
//!                  ─ docs + swagger, demo + packed (pages out of the program itself)
//!                  ─ health, readiness, metrics (what others see of it)
//!   └ rest (memory, when a burst is over)
//! ```

pub mod api;
pub mod health;
pub mod http;
pub mod inference;
pub mod models;
pub mod net;
pub mod pages;
pub mod single_flight;
pub mod sources;
pub mod systemd;
pub mod telemetry;

use crate::config::{Settings, Sources};
use crate::downloads::FetchError;
use crate::image::DecodeLimits;
use crate::memory::{self, Activity};
use crate::schedule::SchedulerConfig;
use health::readiness::Readiness;
use health::self_check::SelfCheck;
use http::auth::ApiKey;
use http::body_budget::BodyBudget;
use http::cors::Cors;
use http::pipeline::Pipeline;
use inference::Inference;
use models::registry::ModelRegistry;
use models::reload::{ReadSettings, Reloader};
use net::{accept, fd_limit};
use sources::file_root::ImageRoot;
use sources::http::{FetchHeaders, Fetcher, Lookup, RefusedHeaders, SetupError, SystemLookup};
use sources::images::ImageReader;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured model is missing or broken.
    #[error("{0}")]
    Model(#[from] FetchError),
    /// ROOT_IMAGES_DIR is no directory.
    #[error("ROOT_IMAGES_DIR {path}: {source}", path = .path.display())]
    ImageRoot {
        /// As set.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Image fetching cannot be set up.
    #[error(transparent)]
    Fetch(#[from] SetupError),
    /// DEF_IMG_REQ_HEADERS has a header that cannot be sent.
    #[error("DEF_IMG_REQ_HEADERS: {0}")]
    Headers(#[from] RefusedHeaders),
    /// The port is taken, or not for this user.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no threads or signals.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// What all requests share.
pub struct State {
    /// As started.
    pub settings: Settings,
    /// The networks.
    pub models: Arc<ModelRegistry>,
    /// The door to them.
    pub inference: Inference,
    /// Reads pictures.
    pub images: ImageReader,
    /// Bytes that bodies may hold.
    pub budget: BodyBudget,
    /// The key that clients must send, if any.
    pub api_key: Option<ApiKey>,
    /// Which origins browsers may call from.
    pub cors: Cors,
    /// The self check.
    pub health: SelfCheck,
    /// Whether requests are taken.
    pub readiness: Readiness,
    /// What has been counted.
    pub metrics: Arc<Metrics>,
}

impl State {
    /// The present load.
    fn activity(&self) -> Activity {
        let status = self.inference.status();
        let idle = status.busy + status.waiting == 0 && self.metrics.in_flight() == 0;
        Activity { idle, requests: self.metrics.requests_so_far() }
    }
}

/// A service that listens but does not answer yet.
pub struct Server {
    listener: TcpListener,
    pipeline: Pipeline,
    state: Arc<State>,
    settings: Settings,
}

impl Server {
    /// Loads the models and opens the port. Connections wait until [`Server::run`].
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        Self::bind_with(settings, Arc::new(SystemLookup::new())).await
    }

    /// Like [`Server::bind`], with names of image hosts resolved by `lookup`.
    pub async fn bind_with(settings: Settings, lookup: Arc<dyn Lookup>) -> Result<Self, StartError> {
        let server = Self::listen(settings, lookup).await?;
        server.state.models.change(&server.settings.models).await?;
        server.state.readiness.set_ready();
        Ok(server)
    }

    /// Opens the port and loads no models: see [`Server::models`]. Until there are some, requests for them are answered 503.
    pub async fn listen(settings: Settings, lookup: Arc<dyn Lookup>) -> Result<Self, StartError> {
        let address = SocketAddr::new(settings.host, settings.port);
        let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let models = Arc::new(ModelRegistry::new());

        let headers = FetchHeaders::new(&settings.defaults.img_req_headers.0)?;
        // Reads a directory and perhaps a certificate file, which is not for a runtime thread.
        let (root, fetcher) = tokio::task::spawn_blocking({
            let sources = settings.sources.clone();
            move || open_sources(&sources, lookup)
        })
        .await
        .map_err(|error| StartError::Runtime(error.into()))??;
        let images = ImageReader::new(fetcher, root, headers);
        let limits = &settings.limits;
        let metrics = Arc::new(Metrics::default());
        let config = SchedulerConfig {
            workers: settings.models.num_workers,
            queue: limits.queue_size,
            batch: settings.models.det_batch_size.max(settings.models.rec_batch_size),
            delay: settings.models.batch_delay,
            limits: DecodeLimits { max_pixels: limits.max_megapixels.saturating_mul(1_000_000) },
        };
        let state = Arc::new(State {
            models,
            inference: Inference::start(config, metrics.clone()).map_err(StartError::Runtime)?,
            readiness: Readiness::starting("the models are not loaded yet"),
            metrics,
            images,
            budget: BodyBudget::new(limits.max_bodies_in_memory),
            api_key: settings.access.api_key.0.as_ref().map(ApiKey::new),
            cors: Cors::new(&settings.access.cors_origins),
            health: SelfCheck::default(),
            settings: settings.clone(),
        });
        Ok(Server { listener, pipeline: Pipeline::new(state.clone()), state, settings })
    }

    /// The networks, which may be loaded and changed while requests are answered.
    pub fn models(&self) -> Arc<ModelRegistry> {
        self.state.models.clone()
    }

    /// Where it listens; tells the port if it was 0.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is ready, then lets requests in flight finish.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (sender, receiver) = watch::channel(false);
        let state = self.state;
        let accepting = accept::run(self.listener, self.pipeline, self.settings.limits, receiver);
        let stopping = async {
            stop.await;
            state.readiness.set_stopping();
            // The receiver lives as long as the accept loop, which `join!` waits for.
            let _ = sender.send(true);
        };
        tokio::join!(accepting, stopping);
    }
}

/// Runs the service until SIGTERM or SIGINT. The port is open at once; the models are loaded meanwhile.
///
/// SIGHUP applies the model settings that `read_settings` returns, and `--reload` watches the model files. Errs when a model is missing or broken at the start.
pub fn serve(mut settings: Settings, read_settings: Option<ReadSettings>) -> Result<(), StartError> {
    fd_limit::prepare(&mut settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::Runtime)?;
    let ended = runtime.block_on(async {
        let stop = stop_signal().map_err(StartError::Runtime)?;
        let server = Server::listen(settings, Arc::new(SystemLookup::new())).await?;
        let address = server.local_addr().map_err(StartError::Runtime)?;
        tracing::info!(%address, "listening");
        let reloader = Reloader::new(server.models(), &server.settings.models, read_settings);
        let reloader = reloader.map_err(StartError::Runtime)?;
        let (fail, failed) = oneshot::channel();
        tokio::spawn(load(server.state.clone(), address, reloader, fail));
        let measured = server.state.clone();
        tokio::spawn(memory::trim_periodically(move || measured.activity()));
        let mut failure = None;
        let stop = async {
            tokio::select! {
                () = stop => {}
                Ok(error) = failed => failure = Some(error),
            }
            systemd::send(systemd::STOPPING);
        };
        server.run(stop).await;
        tracing::info!("stopped");
        failure.map_or(Ok(()), |error| Err(StartError::Model(error)))
    });
    // What still runs belongs to nobody: a file on a dead network drive must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Loads the first models, says so, and follows changes from then on.
async fn load(state: Arc<State>, address: SocketAddr, mut reloader: Reloader, fail: oneshot::Sender<FetchError>) {
    let settings = &state.settings.models;
    let load = async {
        reloader.note_files().await;
        state.models.change(settings).await
    };
    let loaded = tokio::select! {
        loaded = load => loaded,
        never = systemd::ask_for_time() => match never {},
    };
    if let Err(error) = loaded {
        // Without a receiver the service has been stopped already.
        let _ = fail.send(error);
        return;
    }
    let recognizer = settings.rec_name.as_deref().unwrap_or("None");
    state.readiness.set_ready();
    tracing::info!(%address, det_name = settings.det_name, rec_name = recognizer, "ready");
    systemd::send(systemd::READY);
    tokio::spawn(systemd::feed_watchdog());
    reloader.run().await;
}

/// Opens ROOT_IMAGES_DIR and sets image fetching up.
fn open_sources(sources: &Sources, lookup: Arc<dyn Lookup>) -> Result<(ImageRoot, Fetcher), StartError> {
    let root = ImageRoot::new(sources.root_images_dir.as_deref(), sources.max_image_size).map_err(|source| {
        StartError::ImageRoot { path: sources.root_images_dir.0.clone().unwrap_or_default(), source }
    })?;
    Ok((root, Fetcher::new(sources, lookup)?))
}

#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing requests in flight"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing requests in flight"),
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a way to be told, the service runs until it is ended from outside.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
