//! `POST /draw_detections` and `POST /multipart/draw_detections`: a picture with its faces drawn in, as JPEG.

use crate::analyzer::{AnalyzeOptions, ImageFaces};
use crate::image::{Annotation, DrawOptions, RgbImage, draw_faces, encode_jpeg};
use crate::schedule::ImageFailure;
use crate::server::State;
use crate::server::api::schema::request::{BodyDraw, FormDraw, ModelChoice};
use crate::server::api::schema::response::{HTTPValidationError, Problem};
use crate::server::api::{JPEG_QUALITY, inputs};
use crate::server::http::body;
use crate::server::http::context::Context;
use crate::server::http::error::ApiError;
use crate::server::http::handler::{Answer, Handler, context, shared};
use crate::server::http::negotiate;
use crate::server::inference::{RequestOutcome, failure_message};
use crate::server::telemetry::access_log::RequestStats;
use crate::server::telemetry::metrics::Stage;
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use std::convert::Infallible;
use std::sync::Arc;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::multipart::{FormData, Part};
use warp::reply::Response;
use warp::{Filter, Rejection};

/// Maximum number of parts in a form.
const MAX_PARTS: usize = 64;
/// Maximum size in bytes of each part of a form other than the file.
const MAX_TEXT_BYTES: usize = 1024;

/// The route of `POST /draw_detections`.
pub fn route(state: &Arc<State>) -> Handler {
    let body = warp::header::headers_cloned().and(context()).and(warp::body::bytes());
    shared(state).and(body).then(draw).boxed()
}

/// The route of `POST /multipart/draw_detections`.
pub fn form_route(state: &Arc<State>) -> Handler {
    let form = warp::multipart::form().max_length(None).map(Ok).or_else(not_a_form);
    shared(state).and(context()).and(form).then(draw_form).boxed()
}

/// The Content-Type is missing, or not a form.
async fn not_a_form(_: Rejection) -> Result<(Result<FormData, ApiError>,), Infallible> {
    Ok((Err(ApiError::UnsupportedMediaType("send the picture as multipart/form-data with a boundary".into())),))
}

/// Draw
///
/// Return image with drawn faces for testing purposes.
///
///    - **images**: dict containing either links or data lists. (*required*)
///    - **threshold**: Detection threshold. Default: 0.6 (*optional*)
///    - **draw_landmarks**: Draw faces landmarks Default: True (*optional*)
///    - **draw_scores**: Draw detection scores Default: True (*optional*)
///    - **draw_sizes**: Draw face sizes Default: True (*optional*)
///    - **limit_faces**: Maximum number of faces to be processed.  0 for unlimited number. Default: 0 (*optional*)
#[utoipa::path(
    post, path = "/draw_detections", operation_id = "draw_draw_detections_post", tag = "Detection & recognition",
    request_body(content((BodyDraw = "application/json"), (BodyDraw = "application/msgpack"))),
    responses(
        (status = 200, description = "The picture", body = [u8], content_type = "image/jpeg"),
        (status = 400, description = "No picture, or unknown model", body = Problem),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
        (status = 408, description = "The request did not arrive in time", body = Problem),
        (status = 413, description = "The body is too long", body = Problem),
        (status = 415, description = "Neither JSON nor MessagePack", body = Problem),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 429, description = "Too many images are waiting; Retry-After has the seconds until the next attempt", body = Problem),
        (status = 503, description = "The service has too much to do", body = Problem),
        (status = 504, description = "Not finished in time", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
async fn draw(state: Arc<State>, headers: HeaderMap, context: Context, bytes: Bytes) -> Answer {
    let max_images = state.settings.limits.max_images;
    let mut body =
        body::parse(bytes, negotiate::body_encoding(&headers)?, move |value| BodyDraw::from_value(value, max_images))
            .await?;
    let analyzer = inputs::choose_models(&state, &context, &body.models()).await?;
    // Only the first picture is drawn, so only the first is fetched.
    for list in body.images.urls.iter_mut() {
        list.truncate(1);
    }
    state.inference.check_room(1, context.deadline)?;
    let images = inputs::read_images(&state, &context, std::mem::take(&mut body.images), None).await?;
    let image = images.into_iter().next();
    let image = image.ok_or_else(|| ApiError::BadRequest("no image: images.urls and images.data are empty".into()))?;
    let options = AnalyzeOptions {
        threshold: body.threshold.unwrap_or(state.settings.defaults.det_thresh),
        limit_faces: body.limit_faces.unwrap_or(0) as usize,
        min_face_size: body.min_face_size.unwrap_or(0),
        embedding: false,
        masks: body.detect_masks.unwrap_or(state.settings.defaults.detect_masks),
        ..AnalyzeOptions::default()
    };
    let draw = DrawOptions {
        landmarks: body.draw_landmarks.unwrap_or(true),
        scores: body.draw_scores.unwrap_or(true),
        sizes: body.draw_sizes.unwrap_or(true),
    };
    let finish = move |faces, picture| drawing(faces, picture, &draw);
    let drawing = state.inference.faces_and_picture(analyzer, options, image, context.deadline, finish).await?;
    picture(&state, drawing)
}

/// Draw Upl
///
/// Return image with drawn faces for testing purposes.
///
///    - **file**: Image file (*required*)
///    - **threshold**: Detection threshold. Default: 0.6 (*optional*)
///    - **draw_landmarks**: Draw faces landmarks Default: True (*optional*)
///    - **draw_scores**: Draw detection scores Default: True (*optional*)
///    - **draw_sizes**: Draw face sizes Default: True (*optional*)
///    - **limit_faces**: Maximum number of faces to be processed.  0 for unlimited number. Default: 0 (*optional*)
#[utoipa::path(
    post, path = "/multipart/draw_detections", operation_id = "draw_upl_multipart_draw_detections_post",
    tag = "Detection & recognition",
    request_body(content = FormDraw, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The picture", body = [u8], content_type = "image/jpeg"),
        (status = 400, description = "Not a picture, or incomplete form", body = Problem),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
        (status = 408, description = "The request did not arrive in time", body = Problem),
        (status = 413, description = "The body is too long", body = Problem),
        (status = 415, description = "Not multipart/form-data", body = Problem),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 429, description = "Too many images are waiting; Retry-After has the seconds until the next attempt", body = Problem),
        (status = 503, description = "The service has too much to do", body = Problem),
        (status = 504, description = "Not finished in time", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
async fn draw_form(state: Arc<State>, context: Context, form: Result<FormData, ApiError>) -> Answer {
    let form = form?;
    // Parsing a large form takes long, so it gets a blocking thread.
    let runtime = tokio::runtime::Handle::current();
    let reading = tokio::task::spawn_blocking(move || runtime.block_on(read_form(form))).await;
    let form = reading.unwrap_or_else(|_| Err(ApiError::Internal("the form could not be read".into())))?;
    let options = AnalyzeOptions {
        threshold: form.threshold.unwrap_or(state.settings.defaults.det_thresh),
        limit_faces: form.limit_faces.unwrap_or(0) as usize,
        min_face_size: 0,
        embedding: false,
        masks: form.detect_masks.unwrap_or(state.settings.defaults.detect_masks),
        ..AnalyzeOptions::default()
    };
    let draw = DrawOptions {
        landmarks: form.draw_landmarks.unwrap_or(true),
        scores: form.draw_scores.unwrap_or(true),
        sizes: form.draw_sizes.unwrap_or(true),
    };
    let analyzer = inputs::choose_models(&state, &context, &ModelChoice::default()).await?;
    let finish = move |faces, picture| drawing(faces, picture, &draw);
    let image = Ok(form.file);
    let drawing = state.inference.faces_and_picture(analyzer, options, image, context.deadline, finish).await?;
    picture(&state, drawing)
}

/// Reads the parts of a form: the file and short texts. Errs with 400 or 422.
pub async fn read_form(form: FormData) -> Result<FormDraw, ApiError> {
    let broken = |error: warp::Error| ApiError::BadRequest(format!("the form cannot be read: {error}"));
    let too_much = || {
        ApiError::BadRequest(format!(
            "the form has more than {MAX_PARTS} fields, or one of more than {MAX_TEXT_BYTES} bytes beside 'file'"
        ))
    };
    let mut file = None;
    let mut texts = Vec::new();
    let mut count = 0;
    let mut parts = std::pin::pin!(form);
    while let Some(part) = parts.next().await {
        let part = part.map_err(broken)?;
        count += 1;
        if count > MAX_PARTS {
            return Err(too_much());
        }
        let name = part.name().to_string();
        let max_bytes = if name == "file" { usize::MAX } else { MAX_TEXT_BYTES };
        let content = collect(part, max_bytes).await.map_err(broken)?.ok_or_else(too_much)?;
        if name == "file" {
            file = Some(Bytes::from(content));
        } else {
            texts.push((name, String::from_utf8_lossy(&content).into_owned()));
        }
    }
    FormDraw::from_parts(file, texts)
}

/// The bytes of a part; `None` if there are more than `max_bytes`.
async fn collect(part: Part, max_bytes: usize) -> Result<Option<Vec<u8>>, warp::Error> {
    let mut all = Vec::new();
    let mut chunks = std::pin::pin!(part.stream());
    while let Some(mut data) = chunks.try_next().await? {
        while data.has_remaining() {
            let chunk = data.chunk();
            if all.len() + chunk.len() > max_bytes {
                return Ok(None);
            }
            all.extend_from_slice(chunk);
            data.advance(chunk.len());
        }
    }
    Ok(Some(all))
}

/// The picture with its faces drawn in as JPEG, and the number of faces.
fn drawing(faces: ImageFaces, mut picture: RgbImage, draw: &DrawOptions) -> Result<(Vec<u8>, usize), ImageFailure> {
    let faces: Vec<Annotation> = faces.faces.iter().map(Annotation::from).collect();
    draw_faces(&mut picture, &faces, draw);
    let failed = |error| ImageFailure::Finish(format!("the drawing cannot be written as JPEG: {error}").into());
    Ok((encode_jpeg(&picture, JPEG_QUALITY).map_err(failed)?, faces.len()))
}

/// The answer with a drawing. Errs with 400 if the picture could not be read or analyzed.
fn picture(state: &State, drawn: RequestOutcome<(Vec<u8>, usize)>) -> Result<Response, ApiError> {
    state.metrics.time(Stage::Encode, drawn.finishing);
    let drawing = drawn.images.into_iter().next().ok_or_else(|| ApiError::BadRequest("no image".into()))?;
    let (jpeg, faces) = drawing.map_err(|failure| ApiError::BadRequest(failure_message(&failure)))?;
    let mut response = Response::new(jpeg.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    response.extensions_mut().insert(RequestStats { images: 1, failed: 0, faces });
    Ok(response)
}
