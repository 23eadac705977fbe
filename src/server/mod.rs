//! The REST service, with the endpoints of InsightFace-REST.
//!
//! ```text
//! run                  the process: load models, answer, stop on signals
//! net                  accept, limits and time limits of connections, file descriptors
//!  └ http::pipeline    request id, CORS, API key, body limits, panics, access log
//!     └ http::router   finds the line of http::routes, the table of all endpoints
//!        ├ api         endpoints
//!        │  ├ schema         bodies and answers
//!        │  ├ ../models      configured and switchable models, reload
//!        │  ├ ../sources     pictures from URLs and paths
//!        │  ├ ../inference   front end of crate::schedule: queue, batches, workers
//!        │  └ ../health      readiness and self check
//!        └ pages       files stored in the program: /docs and /demo
//! telemetry            access log and metrics
//! ```

mod api;
mod health;
mod http;
mod inference;
mod models;
mod net;
mod pages;
mod run;
mod single_flight;
mod sources;
mod systemd;
mod telemetry;

pub use models::registry::ModelRegistry;
pub use models::reload::{ReadSettings, Reloader};
pub use run::serve;
pub use sources::http::{Lookup, SystemLookup};
pub use telemetry::access_log::init as init_logging;

/// Parsers of request bodies, for the fuzz targets only.
#[doc(hidden)]
pub mod fuzzing {
    pub use super::api::draw::read_form;
    pub use super::api::schema::request::{BodyDraw, BodyExtract};
    pub use super::api::schema::value::{Encoding, Value};
}

use crate::config::{Settings, SourceSettings};
use crate::downloads::FetchError;
use crate::image::DecodeLimits;
use crate::memory::Activity;
use crate::schedule::SchedulerConfig;
use health::readiness::Readiness;
use health::self_check::SelfCheck;
use http::auth::ApiKey;
use http::body_budget::BodyBudget;
use http::cors::Cors;
use http::pipeline::Pipeline;
use inference::Inference;
use net::accept;
use sources::file_root::ImageRoot;
use sources::http::{FetchHeaders, Fetcher, RefusedHeaders, SetupError};
use sources::images::ImageReader;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured model is missing or broken.
    #[error("{0}")]
    Model(#[from] FetchError),
    /// ROOT_IMAGES_DIR cannot be opened as a directory.
    #[error("ROOT_IMAGES_DIR {path}: {source}", path = .path.display())]
    ImageRoot {
        /// As configured.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Image fetching cannot be set up.
    #[error(transparent)]
    Fetch(#[from] SetupError),
    /// DEF_IMG_REQ_HEADERS has a header that is not allowed.
    #[error("DEF_IMG_REQ_HEADERS: {0}")]
    Headers(#[from] RefusedHeaders),
    /// The port is in use, or this user must not open it.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The system refuses threads or signal handlers.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// The state that all requests share.
pub struct State {
    /// The settings at the start. Model settings may have changed since: see `models`.
    pub settings: Settings,
    /// Configured and switchable models.
    pub models: Arc<ModelRegistry>,
    /// Front end of the scheduler, for all inference.
    pub inference: Inference,
    /// Reads pictures from URLs, paths and bodies.
    pub images: ImageReader,
    /// Maximum number of bytes that all bodies may hold (MAX_BODIES_IN_MEMORY).
    pub budget: BodyBudget,
    /// The API key, if clients must send one.
    pub api_key: Option<ApiKey>,
    /// Rules for cross-origin requests of browsers.
    pub cors: Cors,
    /// The self check of `GET /health`.
    pub health: SelfCheck,
    /// Whether the service accepts requests.
    pub readiness: Readiness,
    /// Counters and histograms.
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

/// A service whose port is open. [`Server::run`] answers requests.
pub struct Server {
    listener: TcpListener,
    pipeline: Pipeline,
    state: Arc<State>,
    settings: Settings,
}

impl Server {
    /// Opens the port and loads the models. Connections wait until [`Server::run`].
    pub async fn bind(settings: Settings) -> Result<Self, StartError> {
        Self::bind_with(settings, Arc::new(SystemLookup::new())).await
    }

    /// Like [`Server::bind`]; `lookup` resolves the names of image hosts.
    pub async fn bind_with(settings: Settings, lookup: Arc<dyn Lookup>) -> Result<Self, StartError> {
        let server = Self::listen(settings, lookup).await?;
        server.state.models.change(&server.settings.models).await?;
        server.state.readiness.set_ready();
        Ok(server)
    }

    /// Opens the port without models: see [`Server::models`]. Until models are loaded, requests for them are answered
    /// 503.
    pub async fn listen(settings: Settings, lookup: Arc<dyn Lookup>) -> Result<Self, StartError> {
        let address = SocketAddr::new(settings.host, settings.port);
        let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let models = Arc::new(ModelRegistry::new());

        let headers = FetchHeaders::new(&settings.defaults.img_req_headers.0)?;
        // Reads a directory and possibly a certificate file, which can take long.
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

    /// The models, which can be loaded and changed while requests are answered.
    pub fn models(&self) -> Arc<ModelRegistry> {
        self.state.models.clone()
    }

    /// The address that the service listens on, with the actual port if the configured one is 0.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` is ready, then waits for requests in flight, as long as the settings allow.
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

/// Opens ROOT_IMAGES_DIR and sets image fetching up.
fn open_sources(sources: &SourceSettings, lookup: Arc<dyn Lookup>) -> Result<(ImageRoot, Fetcher), StartError> {
    let root = ImageRoot::new(sources.root_images_dir.as_deref(), sources.max_image_size).map_err(|source| {
        StartError::ImageRoot { path: sources.root_images_dir.0.clone().unwrap_or_default(), source }
    })?;
    Ok((root, Fetcher::new(sources, lookup)?))
}
