//! Request bodies: the fields of the original's BodyExtract and BodyDraw, its flat form, and model names per request.

use super::reader::{Errors, Fields};
use super::value::Value;
use crate::server::http::error::{ApiError, Loc};
use crate::server::sources::error::ImageReadError;
use crate::server::sources::http::{FetchHeaders, RefusedHeaders};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use utoipa::ToSchema;

pub use crate::server::sources::error::ImageData;

/// The body of `POST /extract`. All fields except `images` are optional and may be null.
#[derive(Clone, Debug, Default, ToSchema)]
pub struct BodyExtract {
    /// Pictures, as URLs and paths or as data
    pub images: Images,
    /// Detector threshold
    #[schema(default = 0.6, example = 0.6, minimum = 0, maximum = 1)]
    pub threshold: Option<f32>,
    /// Treat input images as face crops and omit detection step
    #[schema(default = false, example = false)]
    pub embed_only: Option<bool>,
    /// Return face crops encoded in base64
    #[schema(default = false, example = false)]
    pub return_face_data: Option<bool>,
    /// Return face landmarks
    #[schema(default = false, example = false)]
    pub return_landmarks: Option<bool>,
    /// Extract face embeddings (otherwise only detect faces)
    #[schema(default = true, example = true)]
    pub extract_embedding: Option<bool>,
    /// Extract gender/age
    #[schema(default = false, example = false)]
    pub extract_ga: Option<bool>,
    /// Detect medical masks
    #[schema(default = false, example = false)]
    pub detect_masks: Option<bool>,
    /// Score the liveness of faces: a living person, not a print or a screen
    #[schema(default = false, example = false)]
    pub extract_liveness: Option<bool>,
    /// Maximum number of faces to be processed
    #[schema(default = 0, example = 0, minimum = 0)]
    pub limit_faces: Option<u32>,
    /// Ignore faces smaller than this size
    #[schema(default = 0, example = 0, minimum = 0)]
    pub min_face_size: Option<u32>,
    /// Return all timings.
    #[schema(default = false, example = true)]
    pub verbose_timings: Option<bool>,
    /// Use MSGPACK for response serialization
    #[schema(default = false, example = false)]
    pub msgpack: Option<bool>,
    /// Custom headers for image retrieving from remote servers
    #[schema(value_type = Option<std::collections::HashMap<String, String>>, example = json!({}))]
    pub img_req_headers: Option<FetchHeaders>,
    /// Detector for this request instead of DET_NAME
    pub det_name: Option<String>,
    /// Recognizer for this request instead of REC_NAME
    pub rec_name: Option<String>,
    /// Gender and age model for this request instead of GA_NAME
    pub ga_name: Option<String>,
    /// Mask detector for this request instead of MASK_DETECTOR
    pub mask_detector: Option<String>,
}

/// The body of `POST /draw_detections`. All fields except `images` are optional and may be null.
#[derive(Clone, Debug, Default, ToSchema)]
pub struct BodyDraw {
    /// Pictures, as URLs and paths or as data; the first is drawn
    pub images: Images,
    /// Detector threshold
    #[schema(default = 0.6, example = 0.6, minimum = 0, maximum = 1)]
    pub threshold: Option<f32>,
    /// Draw face landmarks
    #[schema(default = true, example = true)]
    pub draw_landmarks: Option<bool>,
    /// Draw detection scores
    #[schema(default = true, example = true)]
    pub draw_scores: Option<bool>,
    /// Draw face sizes
    #[schema(default = true, example = true)]
    pub draw_sizes: Option<bool>,
    /// Maximum number of faces to be processed
    #[schema(default = 0, example = 0, minimum = 0)]
    pub limit_faces: Option<u32>,
    /// Ignore faces smaller than this size
    #[schema(default = 0, example = 0, minimum = 0)]
    pub min_face_size: Option<u32>,
    /// Detect medical masks
    #[schema(default = false, example = false)]
    pub detect_masks: Option<bool>,
    /// Detector for this request instead of DET_NAME
    pub det_name: Option<String>,
    /// Mask detector for this request instead of MASK_DETECTOR
    pub mask_detector: Option<String>,
}

/// The form of `POST /multipart/draw_detections`.
#[derive(Clone, Debug, Default, ToSchema)]
#[schema(as = Body_draw_upl_multipart_draw_detections_post)]
pub struct FormDraw {
    /// Image file
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    pub file: Bytes,
    /// Detector threshold
    #[schema(value_type = f32, required = false, default = 0.6, minimum = 0, maximum = 1)]
    pub threshold: Option<f32>,
    /// Draw face landmarks
    #[schema(value_type = bool, required = false, default = true)]
    pub draw_landmarks: Option<bool>,
    /// Draw detection scores
    #[schema(value_type = bool, required = false, default = true)]
    pub draw_scores: Option<bool>,
    /// Draw face sizes
    #[schema(value_type = bool, required = false, default = true)]
    pub draw_sizes: Option<bool>,
    /// Maximum number of faces to be processed
    #[schema(value_type = u32, required = false, default = 0, minimum = 0)]
    pub limit_faces: Option<u32>,
    /// Without effect, for compatibility; pictures are rotated by their EXIF orientation
    #[schema(value_type = bool, required = false, default = false)]
    pub use_rotation: Option<bool>,
    /// Detect medical masks
    #[schema(value_type = bool, required = false, default = false)]
    pub detect_masks: Option<bool>,
}

/// The pictures of a request. If both fields are present, `urls` takes precedence.
#[derive(Clone, Debug, Default, ToSchema)]
pub struct Images {
    /// List of base64 encoded images
    #[schema(value_type = Option<Vec<String>>)]
    pub data: Option<Vec<ImageData>>,
    /// List of images urls
    #[schema(example = json!(["test_images/Stallone.jpg"]))]
    pub urls: Option<Vec<String>>,
}

/// Names of the models for a request; `None` is the configured model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelChoice {
    /// Detector
    pub det_name: Option<String>,
    /// Recognizer
    pub rec_name: Option<String>,
    /// Gender and age model
    pub ga_name: Option<String>,
    /// Mask detector
    pub mask_detector: Option<String>,
}

impl BodyExtract {
    /// Reads a body of at most `max_images` pictures. Unknown fields are ignored; all wrong fields are reported.
    pub fn from_value(value: Value<'_>, max_images: usize) -> Result<Self, ApiError> {
        let errors = &mut Errors::default();
        let mut fields = Fields::new(value, vec!["body".into()], errors);
        let body = BodyExtract {
            images: Images::read(&mut fields, max_images, errors),
            threshold: fields.fraction("threshold", errors),
            embed_only: fields.boolean("embed_only", errors),
            return_face_data: fields.boolean("return_face_data", errors),
            return_landmarks: fields.boolean("return_landmarks", errors),
            extract_embedding: fields.boolean("extract_embedding", errors),
            extract_ga: fields.boolean("extract_ga", errors),
            detect_masks: fields.boolean("detect_masks", errors),
            extract_liveness: fields.boolean("extract_liveness", errors),
            limit_faces: fields.count("limit_faces", errors),
            min_face_size: fields.count("min_face_size", errors),
            verbose_timings: fields.boolean("verbose_timings", errors),
            msgpack: fields.boolean("msgpack", errors),
            img_req_headers: headers(&mut fields, errors),
            det_name: fields.name("det_name", errors),
            rec_name: fields.name("rec_name", errors),
            ga_name: fields.name("ga_name", errors),
            mask_detector: fields.name("mask_detector", errors),
        };
        std::mem::take(errors).finish(body)
    }
}

impl BodyExtract {
    /// The models named in the body.
    pub fn models(&self) -> ModelChoice {
        ModelChoice {
            det_name: self.det_name.clone(),
            rec_name: self.rec_name.clone(),
            ga_name: self.ga_name.clone(),
            mask_detector: self.mask_detector.clone(),
        }
    }
}

impl BodyDraw {
    /// The models named in the body.
    pub fn models(&self) -> ModelChoice {
        ModelChoice {
            det_name: self.det_name.clone(),
            mask_detector: self.mask_detector.clone(),
            ..ModelChoice::default()
        }
    }

    /// Reads a body of at most `max_images` pictures. Unknown fields are ignored; all wrong fields are reported.
    pub fn from_value(value: Value<'_>, max_images: usize) -> Result<Self, ApiError> {
        let errors = &mut Errors::default();
        let mut fields = Fields::new(value, vec!["body".into()], errors);
        let body = BodyDraw {
            images: Images::read(&mut fields, max_images, errors),
            threshold: fields.fraction("threshold", errors),
            draw_landmarks: fields.boolean("draw_landmarks", errors),
            draw_scores: fields.boolean("draw_scores", errors),
            draw_sizes: fields.boolean("draw_sizes", errors),
            limit_faces: fields.count("limit_faces", errors),
            min_face_size: fields.count("min_face_size", errors),
            detect_masks: fields.boolean("detect_masks", errors),
            det_name: fields.name("det_name", errors),
            mask_detector: fields.name("mask_detector", errors),
        };
        std::mem::take(errors).finish(body)
    }
}

impl FormDraw {
    /// Reads the parts of a form: `file` has the bytes of the picture, all other parts are text.
    pub fn from_parts(file: Option<Bytes>, texts: Vec<(String, String)>) -> Result<Self, ApiError> {
        let errors = &mut Errors::default();
        let entries = texts.into_iter().map(|(name, text)| match text.is_empty() {
            // A form has no null: an empty field is a missing field.
            true => (name.into(), Value::Null),
            false => (name.into(), Value::Text(text.into())),
        });
        let mut fields = Fields::new(Value::Map(entries.collect()), vec!["body".into()], errors);
        if file.is_none() {
            errors.add("missing", &fields.loc("file"), "Field required", &Value::Null);
        }
        let form = FormDraw {
            file: file.unwrap_or_default(),
            threshold: fields.fraction("threshold", errors),
            draw_landmarks: fields.boolean("draw_landmarks", errors),
            draw_scores: fields.boolean("draw_scores", errors),
            draw_sizes: fields.boolean("draw_sizes", errors),
            limit_faces: fields.count("limit_faces", errors),
            use_rotation: fields.boolean("use_rotation", errors),
            detect_masks: fields.boolean("detect_masks", errors),
        };
        std::mem::take(errors).finish(form)
    }
}

impl Images {
    /// Reads `images`, or in the flat form `data` and `urls` of the body itself.
    fn read(body: &mut Fields<'_>, max_images: usize, errors: &mut Errors) -> Self {
        match body.take("images") {
            Some(value) => {
                let mut fields = Fields::new(value, body.loc("images"), errors);
                Images::read_lists(&mut fields, max_images, errors)
            }
            None if body.has("data") || body.has("urls") => Images::read_lists(body, max_images, errors),
            None => {
                errors.add("missing", &body.loc("images"), "Field required", &body.rest());
                Images::default()
            }
        }
    }

    fn read_lists(fields: &mut Fields<'_>, max_images: usize, errors: &mut Errors) -> Self {
        let urls = fields.list("urls", max_images, errors).map(|(items, loc)| {
            let mut urls = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                match item {
                    Value::Text(url) => urls.push(url.into_owned()),
                    other => wrong_item(&loc, index, &other, errors),
                }
            }
            urls
        });
        let data = fields.list("data", max_images, errors).map(|(items, loc)| {
            let mut data = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                match item {
                    Value::Text(text) => data.push(decode_base64(&text)),
                    Value::Bytes(bytes) => data.push(Ok(bytes.into_owned().into())),
                    other => wrong_item(&loc, index, &other, errors),
                }
            }
            data
        });
        Images { data, urls }
    }

    /// Number of pictures in a request.
    pub fn count(&self) -> usize {
        self.urls.as_ref().map(Vec::len).or(self.data.as_ref().map(Vec::len)).unwrap_or(0)
    }
}

fn wrong_item(list: &[Loc], index: usize, value: &Value<'_>, errors: &mut Errors) {
    let loc: Vec<Loc> = list.iter().cloned().chain([Loc::Index(index as u64)]).collect();
    errors.add("string_type", &loc, "Input should be a valid string", value);
}

fn headers(fields: &mut Fields<'_>, errors: &mut Errors) -> Option<FetchHeaders> {
    let texts = fields.texts("img_req_headers", errors)?;
    match FetchHeaders::new(&texts) {
        Ok(headers) => Some(headers),
        Err(refused) => {
            let mut loc = fields.loc("img_req_headers");
            let (kind, input) = match &refused {
                RefusedHeaders::Header { name, .. } => {
                    loc.push(name.as_str().into());
                    ("value_error", Value::Text(name.as_str().into()))
                }
                RefusedHeaders::Many(count) => ("too_long", Value::Text(format!("(a map of {count})").into())),
                RefusedHeaders::Long(bytes) => ("too_long", Value::Text(format!("(a map of {bytes} bytes)").into())),
            };
            errors.add(kind, &loc, refused.to_string(), &input);
            None
        }
    }
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Decodes base64 in the variants of clients: both alphabets, with or without padding, with whitespace, or as data URI.
/// Errs with the reason.
pub fn decode_base64(text: &str) -> ImageData {
    // As in the original, the text after the last comma.
    let text = text.rsplit_once(',').map_or(text, |(_, data)| data);
    let compact: String;
    let text = if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        compact = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        compact.as_str()
    } else {
        text
    };
    if text.is_empty() {
        return Err(ImageReadError::Empty);
    }
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    Ok(engine.decode(text)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::api::schema::value::Encoding;

    fn extract(json: &str) -> Result<BodyExtract, ApiError> {
        BodyExtract::from_value(Value::parse(json.as_bytes(), Encoding::Json)?, 3)
    }

    fn kinds(result: Result<BodyExtract, ApiError>) -> Vec<(String, &'static str)> {
        match result {
            Err(ApiError::Invalid(errors)) => {
                errors.iter().map(|error| (serde_json::to_string(&error.loc).unwrap(), error.kind)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn base64_in_all_the_ways_that_occur() {
        let bytes: Vec<u8> = (0..=255).collect();
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url_safe = base64::engine::general_purpose::URL_SAFE.encode(&bytes);
        let wrapped: String =
            standard.as_bytes().chunks(76).map(|l| format!("{}\r\n", str::from_utf8(l).unwrap())).collect();
        for text in [
            standard.clone(),
            url_safe.clone(),
            standard.trim_end_matches('=').to_string(),
            url_safe.trim_end_matches('=').to_string(),
            wrapped,
            format!("data:image/jpeg;base64,{standard}"),
            format!("data:image/png;base64, {standard}\n"),
        ] {
            assert_eq!(decode_base64(&text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn bad_base64_says_so() {
        for bad in ["", "   ", "data:image/jpeg;base64,", "!!!!", "AAAA-AAA+", "A"] {
            let message = decode_base64(bad).unwrap_err().to_string();
            assert!(message.contains("image data"), "{bad:?}: {message}");
            assert!(!message.contains('\n'));
        }
    }

    #[test]
    fn every_field_may_be_null() {
        let body = extract(
            r#"{"images": {"data": null, "urls": null}, "threshold": null, "embed_only": null, "return_face_data": null,
                "return_landmarks": null, "extract_embedding": null, "extract_ga": null, "detect_masks": null,
                "limit_faces": null, "min_face_size": null, "verbose_timings": null, "msgpack": null,
                "img_req_headers": null, "det_name": null, "rec_name": null, "ga_name": null, "mask_detector": null}"#,
        )
        .unwrap();
        assert_eq!(body.images.count(), 0);
        assert_eq!((body.threshold, body.embed_only, body.limit_faces), (None, None, None));
        assert_eq!(body.models(), ModelChoice::default());
    }

    #[test]
    fn the_flat_form_is_the_same_request() {
        let flat = extract(r#"{"data": ["YQ=="], "det_name": "scrfd_10g_gnkps", "rec_name": "glintr100"}"#).unwrap();
        assert_eq!(flat.images.data.as_ref().unwrap()[0].as_ref().unwrap(), "a");
        assert_eq!(flat.det_name.as_deref(), Some("scrfd_10g_gnkps"));
        assert_eq!(extract(r#"{"urls": ["a.jpg", "b.jpg"]}"#).unwrap().images.count(), 2);
        assert_eq!(extract(r#"{"urls": null, "data": ["YQ=="]}"#).unwrap().images.count(), 1);
    }

    #[test]
    fn wrong_fields_are_reported_where_they_are() {
        assert_eq!(kinds(extract("{}")), [(r#"["body","images"]"#.into(), "missing")]);
        assert_eq!(kinds(extract("[]"))[0], (r#"["body"]"#.into(), "model_attributes_type"));
        assert_eq!(kinds(extract(r#"{"images": []}"#)), [(r#"["body","images"]"#.into(), "model_attributes_type")]);
        assert_eq!(
            kinds(extract(r#"{"images": {"data": "x"}}"#)),
            [(r#"["body","images","data"]"#.into(), "list_type")]
        );
        assert_eq!(
            kinds(extract(r#"{"images": {"urls": ["a", 1, null]}}"#)),
            [
                (r#"["body","images","urls",1]"#.into(), "string_type"),
                (r#"["body","images","urls",2]"#.into(), "string_type")
            ]
        );
        assert_eq!(kinds(extract(r#"{"data": ["a","b","c","d"]}"#)), [(r#"["body","data"]"#.into(), "too_long")]);
        assert_eq!(
            kinds(extract(r#"{"data": [], "img_req_headers": {"bad name": "x"}}"#)),
            [(r#"["body","img_req_headers","bad name"]"#.into(), "value_error")]
        );
    }

    #[test]
    fn a_bad_image_is_not_a_bad_request() {
        let body = extract(r#"{"images": {"data": ["YQ==", "!", ""]}, "unknown": 1, "max_size": [640, 480]}"#).unwrap();
        let data = body.images.data.unwrap();
        assert!(data[0].is_ok() && data[1].is_err() && data[2].is_err());
    }

    #[test]
    fn forms_read_texts_as_their_types() {
        let text = |name: &str, value: &str| (name.to_string(), value.to_string());
        let texts = vec![text("threshold", "0.4"), text("draw_scores", "false"), text("limit_faces", "")];
        let form = FormDraw::from_parts(Some(Bytes::from_static(b"x")), texts).unwrap();
        assert_eq!((form.threshold, form.draw_scores, form.limit_faces), (Some(0.4), Some(false), None));
        let missing = FormDraw::from_parts(None, vec![text("limit_faces", "-1")]).unwrap_err();
        assert!(matches!(missing, ApiError::Invalid(errors) if errors.len() == 2));
    }
}
