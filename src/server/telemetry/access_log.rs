//! Log lines: text or JSON on standard error, one per request, never with image bytes, embeddings or keys.

use crate::config::{LogFormat, Settings};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Starts logging as the settings say. A second call changes nothing.
pub fn init(settings: &Settings) {
    let level = settings.log_level.0;
    // Libraries speak only of warnings: their debug lines may hold what clients sent.
    let filter = EnvFilter::new(format!("warn,hyper=error,tract_onnx=error,tract_core=error,ifr={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match settings.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Counts of one request. Handlers store them in the extensions of their answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestStats {
    /// Pictures in the request.
    pub images: usize,
    /// Pictures that could not be read or analyzed.
    pub failed: usize,
    /// Faces found.
    pub faces: usize,
}

/// One line of the access log.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// Request id.
    pub id: &'a str,
    /// Method of the request.
    pub method: &'a str,
    /// Path of the request, as the client sent it.
    pub path: &'a str,
    /// Successful requests of the route are logged at debug level only.
    pub quiet: bool,
    /// Status of the answer.
    pub status: u16,
    /// Counts of the handler.
    pub stats: RequestStats,
    /// Time from the head of the request to the answer.
    pub took: Duration,
}

impl LogEntry<'_> {
    /// Writes the line: at error level for 5xx, otherwise at info or debug level.
    pub fn write(self) {
        let LogEntry { id: request_id, method, path, quiet, status, stats, took } = self;
        let RequestStats { images, failed, faces } = stats;
        let ms = (took.as_secs_f64() * 1e4).round() / 10.0;
        let path = crate::text::for_message(path);
        if status < 400 && quiet {
            tracing::debug!(request_id, method, path, status, ms, "request");
        } else if status >= 500 {
            tracing::error!(request_id, method, path, status, images, failed, faces, ms, "request");
        } else {
            tracing::info!(request_id, method, path, status, images, failed, faces, ms, "request");
        }
    }
}
