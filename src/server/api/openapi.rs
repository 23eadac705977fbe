//! `/docs` and `/openapi.json`: Swagger UI, and the description of the API that it shows, generated from the types that implement it.

use crate::config::Settings;
use crate::server::api::schema::request::{BodyDraw, BodyExtract, FormDraw, Images};
use crate::server::api::schema::response::{
    CropFace, CropResult, EmbedResponse, EmbeddedFace, ExtractAnswer, ExtractResponse, FaceResult, HTTPValidationError,
    Health, ImageResult, Info, InfoDefaults, InfoModels, LocationPart, MaskProbs, Problem, Status, Took,
    ValidationError,
};
use crate::server::http::error::ApiError;
use crate::server::pages::swagger;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use warp::http::{HeaderMap, HeaderValue, header};
use warp::path::{FullPath, Tail};
use warp::reply::Response;

/// The documentation of one running service: defaults are those it was started with.
pub struct Docs {
    openapi: String,
}

impl Docs {
    /// Renders the description once.
    pub fn new(settings: &Settings) -> Self {
        Docs { openapi: description(settings).to_string() }
    }
}

/// `GET /openapi.json`
pub async fn openapi(docs: Arc<Docs>) -> Result<Response, ApiError> {
    Ok(with_type(docs.openapi.clone(), "application/json"))
}

/// `GET /docs`
pub async fn page(path: FullPath) -> Result<Response, ApiError> {
    if path.as_str().ends_with('/') {
        return Ok(crate::server::http::responses::redirect("../docs"));
    }
    Ok(with_type(swagger::PAGE.into(), "text/html; charset=utf-8"))
}

/// `GET /docs/...`: the files of the page.
pub async fn asset(tail: Tail, headers: HeaderMap) -> Result<Response, ApiError> {
    swagger::file(tail.as_str(), &headers).await
}

fn with_type(body: String, content_type: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The OpenAPI description with this service's defaults.
pub fn description(settings: &Settings) -> Value {
    let mut api = serde_json::to_value(Api::openapi()).unwrap_or_else(|_| json!({}));
    let defaults = &settings.defaults;
    let own = [
        ("threshold", json!((f64::from(defaults.det_thresh) * 1e4).round() / 1e4)),
        ("return_face_data", json!(defaults.return_face_data)),
        ("return_landmarks", json!(defaults.return_landmarks)),
        ("extract_embedding", json!(defaults.extract_embedding)),
        ("extract_ga", json!(defaults.extract_ga)),
        ("detect_masks", json!(defaults.detect_masks)),
    ];
    for body in ["BodyExtract", "BodyDraw", "Body_draw_upl_multipart_draw_detections_post"] {
        for (field, value) in &own {
            let path = format!("/components/schemas/{body}/properties/{field}");
            if let Some(field) = api.pointer_mut(&path) {
                field["default"] = value.clone();
                if field.get("example").is_some() {
                    field["example"] = value.clone();
                }
            }
        }
    }
    api
}

#[derive(OpenApi)]
#[openapi(
    info(title = "InsightFace-REST", description = "Face recognition REST API"),
    paths(extract, draw, draw_upl, info, check_health, live, ready, metrics),
    components(schemas(
        BodyExtract, BodyDraw, FormDraw, Images, ExtractAnswer, ExtractResponse, ImageResult, FaceResult, MaskProbs, Took, Status,
        EmbedResponse, CropResult, CropFace, EmbeddedFace, Info, InfoModels, InfoDefaults, Health, Problem,
        HTTPValidationError, ValidationError, LocationPart,
    )),
    modifiers(&Keys),
    tags((name = "Detection & recognition"), (name = "Utility")),
)]
struct Api;

/// The two places an API key may stand; optional, because most services run without.
struct Keys;

impl Modify for Keys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let header = ApiKeyValue::new("x-api-key");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// Extract
///
/// Face extraction/embeddings endpoint accept json with
/// parameters in following format:
///
///    - **images**: dict containing either links or data lists. (*required*)
///    - **threshold**: Detection threshold. Default: 0.6 (*optional*)
///    - **embed_only**: Treat input images as face crops (112x112 crops required), omit detection step. Default: False (*optional*)
///    - **return_face_data**: Return face crops encoded in base64. Default: False (*optional*)
///    - **return_landmarks**: Return face landmarks. Default: False (*optional*)
///    - **extract_embedding**: Extract face embeddings (otherwise only detect faces). Default: True (*optional*)
///    - **extract_ga**: Extract gender/age. Default: False (*optional*)
///    - **limit_faces**: Maximum number of faces to be processed.  0 for unlimited number. Default: 0 (*optional*)
///    - **min_face_size**: Ignore faces narrower than this many pixels. Default: 0 (*optional*)
///    - **verbose_timings**: Return all timings. Default: False (*optional*)
///    - **msgpack**: Serialize output to msgpack format for transfer. Default: False (*optional*)
///
/// The flat form `{"data": ["<base64>"], "det_name": "...", "rec_name": "..."}` (or `"urls"`) is the same request.
#[utoipa::path(
    post, path = "/extract", operation_id = "extract_extract_post", tag = "Detection & recognition",
    params(
        ("accept" = Option<String>, Header, description = "application/x-msgpack for a MessagePack answer"),
    ),
    request_body(
        content((BodyExtract = "application/json"), (BodyExtract = "application/msgpack")),
    ),
    responses(
        (status = 200, description = "Successful Response", content(
            (ExtractAnswer = "application/json"), (ExtractAnswer = "application/x-msgpack"),
        )),
        (status = 400, description = "A model that is not there, or a body that broke off", body = Problem),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
        (status = 408, description = "The request did not arrive in time", body = Problem),
        (status = 413, description = "The body is too long", body = Problem),
        (status = 415, description = "Neither JSON nor MessagePack", body = Problem),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 429, description = "Too many images are waiting; Retry-After says when to come back", body = Problem),
        (status = 503, description = "Too much to do", body = Problem),
        (status = 504, description = "Not finished in time", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[allow(dead_code)]
fn extract() {}

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
        (status = 400, description = "No picture, or a model that is not there", body = Problem),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
        (status = 408, description = "The request did not arrive in time", body = Problem),
        (status = 413, description = "The body is too long", body = Problem),
        (status = 415, description = "Neither JSON nor MessagePack", body = Problem),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 429, description = "Too many images are waiting; Retry-After says when to come back", body = Problem),
        (status = 503, description = "Too much to do", body = Problem),
        (status = 504, description = "Not finished in time", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[allow(dead_code)]
fn draw() {}

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
        (status = 400, description = "Not a picture, or a form that broke off", body = Problem),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
        (status = 408, description = "The request did not arrive in time", body = Problem),
        (status = 413, description = "The body is too long", body = Problem),
        (status = 415, description = "Not multipart/form-data", body = Problem),
        (status = 422, description = "Validation Error", body = HTTPValidationError),
        (status = 429, description = "Too many images are waiting; Retry-After says when to come back", body = Problem),
        (status = 503, description = "Too much to do", body = Problem),
        (status = 504, description = "Not finished in time", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[allow(dead_code)]
fn draw_upl() {}

/// Info
///
/// Enlist container configuration.
#[utoipa::path(
    get, path = "/info", operation_id = "info_info_get", tag = "Utility",
    responses(
        (status = 200, description = "Successful Response", body = Info),
        (status = 401, description = "The API key is missing or wrong", body = Problem),
    ),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[allow(dead_code)]
fn info() {}

/// Check Health
///
/// Execute recognition request with default parameters to verify recognition is actually working
#[utoipa::path(
    get, path = "/health", operation_id = "check_health_health_get", tag = "Utility",
    responses(
        (status = 200, description = "Successful Response", body = Health),
        (status = 500, description = "Recognition is not working; the answer says why", body = Problem),
        (status = 503, description = "The models are not loaded yet; the answer says what is being done", body = Problem),
    ),
)]
#[allow(dead_code)]
fn check_health() {}

/// Live
///
/// Whether the process answers. Costs nothing and waits for nothing, whatever the load; never asks for a key.
#[utoipa::path(
    get, path = "/health/live", operation_id = "live_health_live_get", tag = "Utility",
    responses((status = 200, description = "Successful Response", body = Health)),
)]
#[allow(dead_code)]
fn live() {}

/// Ready
///
/// Whether requests are taken: not while models are loaded for the first time, and not while the service stops. Never asks for a key.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "ready_health_ready_get", tag = "Utility",
    responses(
        (status = 200, description = "Successful Response", body = Health),
        (status = 503, description = "Requests are not taken; the answer says why", body = Problem),
    ),
)]
#[allow(dead_code)]
fn ready() {}

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
#[allow(dead_code)]
fn metrics() {}
