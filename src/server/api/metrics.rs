//! `GET /metrics`: counters, gauges and histograms for Prometheus.

use crate::server::State;
use crate::server::api::schema::response::Problem;
use crate::server::http::error::ApiError;
use crate::server::http::handler::{Answer, Handler, shared};
use crate::server::http::responses::with_type;
use crate::server::telemetry::metrics::{CONTENT_TYPE, Snapshot};
use std::sync::Arc;
use warp::Filter;

/// The route of `GET /metrics`.
pub fn route(state: &Arc<State>) -> Handler {
    shared(state).then(metrics).boxed()
}

/// Metrics
///
/// Counts of requests, images, faces and failures, times of each stage, queue and memory, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics_metrics_get", tag = "Utility",
    responses(
        (status = 200, description = "Metrics in the text format of Prometheus", body = String, content_type = "text/plain"),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
async fn metrics(state: Arc<State>) -> Answer {
    let load = state.inference.status();
    let now = Snapshot {
        waiting: load.waiting,
        capacity: load.capacity,
        workers: load.workers,
        busy: load.busy,
        pixels: load.pixels,
        models: state.models.loaded(),
        ready: state.readiness.check().is_ok(),
    };
    let page = state.metrics.page(now).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(with_type(page, CONTENT_TYPE))
}
