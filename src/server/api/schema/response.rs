//! Answers, with the fields of the original in their order.

use serde::Serialize;
use utoipa::ToSchema;

/// The answer of `POST /extract`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ExtractAnswer {
    /// Faces were detected.
    Detected(ExtractResponse),
    /// The images were face crops: `embed_only`.
    Embedded(EmbedResponse),
}

/// The answer of `POST /extract` with detection.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ExtractResponse {
    /// Times
    pub took: Took,
    /// One entry per image, in the order of the request
    pub data: Vec<ImageResult>,
}

/// Times of a request in milliseconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Took {
    /// The whole request
    pub total_ms: f64,
    /// Fetching and decoding; with `verbose_timings`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_imgs_ms: Option<f64>,
    /// Detection and all later steps; with `verbose_timings`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed_all_ms: Option<f64>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Success.
    Ok,
    /// Failure; `traceback` has the reason.
    Failed,
}

/// The faces of one image.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ImageResult {
    /// "failed" if this image could not be read
    pub status: Status,
    /// Milliseconds to serialize the faces
    pub took_ms: f64,
    /// By descending score
    pub faces: Vec<FaceResult>,
    /// The reason of a failure, in one sentence
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

/// One detected face. Fields that the request does not select are missing; unknown values are null.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FaceResult {
    /// x1, y1, x2, y2 in pixels of the image
    pub bbox: [i64; 4],
    /// Eyes, nose and corners of the mouth, left before right
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landmarks: Option<[[i64; 2]; 5]>,
    /// Score of the detector
    pub prob: f32,
    /// Number of the face in its image
    pub num_det: usize,
    /// Factor by which the image was scaled before detection
    pub scale: f64,
    /// The aligned 112x112 crop as a JPEG in base64
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facedata: Option<String>,
    /// Length of the embedding before it was normalized
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f32>)]
    pub norm: Option<Option<f32>>,
    /// Embedding of length 1
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<f32>>)]
    pub vec: Option<Option<Vec<f32>>>,
    /// 1 male, 0 female
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>)]
    pub gender: Option<Option<u8>>,
    /// Years
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub age: Option<Option<u32>>,
    /// Whether a medical mask is worn
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<bool>)]
    pub mask: Option<Option<bool>>,
    /// Scores that `mask` is based on
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MaskProbs>)]
    pub mask_probs: Option<Option<MaskProbs>>,
    /// Probability from 0 to 1 that the face is neither a print nor a screen; with `extract_liveness`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f32>)]
    pub liveness: Option<Option<f32>>,
    /// Width of the box in pixels
    pub size: i64,
}

/// Scores of the mask detector.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct MaskProbs {
    /// Score for a mask
    pub mask: f32,
    /// Score for no mask
    pub no_mask: f32,
}

/// The answer of `POST /extract` with `embed_only`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmbedResponse {
    /// The whole request, in milliseconds
    pub took_ms: f64,
    /// One entry per crop, in the order of the request
    pub data: Vec<CropResult>,
    /// "ok" also when single crops failed
    pub status: Status,
}

/// The single face of one crop.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CropResult {
    /// "failed" if this crop could not be read
    pub status: Status,
    /// Always 0, as in the original
    pub took_ms: u32,
    /// Exactly one entry
    pub faces: Vec<CropFace>,
    /// The reason of a failure, in one sentence
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
}

/// The result of a crop: the face, or the reason of the failure.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum CropFace {
    /// The attributes of the face.
    Embedded(EmbeddedFace),
    /// The reason of the failure.
    Failed {
        /// Always "failed"
        status: Status,
        /// One sentence
        traceback: String,
    },
}

/// The face of a crop.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EmbeddedFace {
    /// Length of the embedding before it was normalized
    pub norm: Option<f32>,
    /// Embedding of length 1
    pub vec: Option<Vec<f32>>,
    /// 1 male, 0 female
    pub gender: Option<u8>,
    /// Years
    pub age: Option<u32>,
    /// Whether a medical mask is worn
    pub mask: Option<bool>,
    /// Scores that `mask` is based on
    pub mask_probs: Option<MaskProbs>,
    /// Always the whole crop: 0, 0, 112, 112
    pub bbox: [i64; 4],
    /// Always 112
    pub size: i64,
    /// Always 1
    pub prob: f32,
    /// Always "ok"
    pub status: Status,
}

/// The answer of `GET /info`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Info {
    /// Version of this program
    pub version: String,
    /// Always null: there is no TensorRT
    #[schema(value_type = Option<String>)]
    pub tensorrt_version: (),
    /// DEBUG, INFO, WARNING or ERROR
    pub log_level: String,
    /// Configured models
    pub models: InfoModels,
    /// Defaults of fields that a request does not have
    pub defaults: InfoDefaults,
}

/// The configured models and their settings.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InfoModels {
    /// Always "onnx"
    pub inference_backend: String,
    /// Detector
    pub det_name: String,
    /// Recognizer
    pub rec_name: Option<String>,
    /// Width and height of the canvas that pictures are scaled to fit
    pub max_size: [usize; 2],
    /// Gender and age model
    pub ga_name: Option<String>,
    /// Mask detector
    pub mask_detector: Option<String>,
    /// Faces per forward pass
    pub rec_batch_size: usize,
    /// Pictures per forward pass
    pub det_batch_size: usize,
    /// As configured; without effect on CPUs
    pub force_fp16: bool,
    /// Always null: there is no Triton
    #[schema(value_type = Option<String>)]
    pub triton_uri: (),
}

/// Defaults of fields that a request does not have.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InfoDefaults {
    /// DEF_RETURN_FACE_DATA
    pub return_face_data: bool,
    /// DEF_RETURN_LANDMARKS
    pub return_landmarks: bool,
    /// DEF_EXTRACT_EMBEDDING
    pub extract_embedding: bool,
    /// DEF_EXTRACT_GA
    pub extract_ga: bool,
    /// DEF_DETECT_MASKS
    pub detect_masks: bool,
    /// DEF_DET_THRESH
    pub det_thresh: f32,
    /// DEF_IMG_REQ_HEADERS; values that look like credentials are shown as ***
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub img_req_headers: serde_json::Map<String, serde_json::Value>,
    /// DEF_SSLV3_HACK, without effect
    pub sslv3_hack: bool,
}

/// The answer of `GET /health`, `/health/live` and `/health/ready`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always "ok"; other results have another HTTP status
    #[schema(example = "ok")]
    pub status: String,
}

/// The answer to a failed request: 4xx and 5xx, except 422.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// One sentence
    pub detail: String,
}

/// The answer to a request with wrong fields: 422.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HTTPValidationError {
    /// All wrong fields
    pub detail: Vec<ValidationError>,
}

/// One wrong field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ValidationError {
    /// The place of the field: "body", then names and positions
    #[schema(value_type = Vec<LocationPart>)]
    pub loc: Vec<serde_json::Value>,
    /// One sentence
    pub msg: String,
    /// Stable name of the kind of error
    pub r#type: String,
    /// The wrong value, shortened
    #[schema(value_type = Option<serde_json::Value>)]
    pub input: Option<serde_json::Value>,
    /// Numbers that the message mentions
    #[schema(value_type = Option<Object>)]
    pub ctx: Option<serde_json::Value>,
}

/// A step on the way to a field: a name or a position.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described in the OpenAPI document, and never built: answers have `Loc`")]
pub enum LocationPart {
    /// A field's name
    Name(String),
    /// A position
    Index(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face() -> FaceResult {
        FaceResult {
            bbox: [1, 2, 3, 4],
            landmarks: None,
            prob: 0.5,
            num_det: 0,
            scale: 1.5,
            facedata: None,
            norm: None,
            vec: None,
            gender: None,
            age: None,
            mask: None,
            mask_probs: None,
            liveness: None,
            size: 2,
        }
    }

    #[test]
    fn unselected_fields_are_missing_and_unknown_values_are_null() {
        let plain = serde_json::to_string(&face()).unwrap();
        assert_eq!(plain, r#"{"bbox":[1,2,3,4],"prob":0.5,"num_det":0,"scale":1.5,"size":2}"#);
        let asked = FaceResult { norm: Some(Some(2.0)), gender: Some(None), mask: Some(None), ..face() };
        let asked = serde_json::to_value(asked).unwrap();
        assert_eq!(asked["norm"], 2.0);
        assert!(asked["gender"].is_null() && asked.as_object().unwrap().contains_key("gender"));
    }

    #[test]
    fn messagepack_has_names_and_single_floats() {
        let face = FaceResult { vec: Some(Some(vec![0.5; 4])), ..face() };
        let packed = rmp_serde::to_vec_named(&face).unwrap();
        let value: rmpv::Value = rmp_serde::from_slice(&packed).unwrap();
        let entry = |name: &str| {
            let rmpv::Value::Map(entries) = &value else { panic!("not a map") };
            entries.iter().find(|(key, _)| key.as_str() == Some(name)).unwrap().1.clone()
        };
        assert_eq!(entry("vec"), rmpv::Value::Array(vec![rmpv::Value::F32(0.5); 4]));
        assert_eq!(entry("prob"), rmpv::Value::F32(0.5));
    }
}
