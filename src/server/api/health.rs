//! `GET /health`, `/health/live` and `/health/ready`.

use crate::server::State;
use crate::server::api::schema::response::{Health, Problem};
use crate::server::health::self_check::CheckFailure;
use crate::server::http::error::ApiError;
use crate::server::http::handler::{Answer, Handler, shared};
use crate::server::http::responses;
use crate::server::inference::api_error;
use std::sync::Arc;
use warp::Filter;

/// The route of `GET /health`.
pub fn route(state: &Arc<State>) -> Handler {
    shared(state).then(health).boxed()
}

/// The route of `GET /health/live`.
pub fn live_route(_: &Arc<State>) -> Handler {
    warp::any().then(live).boxed()
}

/// The route of `GET /health/ready`.
pub fn ready_route(state: &Arc<State>) -> Handler {
    shared(state).then(ready).boxed()
}

/// Check Health
///
/// Execute recognition request with default parameters to verify recognition is actually working
#[utoipa::path(
    get, path = "/health", operation_id = "check_health_health_get", tag = "Utility",
    responses(
        (status = 200, description = "Successful Response", body = Health),
        (status = 500, description = "Recognition does not work; the answer has the reason", body = Problem),
        (status = 503, description = "The models are not loaded yet; the answer has the present step", body = Problem),
    ),
)]
async fn health(state: Arc<State>) -> Answer {
    state.models.readiness().map_err(|reason| ApiError::Overloaded(reason.to_string()))?;
    match state.health.result(&state).await {
        Ok(()) => responses::json(&Health { status: "ok".into() }),
        Err(CheckFailure::Schedule(error)) => Err(api_error(error, state.settings.limits.request_timeout)),
        Err(failure) => {
            tracing::error!(%failure, "the self check failed");
            Err(ApiError::Internal(format!("self check failed: {failure}")))
        }
    }
}

/// Live
///
/// Shows that the process answers, under any load. Needs no API key.
#[utoipa::path(
    get, path = "/health/live", operation_id = "live_health_live_get", tag = "Utility",
    responses((status = 200, description = "Successful Response", body = Health)),
)]
async fn live() -> Answer {
    responses::json(&Health { status: "ok".into() })
}

/// Ready
///
/// Shows that the service accepts requests: the models are loaded, and the service is not stopping. Needs no API key.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "ready_health_ready_get", tag = "Utility",
    responses(
        (status = 200, description = "Successful Response", body = Health),
        (status = 503, description = "The service does not accept requests; the answer has the reason", body = Problem),
    ),
)]
async fn ready(state: Arc<State>) -> Answer {
    // The registry's reason comes first: it names the models that are being loaded.
    let ready = state.models.readiness().and_then(|()| state.readiness.check());
    ready.map_err(|reason| ApiError::Overloaded(reason.to_string()))?;
    responses::json(&Health { status: "ok".into() })
}
