//! Models and how they run.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;

use super::values::{MaxSize, Setting, optional};
use crate::models::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER};
use crate::parse::{self, ParseError};

/// Models and how they run.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Models")]
pub struct ModelSettings {
    /// Directory with models as onnx/NAME/NAME.onnx, to which missing models are downloaded; not needed for the
    /// built-in models
    #[arg(long, env = "MODELS_DIR", default_value = "", hide_default_value = true, value_parser = optional::<PathBuf>)]
    pub models_dir: Setting<PathBuf>,
    /// Face detector; `ifr models list` shows the names
    #[arg(long, env = "DET_NAME", default_value = DEFAULT_DETECTOR, value_parser = parse::value::<String>)]
    pub det_name: String,
    /// Face recognizer; None for no embeddings
    #[arg(long, env = "REC_NAME", default_value = DEFAULT_RECOGNIZER, value_parser = optional::<String>)]
    pub rec_name: Setting<String>,
    /// Gender and age model; None for no gender and age
    #[arg(long, env = "GA_NAME", default_value = "None", value_parser = optional::<String>)]
    pub ga_name: Setting<String>,
    /// Mask detector; None for no masks, unless the face detector detects them
    #[arg(long, env = "MASK_DETECTOR", default_value = "None", value_parser = optional::<String>)]
    pub mask_detector: Setting<String>,
    /// Liveness models, separated by commas; None for no liveness
    #[arg(long, env = "LIVENESS_NAME", default_value = "None", value_parser = optional::<String>)]
    pub liveness_name: Setting<String>,
    /// Width and height to which pictures are scaled before detection, rounded down to multiples of 32
    #[arg(long, env = "MAX_SIZE", default_value = "640,640", value_parser = parse::value::<MaxSize>)]
    pub max_size: MaxSize,
    /// Maximum number of faces per forward pass of the recognizer
    #[arg(long, env = "REC_BATCH_SIZE", default_value = "1", value_parser = parse::at_least_one::<usize>)]
    pub rec_batch_size: usize,
    /// Maximum number of pictures per forward pass of the detector
    #[arg(long, env = "DET_BATCH_SIZE", default_value = "1", value_parser = parse::at_least_one::<usize>)]
    pub det_batch_size: usize,
    /// Maximum time in milliseconds that a partial batch waits for more items; 0 disables waiting
    #[arg(long, env = "BATCH_DELAY", default_value = "0", value_parser = parse::short_delay)]
    pub batch_delay: Duration,
    /// Number of inferences that run at once; 0 for the number of cores available to the process
    #[arg(long, env = "NUM_WORKERS", default_value = "0", value_parser = parse::whole_number)]
    pub num_workers: usize,
    /// Inference backend, for compatibility: only onnx is supported, which selects the built-in engine
    #[arg(long, env = "INFERENCE_BACKEND", default_value = "onnx", value_parser = backend)]
    pub inference_backend: String,
    /// Accepted for compatibility, without effect: networks are computed in 32 bits
    #[arg(long, env = "FORCE_FP16", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub force_fp16: bool,
    /// Allow requests to name any installed model, which is then loaded on demand
    #[arg(long, env = "ALLOW_MODEL_SWITCH", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub allow_model_switch: bool,
    /// Maximum number of models loaded on demand; above it, the least recently used one is unloaded
    #[arg(long, env = "MAX_LOADED_MODELS", default_value = "4", value_parser = parse::at_least_one::<usize>)]
    pub max_loaded_models: usize,
    /// Watch the models directory and models.json, and apply changes without a restart
    #[arg(long, env = "RELOAD", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = ArgAction::Set, value_parser = parse::boolean)]
    pub reload: bool,
    /// Seconds between two checks of the files; a change is applied when two checks in a row find it
    #[arg(long, env = "RELOAD_INTERVAL", default_value = "1", hide_short_help = true,
          value_parser = interval)]
    pub reload_interval: f64,
}

/// A time in seconds.
fn interval(text: &str) -> Result<f64, ParseError> {
    parse::duration(text).map(|duration| duration.as_secs_f64())
}

fn backend(text: &str) -> Result<String, ParseError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "onnx" => Ok("onnx".to_string()),
        "trt" | "triton" => Err(ParseError::new(
            text,
            "available, because it needs an NVIDIA GPU and this program runs on CPUs: set INFERENCE_BACKEND=onnx, \
             or stay with InsightFace-REST on GPU hosts",
        )),
        _ => Err(ParseError::new(text, "a backend: set INFERENCE_BACKEND=onnx")),
    }
}
