//! What each address does. Everything that takes more than a line lives in the modules called from here.

use crate::analyzer::{AnalyzeOptions, FaceAnalyzer, ImageFaces};
use crate::config::Settings;
use crate::image::{Annotation, DrawOptions, RgbImage, draw_faces};
use crate::schedule::ImageFailure;
use crate::server::State;
use crate::server::api::answer::{self, Wanted};
use crate::server::api::schema::request::{BodyDraw, BodyExtract, FormDraw, ImageData, Images, ModelChoice};
use crate::server::api::schema::response::{ExtractAnswer, Health, Info, InfoDefaults, InfoModels, Status};
use crate::server::health::self_check::CheckFailure;
use crate::server::http::body;
use crate::server::http::context::Context;
use crate::server::http::error::ApiError;
use crate::server::inference::{RequestOutcome, api_error, failure_message};
use crate::server::telemetry::access_log::Work;
use crate::server::telemetry::metrics::{self, Snapshot, Stage};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Instant;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::multipart::{FormData, Part};
use warp::reply::Response;

/// Parts of a form, and the length of each but the file.
const MOST_PARTS: usize = 64;
const LONGEST_TEXT: usize = 1024;
/// Answers of up to so many faces are written where they are; larger ones on a thread that may take its time.
const ENCODED_INLINE: usize = 16;

/// `POST /extract`
pub async fn extract(
    state: Arc<State>,
    headers: HeaderMap,
    context: Context,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let max_images = state.settings.limits.max_images;
    let body =
        body::parse(bytes, body::encoding(&headers)?, move |value| BodyExtract::from_value(value, max_images)).await?;
    let msgpack = body::wants_msgpack(body.msgpack, &headers);
    let analyzer = choose(&state, &context, &body.models()).await?;
    let (options, wanted) = extraction(&body, &state.settings, &analyzer);
    state.inference.check_room(body.images.count(), context.deadline)?;
    let images = read(&state, &context, body.images, body.img_req_headers).await?;
    let reading = started.elapsed();

    let mut work = Work { images: images.len(), ..Work::default() };
    let finishing;
    let answer = if body.embed_only == Some(true) {
        let outcomes = state.inference.crops(analyzer, options, images, context.deadline).await?;
        finishing = outcomes.finishing;
        let answer = answer::embed(outcomes, started);
        work.faces = answer.data.iter().filter(|crop| crop.status == Status::Ok).count();
        work.failed = work.images - work.faces;
        ExtractAnswer::Embedded(answer)
    } else {
        let finish = move |image| answer::image_result(image, wanted);
        let outcomes = state.inference.faces(analyzer, options, images, context.deadline, finish).await?;
        finishing = outcomes.finishing;
        let answer = answer::extract(outcomes, started, reading, body.verbose_timings.unwrap_or(false));
        work.faces = answer.data.iter().map(|image| image.faces.len()).sum();
        work.failed = answer.data.iter().filter(|image| image.status == Status::Failed).count();
        ExtractAnswer::Detected(answer)
    };
    let encoding = Instant::now();
    let mut response = match work.faces {
        ..=ENCODED_INLINE => body::encode(&answer, msgpack)?,
        _ => {
            let encoded = tokio::task::spawn_blocking(move || body::encode(&answer, msgpack)).await;
            encoded.unwrap_or_else(|_| Err(ApiError::Internal("the answer could not be written".into())))?
        }
    };
    state.metrics.time(Stage::Encode, finishing + encoding.elapsed());
    response.extensions_mut().insert(work);
    Ok(response)
}

/// What the networks are asked, and which fields the answer has.
fn extraction(body: &BodyExtract, settings: &Settings, analyzer: &FaceAnalyzer) -> (AnalyzeOptions, Wanted) {
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
        // As with REC_NAME=None in the original's other networks: what no network can tell is null.
        embedding: embedding && analyzer.recognizer.is_some(),
        gender_age,
        masks,
        liveness,
        keep_crops: face_data,
    };
    let landmarks = body.return_landmarks.unwrap_or(defaults.return_landmarks);
    (options, Wanted { landmarks, face_data, attributes, liveness })
}

/// The networks of a request, within its time: one that has to be loaded first may take long.
async fn choose(state: &State, context: &Context, choice: &ModelChoice) -> Result<FaceAnalyzer, ApiError> {
    let timeout = ApiError::Timeout(context.deadline.allowed.as_secs());
    tokio::time::timeout_at(context.deadline.at, state.models.choose(choice)).await.map_err(|_| timeout)?
}

/// The pictures of a request, within its time.
async fn read(
    state: &State,
    context: &Context,
    images: Images,
    headers: Option<crate::server::sources::http::FetchHeaders>,
) -> Result<Vec<ImageData>, ApiError> {
    let started = Instant::now();
    let read = state.images.read(images, headers.as_ref(), &state.budget);
    let timeout = ApiError::Timeout(context.deadline.allowed.as_secs());
    let images = tokio::time::timeout_at(context.deadline.at, read).await.map_err(|_| timeout)?;
    state.metrics.time(Stage::Read, started.elapsed());
    Ok(images)
}

/// `POST /draw_detections`
pub async fn draw(state: Arc<State>, headers: HeaderMap, context: Context, bytes: Bytes) -> Result<Response, ApiError> {
    let max_images = state.settings.limits.max_images;
    let mut body =
        body::parse(bytes, body::encoding(&headers)?, move |value| BodyDraw::from_value(value, max_images)).await?;
    let analyzer = choose(&state, &context, &body.models()).await?;
    // Only the first picture is drawn, so only that one is fetched.
    for list in body.images.urls.iter_mut() {
        list.truncate(1);
    }
    state.inference.check_room(1, context.deadline)?;
    let images = read(&state, &context, std::mem::take(&mut body.images), None).await?;
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

/// `POST /multipart/draw_detections`
pub async fn draw_form(state: Arc<State>, context: Context, form: FormData) -> Result<Response, ApiError> {
    // Taking a large form apart takes its time: on a thread that may.
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
    let analyzer = choose(&state, &context, &ModelChoice::default()).await?;
    let finish = move |faces, picture| drawing(faces, picture, &draw);
    let image = Ok(form.file);
    let drawing = state.inference.faces_and_picture(analyzer, options, image, context.deadline, finish).await?;
    picture(&state, drawing)
}

/// The parts of a form: the file, and short texts.
pub async fn read_form(form: FormData) -> Result<FormDraw, ApiError> {
    let broken = |error: warp::Error| ApiError::BadRequest(format!("the form cannot be read: {error}"));
    let too_much = || {
        ApiError::BadRequest(format!(
            "the form has more than {MOST_PARTS} fields, or one of more than {LONGEST_TEXT} bytes beside 'file'"
        ))
    };
    let mut file = None;
    let mut texts = Vec::new();
    let mut count = 0;
    let mut parts = std::pin::pin!(form);
    while let Some(part) = parts.next().await {
        let part = part.map_err(broken)?;
        count += 1;
        if count > MOST_PARTS {
            return Err(too_much());
        }
        let name = part.name().to_string();
        let longest = if name == "file" { usize::MAX } else { LONGEST_TEXT };
        let content = collect(part, longest).await.map_err(broken)?.ok_or_else(too_much)?;
        if name == "file" {
            file = Some(Bytes::from(content));
        } else {
            texts.push((name, String::from_utf8_lossy(&content).into_owned()));
        }
    }
    FormDraw::from_parts(file, texts)
}

/// The bytes of a part; None if they are more than `longest`.
async fn collect(part: Part, longest: usize) -> Result<Option<Vec<u8>>, warp::Error> {
    let mut all = Vec::new();
    let mut chunks = std::pin::pin!(part.stream());
    while let Some(mut data) = chunks.try_next().await? {
        while data.has_remaining() {
            let chunk = data.chunk();
            if all.len() + chunk.len() > longest {
                return Ok(None);
            }
            all.extend_from_slice(chunk);
            data.advance(chunk.len());
        }
    }
    Ok(Some(all))
}

/// A picture with its faces drawn in, as JPEG, and the number of faces.
fn drawing(faces: ImageFaces, mut picture: RgbImage, draw: &DrawOptions) -> Result<(Vec<u8>, usize), ImageFailure> {
    let faces: Vec<Annotation> = faces.faces.iter().map(Annotation::from).collect();
    draw_faces(&mut picture, &faces, draw);
    let failed = |error| ImageFailure::Finish(format!("the drawing cannot be written as JPEG: {error}").into());
    Ok((answer::jpeg(&picture).map_err(failed)?, faces.len()))
}

/// The answer with a drawing. Errs with 400 when there was no picture to draw on.
fn picture(state: &State, drawn: RequestOutcome<(Vec<u8>, usize)>) -> Result<Response, ApiError> {
    state.metrics.time(Stage::Encode, drawn.finishing);
    let drawing = drawn.images.into_iter().next().ok_or_else(|| ApiError::BadRequest("no image".into()))?;
    let (jpeg, faces) = drawing.map_err(|failure| ApiError::BadRequest(failure_message(&failure)))?;
    let mut response = Response::new(jpeg.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    response.extensions_mut().insert(Work { images: 1, failed: 0, faces });
    Ok(response)
}

/// `GET /info`
pub async fn info(state: Arc<State>) -> Result<Response, ApiError> {
    let Settings { models, defaults, log_level, .. } = &state.settings;
    // They may have changed since the start.
    let current = state.models.settings();
    let models = current.as_ref().unwrap_or(models);
    let headers = defaults.img_req_headers.0.iter().map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        let secret = ["auth", "key", "token", "cookie", "secret", "password"].iter().any(|word| lower.contains(word));
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
    body::encode(&info, false)
}

/// `GET /health`
pub async fn health(state: Arc<State>) -> Result<Response, ApiError> {
    state.models.readiness().map_err(|reason| ApiError::Overloaded(reason.to_string()))?;
    match state.health.result(&state).await {
        Ok(()) => body::encode(&Health { status: "ok".into() }, false),
        Err(CheckFailure::Schedule(error)) => Err(api_error(error, state.settings.limits.request_timeout)),
        Err(failure) => {
            tracing::error!(%failure, "the self check failed");
            Err(ApiError::Internal(format!("self check failed: {failure}")))
        }
    }
}

/// `GET /health/live`: that the process answers. Costs nothing and waits for nothing.
pub async fn live() -> Result<Response, ApiError> {
    body::encode(&Health { status: "ok".into() }, false)
}

/// `GET /health/ready`: whether requests are taken.
pub async fn ready(state: Arc<State>) -> Result<Response, ApiError> {
    // The first tells what is being waited for.
    let ready = state.models.readiness().and_then(|()| state.readiness.check());
    ready.map_err(|reason| ApiError::Overloaded(reason.to_string()))?;
    body::encode(&Health { status: "ok".into() }, false)
}

/// `GET /metrics`
pub async fn metrics(state: Arc<State>) -> Result<Response, ApiError> {
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
