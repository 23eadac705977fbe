//! `GET /info`: version, models and defaults of the service.

use crate::config::Settings;
use crate::server::State;
use crate::server::api::schema::response::{Info, InfoDefaults, InfoModels, Problem};
use crate::server::http::handler::{Answer, Handler, shared};
use crate::server::http::responses;
use std::sync::Arc;
use warp::Filter;

/// Parts of header names whose values are credentials, which are not shown.
const CREDENTIAL_WORDS: [&str; 6] = ["auth", "key", "token", "cookie", "secret", "password"];

/// The route of `GET /info`.
pub fn route(state: &Arc<State>) -> Handler {
    shared(state).then(info).boxed()
}

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
async fn info(state: Arc<State>) -> Answer {
    let Settings { models, defaults, log_level, .. } = &state.settings;
    // The models may have changed since the start.
    let current = state.models.settings();
    let models = current.as_ref().unwrap_or(models);
    let headers = defaults.img_req_headers.0.iter().map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        let secret = CREDENTIAL_WORDS.iter().any(|word| lower.contains(word));
        (name.clone(), if secret { "***".into() } else { value.clone().into() })
    });
    let info = Info {
        version: env!("CARGO_PKG_VERSION").into(),
        tensorrt_version: (),
        log_level: log_level.to_string(),
        models: InfoModels {
            inference_backend: models.inference_backend.clone(),
            det_name: models.det_name.clone(),
            rec_name: models.rec_name.0.clone(),
            max_size: models.max_size.given,
            ga_name: models.ga_name.0.clone(),
            mask_detector: models.mask_detector.0.clone(),
            rec_batch_size: models.rec_batch_size,
            det_batch_size: models.det_batch_size,
            force_fp16: models.force_fp16,
            triton_uri: (),
        },
        defaults: InfoDefaults {
            return_face_data: defaults.return_face_data,
            return_landmarks: defaults.return_landmarks,
            extract_embedding: defaults.extract_embedding,
            extract_ga: defaults.extract_ga,
            detect_masks: defaults.detect_masks,
            det_thresh: defaults.det_thresh,
            img_req_headers: headers.collect(),
            sslv3_hack: defaults.sslv3_hack,
        },
    };
    responses::json(&info)
}
