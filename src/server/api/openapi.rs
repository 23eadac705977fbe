//! `GET /openapi.json`: the description of the API, generated from the handlers and types that implement it.

use crate::config::Settings;
use crate::server::State;
use crate::server::api::schema::request::{BodyDraw, BodyExtract, FormDraw, Images};
use crate::server::api::schema::response::{
    CropFace, CropResult, EmbedResponse, EmbeddedFace, ExtractAnswer, ExtractResponse, FaceResult, HTTPValidationError,
    Health, ImageResult, Info, InfoDefaults, InfoModels, LocationPart, MaskProbs, Problem, Status, Took,
    ValidationError,
};
use crate::server::api::{draw, extract, health, info, metrics};
use crate::server::http::handler::{Answer, Handler};
use crate::server::http::responses;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use warp::Filter;

/// The route of `GET /openapi.json`. The document is rendered once.
pub fn route(state: &Arc<State>) -> Handler {
    let document = Bytes::from(description(&state.settings).to_string());
    warp::any().map(move || -> Answer { Ok(responses::with_type(document.clone(), "application/json")) }).boxed()
}

/// The OpenAPI document with the defaults of `settings`.
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
    paths(
        extract::extract, draw::draw, draw::draw_form, info::info, health::health, health::live, health::ready,
        metrics::metrics,
    ),
    components(schemas(
        BodyExtract, BodyDraw, FormDraw, Images, ExtractAnswer, ExtractResponse, ImageResult, FaceResult, MaskProbs,
        Took, Status, EmbedResponse, CropResult, CropFace, EmbeddedFace, Info, InfoModels, InfoDefaults, Health, Problem,
        HTTPValidationError, ValidationError, LocationPart,
    )),
    modifiers(&Keys),
    tags((name = "Detection & recognition"), (name = "Utility")),
)]
struct Api;

/// The two headers for the API key; optional, because a service can run without a key.
struct Keys;

impl Modify for Keys {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let header = ApiKeyValue::new("x-api-key");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}
