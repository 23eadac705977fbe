//! `POST /extract`: the faces of pictures, in the fields of InsightFace-REST.

use crate::align::CROP_SIDE;
use crate::analyzer::{AnalyzeOptions, Description, Face, FaceAnalyzer, ImageFaces};
use crate::attributes::MaskResult;
use crate::config::Settings;
use crate::image::encode_jpeg;
use crate::schedule::ImageFailure;
use crate::server::State;
use crate::server::api::schema::request::BodyExtract;
use crate::server::api::schema::response::{
    CropFace, CropResult, EmbedResponse, EmbeddedFace, ExtractAnswer, ExtractResponse, FaceResult, HTTPValidationError,
    ImageResult, MaskProbs, Problem, Status, Took,
};
use crate::server::api::{JPEG_QUALITY, inputs};
use crate::server::http::body;
use crate::server::http::context::Context;
use crate::server::http::error::ApiError;
use crate::server::http::handler::{Answer, Handler, context, shared};
use crate::server::http::{negotiate, responses};
use crate::server::inference::{RequestOutcome, failure_message};
use crate::server::telemetry::access_log::RequestStats;
use crate::server::telemetry::metrics::Stage;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use warp::Filter;
use warp::http::HeaderMap;

/// Answers with up to this number of faces are serialized on the runtime's thread; larger ones on a blocking thread.
const MAX_FACES_ENCODED_INLINE: usize = 16;

/// The route of `POST /extract`.
pub fn route(state: &Arc<State>) -> Handler {
    let body = warp::header::headers_cloned().and(context()).and(warp::body::bytes());
    shared(state).and(body).then(extract).boxed()
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
        (status = 400, description = "Unknown model, or incomplete body", body = Problem),
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
async fn extract(state: Arc<State>, headers: HeaderMap, context: Context, bytes: Bytes) -> Answer {
    let started = Instant::now();
    let max_images = state.settings.limits.max_images;
    let body = body::parse(bytes, negotiate::body_encoding(&headers)?, move |value| {
        BodyExtract::from_value(value, max_images)
    })
    .await?;
    let encoding = negotiate::answer_encoding(body.msgpack, &headers);
    let analyzer = inputs::choose_models(&state, &context, &body.models()).await?;
    let (options, fields) = extraction(&body, &state.settings, &analyzer);
    state.inference.check_room(body.images.count(), context.deadline)?;
    let images = inputs::read_images(&state, &context, body.images, body.img_req_headers).await?;
    let reading = started.elapsed();

    let mut stats = RequestStats { images: images.len(), ..RequestStats::default() };
    let finishing;
    let answer = if body.embed_only == Some(true) {
        let outcomes = state.inference.crops(analyzer, options, images, context.deadline).await?;
        finishing = outcomes.finishing;
        let answer = embed_response(outcomes, started);
        stats.faces = answer.data.iter().filter(|crop| crop.status == Status::Ok).count();
        stats.failed = stats.images - stats.faces;
        ExtractAnswer::Embedded(answer)
    } else {
        let finish = move |image| image_result(image, fields);
        let outcomes = state.inference.faces(analyzer, options, images, context.deadline, finish).await?;
        finishing = outcomes.finishing;
        let answer = extract_response(outcomes, started, reading, body.verbose_timings.unwrap_or(false));
        stats.faces = answer.data.iter().map(|image| image.faces.len()).sum();
        stats.failed = answer.data.iter().filter(|image| image.status == Status::Failed).count();
        ExtractAnswer::Detected(answer)
    };
    let serializing = Instant::now();
    let mut response = match stats.faces {
        ..=MAX_FACES_ENCODED_INLINE => responses::encoded(&answer, encoding)?,
        _ => {
            let encoded = tokio::task::spawn_blocking(move || responses::encoded(&answer, encoding)).await;
            encoded.unwrap_or_else(|_| Err(ApiError::Internal("the answer could not be written".into())))?
        }
    };
    state.metrics.time(Stage::Encode, finishing + serializing.elapsed());
    response.extensions_mut().insert(stats);
    Ok(response)
}

/// The options of the analysis and the fields of the answer.
fn extraction(body: &BodyExtract, settings: &Settings, analyzer: &FaceAnalyzer) -> (AnalyzeOptions, AnswerFields) {
    let defaults = &settings.defaults;
    let embedding = body.extract_embedding.unwrap_or(defaults.extract_embedding);
    let gender_age = body.extract_ga.unwrap_or(defaults.extract_ga);
    let masks = body.detect_masks.unwrap_or(defaults.detect_masks);
    let liveness = body.extract_liveness.unwrap_or(defaults.extract_liveness);
    let attributes = embedding || gender_age || masks;
    let face_data = body.return_face_data.unwrap_or(defaults.return_face_data);
    let options = AnalyzeOptions {
        threshold: body.threshold.unwrap_or(defaults.det_thresh),
        limit_faces: body.limit_faces.unwrap_or(0) as usize,
        min_face_size: body.min_face_size.unwrap_or(0),
        // As in the original: without a recognizer (REC_NAME=None) embeddings are null.
        embedding: embedding && analyzer.recognizer.is_some(),
        gender_age,
        masks,
        liveness,
        keep_crops: face_data,
    };
    let landmarks = body.return_landmarks.unwrap_or(defaults.return_landmarks);
    (options, AnswerFields { landmarks, face_data, attributes, liveness })
}

/// The optional fields of a face that the answer has.
#[derive(Clone, Copy, Debug)]
struct AnswerFields {
    /// `return_landmarks`.
    landmarks: bool,
    /// `return_face_data`.
    face_data: bool,
    /// Any of `extract_embedding`, `extract_ga` and `detect_masks`. As in the original, each adds the fields of all
    /// three.
    attributes: bool,
    /// `extract_liveness`, which the original does not have.
    liveness: bool,
}

/// The entry of one picture in the answer.
fn image_result(image: ImageFaces, fields: AnswerFields) -> ImageResult {
    let started = Instant::now();
    let scale = image.scale;
    let faces = image.faces.into_iter().enumerate().map(|(number, face)| face_result(face, number, scale, fields));
    let faces = faces.collect();
    ImageResult { status: Status::Ok, took_ms: milliseconds(started.elapsed()), faces, traceback: None }
}

fn face_result(face: Face, number: usize, scale: f64, fields: AnswerFields) -> FaceResult {
    let (norm, vec) = match face.embedding {
        Some(embedding) => (Some(embedding.norm), Some(embedding.vector.into_raw_vec_and_offset().0)),
        None => (None, None),
    };
    let facedata = face.crop.filter(|_| fields.face_data).and_then(|crop| encode_jpeg(&crop, JPEG_QUALITY).ok());
    FaceResult {
        bbox: face.bbox.map(whole),
        landmarks: fields.landmarks.then(|| face.landmarks.map(|point| point.map(whole))),
        prob: face.prob,
        num_det: number,
        scale,
        facedata: facedata.map(|jpeg| STANDARD.encode(jpeg)),
        norm: fields.attributes.then_some(norm),
        vec: fields.attributes.then_some(vec),
        gender: fields.attributes.then_some(face.gender),
        age: fields.attributes.then_some(face.age),
        mask: fields.attributes.then_some(face.mask.map(|m| m.mask)),
        mask_probs: fields.attributes.then_some(face.mask.map(mask_probs)),
        liveness: fields.liveness.then_some(face.liveness),
        size: whole(face.bbox[2] - face.bbox[0]),
    }
}

fn mask_probs(mask: MaskResult) -> MaskProbs {
    MaskProbs { mask: mask.mask_prob, no_mask: mask.no_mask_prob }
}

/// Rounds toward zero, as NumPy's `astype(int)`.
fn whole(pixels: f32) -> i64 {
    pixels as i64
}

/// The answer of `/extract`. `reading` is the time to fetch the images, without decoding.
fn extract_response(
    outcome: RequestOutcome<ImageResult>,
    started: Instant,
    reading: Duration,
    verbose: bool,
) -> ExtractResponse {
    let failed = |failure: ImageFailure| {
        let traceback = Some(failure_message(&failure));
        ImageResult { status: Status::Failed, took_ms: 0.0, faces: vec![], traceback }
    };
    let data = outcome.images.into_iter().map(|image| image.unwrap_or_else(failed)).collect();
    let took = Took {
        total_ms: milliseconds(started.elapsed()),
        read_imgs_ms: verbose.then(|| milliseconds(reading + outcome.decoding)),
        embed_all_ms: verbose.then(|| milliseconds(outcome.analyzing)),
    };
    ExtractResponse { took, data }
}

/// The answer of `/extract` with `embed_only`.
fn embed_response(outcome: RequestOutcome<Description>, started: Instant) -> EmbedResponse {
    let data = outcome.images.into_iter().map(crop).collect();
    EmbedResponse { took_ms: milliseconds(started.elapsed()), data, status: Status::Ok }
}

fn crop(result: Result<Description, ImageFailure>) -> CropResult {
    let Description { embedding, attributes } = match result {
        Ok(description) => description,
        Err(failure) => {
            let reason = failure_message(&failure);
            let face = CropFace::Failed { status: Status::Failed, traceback: reason.clone() };
            return CropResult { status: Status::Failed, took_ms: 0, faces: vec![face], traceback: Some(reason) };
        }
    };
    let (norm, vec) = match embedding {
        Some(embedding) => (Some(embedding.norm), Some(embedding.vector.into_raw_vec_and_offset().0)),
        None => (None, None),
    };
    let side = i64::from(CROP_SIDE);
    let face = EmbeddedFace {
        norm,
        vec,
        gender: attributes.gender,
        age: attributes.age,
        mask: attributes.mask.map(|m| m.mask),
        mask_probs: attributes.mask.map(mask_probs),
        bbox: [0, 0, side, side],
        size: side,
        prob: 1.0,
        status: Status::Ok,
    };
    CropResult { status: Status::Ok, took_ms: 0, faces: vec![CropFace::Embedded(face)], traceback: None }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbImage;
    use crate::recognize::Embedding;

    fn some_face() -> Face {
        Face {
            bbox: [-3.7, 10.9, 50.2, 90.0],
            landmarks: [[1.9, -0.5]; 5],
            prob: 0.75,
            embedding: Some(Embedding { norm: 2.0, vector: vec![0.6, 0.8].into() }),
            gender: None,
            age: None,
            mask: None,
            liveness: None,
            crop: Some(RgbImage::new(112, 112)),
        }
    }

    fn keys(fields: AnswerFields) -> Vec<String> {
        let face = serde_json::to_string(&face_result(some_face(), 0, 1.0, fields)).unwrap();
        let object: serde_json::Value = serde_json::from_str(&face).unwrap();
        object.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn coordinates_are_cut_toward_zero_and_size_is_that_of_the_exact_box() {
        let fields = AnswerFields { landmarks: true, face_data: false, attributes: false, liveness: false };
        let face = face_result(some_face(), 3, 0.5, fields);
        assert_eq!(face.bbox, [-3, 10, 50, 90]);
        assert_eq!(face.landmarks.unwrap()[0], [1, 0]);
        assert_eq!((face.size, face.num_det, face.scale), (53, 3, 0.5));
    }

    #[test]
    fn one_attribute_adds_the_fields_of_all() {
        let none = AnswerFields { landmarks: false, face_data: false, attributes: false, liveness: false };
        assert_eq!(keys(none), ["bbox", "num_det", "prob", "scale", "size"]);
        let all = AnswerFields { landmarks: true, face_data: true, attributes: true, liveness: false };
        for name in ["landmarks", "facedata", "norm", "vec", "gender", "age", "mask", "mask_probs"] {
            assert!(keys(all).contains(&name.to_string()), "{name}");
        }
        assert!(!keys(all).contains(&"liveness".to_string()), "the original has no such field");
        assert!(keys(AnswerFields { liveness: true, ..none }).contains(&"liveness".to_string()));
    }
}
