//! Inputs of extraction and drawing: models and pictures, each before the deadline of the request.

use crate::analyzer::FaceAnalyzer;
use crate::server::State;
use crate::server::api::schema::request::{ImageData, Images, ModelChoice};
use crate::server::http::context::Context;
use crate::server::http::error::ApiError;
use crate::server::sources::http::FetchHeaders;
use crate::server::telemetry::metrics::Stage;
use std::time::Instant;
use tokio::time::timeout_at;

/// The models of a request. Errs with 504 if they are not loaded before the deadline.
pub async fn choose_models(state: &State, context: &Context, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
    let timeout = ApiError::Timeout(context.deadline.allowed.as_secs());
    timeout_at(context.deadline.at, state.models.choose(choice)).await.map_err(|_| timeout)?
}

/// The pictures of a request, in its order. Errs with 504 if they are not read before the deadline.
pub async fn read_images(
    state: &State,
    context: &Context,
    images: Images,
    headers: Option<FetchHeaders>,
) -> Result<Vec<ImageData>, ApiError> {
    let started = Instant::now();
    let read = state.images.read(images, headers.as_ref(), &state.budget);
    let timeout = ApiError::Timeout(context.deadline.allowed.as_secs());
    let images = timeout_at(context.deadline.at, read).await.map_err(|_| timeout)?;
    state.metrics.time(Stage::Read, started.elapsed());
    Ok(images)
}
