//! Log lines: text or JSON on standard error, one per request, never with image bytes, embeddings or keys.

use crate::config::{LogFormat, Settings};
use crate::server::http::routes;
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

/// What a request turned out to be: handlers attach it to their answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Pictures in the request.
    pub images: usize,
    /// Pictures that could not be read or analysed.
    pub failed: usize,
    /// Faces found.
    pub faces: usize,
}

/// The log line of a request.
pub fn request(id: &str, method: &str, path: &str, status: u16, work: Work, took: Duration) {
    let milliseconds = (took.as_secs_f64() * 1e4).round() / 10.0;
    let Work { images, failed, faces } = work;
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
