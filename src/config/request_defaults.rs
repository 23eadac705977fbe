//! Values of request fields that a request leaves out.

use clap::ArgAction;

use super::values::RequestHeaders;
use crate::parse;

/// The headers that the original sends.
const DEFAULT_HEADERS: &str =
    r#"{"User-Agent": "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0"}"#;

/// Values of request fields that a request leaves out.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Request defaults")]
pub struct Defaults {
    /// Return the crops of faces as JPEG pictures
    #[arg(long, env = "DEF_RETURN_FACE_DATA", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub return_face_data: bool,
    /// Return landmarks
    #[arg(long, env = "DEF_RETURN_LANDMARKS", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub return_landmarks: bool,
    /// Return embeddings
    #[arg(long, env = "DEF_EXTRACT_EMBEDDING", default_value = "true", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub extract_embedding: bool,
    /// Return gender and age; needs --ga-name
    #[arg(long, env = "DEF_EXTRACT_GA", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub extract_ga: bool,
    /// Detect medical masks; needs --mask-detector or a face detector that detects them
    #[arg(long, env = "DEF_DETECT_MASKS", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub detect_masks: bool,
    /// Return liveness scores; needs --liveness-name
    #[arg(long, env = "DEF_EXTRACT_LIVENESS", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub extract_liveness: bool,
    /// Minimum detection score of a face, 0 to 1
    #[arg(long, env = "DEF_DET_THRESH", default_value = "0.6", value_parser = parse::fraction)]
    pub det_thresh: f32,
    /// Headers of requests for image URLs, as a JSON object
    #[arg(long, env = "DEF_IMG_REQ_HEADERS", default_value = DEFAULT_HEADERS, hide_default_value = true,
          value_parser = parse::value::<RequestHeaders>)]
    pub img_req_headers: RequestHeaders,
    /// Accepted for compatibility, without effect: TLS certificates are always verified
    #[arg(long, env = "DEF_SSLV3_HACK", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub sslv3_hack: bool,
}
