//! Logging to standard error as text or JSON, with one line per request. Image bytes, embeddings and keys are never
//! logged.

use crate::config::{LogFormat, Settings};
use crate::server::http::routes;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Starts logging with the level and the format of the settings. A second call has no effect.
pub fn init(settings: &Settings) {
    let level = settings.log_level.0;
    // Only warnings of libraries: their debug lines may contain data of clients.
    let filter = EnvFilter::new(format!("warn,hyper=error,tract_onnx=error,tract_core=error,ifr={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match settings.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging has been started before");
    }
}

/// Counts of a request. Handlers attach them to their responses.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestStats {
    /// Number of pictures in the request.
    pub images: usize,
    /// Number of pictures that could not be read or analyzed.
    pub failed: usize,
    /// Number of faces found.
    pub faces: usize,
}

/// Writes the log line of a request. Successful requests of quiet routes are logged at DEBUG.
pub fn request(id: &str, method: &str, path: &str, status: u16, work: RequestStats, took: Duration) {
    let milliseconds = (took.as_secs_f64() * 1e4).round() / 10.0;
    let RequestStats { images, failed, faces } = work;
    let quiet = routes::find(path).is_some_and(|route| route.quiet);
    let path = crate::text::for_message(path);
    if status < 400 && quiet {
        tracing::debug!(request_id = id, method, path, status, ms = milliseconds, "request");
    } else if status >= 500 {
        tracing::error!(request_id = id, method, path, status, images, failed, faces, ms = milliseconds, "request");
    } else {
        tracing::info!(request_id = id, method, path, status, images, failed, faces, ms = milliseconds, "request");
    }
}
