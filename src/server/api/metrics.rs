//! `GET /metrics`: counters, gauges and histograms for Prometheus.

use crate::server::State;
use crate::server::api::schema::response::Problem;
use crate::server::http::handler::{Answer, Handler, shared};
use crate::server::telemetry::metrics::{self, Snapshot};
use std::sync::Arc;
use warp::Filter;
use warp::http::{HeaderValue, header};
use warp::reply::Response;

/// The route of `GET /metrics`.
pub fn route(state: &Arc<State>) -> Handler {
    shared(state).then(metrics).boxed()
}

/// Metrics
///
/// Requests, images, faces, failures, the time of each stage, queue and memory, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics_metrics_get", tag = "Utility",
    responses(
        (status = 200, description = "In the text format of Prometheus", body = String, content_type = "text/plain"),
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
    let mut response = Response::new(state.metrics.page(now).into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(response)
}
