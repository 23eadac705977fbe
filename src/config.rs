//! Settings of the service: every one is a flag and an environment variable, with the names of InsightFace-REST 0.9.5
//! where it has them. A flag wins over the environment; an empty variable and one that says "None" mean "not set".

mod parse;

use crate::models::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER};
use crate::server::sources::address_policy::Net;
use parse::{
    at_least_one, backend, boolean, bytes, fraction, interval, ip_address, is_none, megapixels, optional, or_default,
    parse, port, seconds, secret, short_delay, whole_number,
};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// All settings of `ifr serve`.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// Address to listen on
    #[arg(long, env = "HOST", default_value = "0.0.0.0", value_parser = or_default("0.0.0.0", ip_address))]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value = "18080", value_parser = or_default("18080", port))]
    pub port: u16,
    /// Lowest level that is logged: DEBUG, INFO, WARNING, ERROR
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO", value_parser = or_default("INFO", parse::<LogLevel>))]
    pub log_level: LogLevel,
    /// text, or json for one object a line
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = or_default("text", parse::<LogFormat>))]
    pub log_format: LogFormat,
    /// Which models answer, and how
    #[command(flatten)]
    pub models: ModelSettings,
    /// What a request gets that leaves a field out
    #[command(flatten)]
    pub defaults: Defaults,
    /// Bounds on what one client can ask for
    #[command(flatten)]
    pub limits: Limits,
    /// How images are fetched from URLs and paths
    #[command(flatten)]
    pub sources: Sources,
    /// Who may use the service
    #[command(flatten)]
    pub access: Access,
}

/// Which models answer, and how they run.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Models")]
pub struct ModelSettings {
    /// Directory with onnx/NAME/NAME.onnx; the built-in models need none
    #[arg(long, env = "MODELS_DIR", default_value = "", hide_default_value = true, value_parser = optional::<PathBuf>)]
    pub models_dir: Setting<PathBuf>,
    /// Face detector
    #[arg(long, env = "DET_NAME", default_value = DEFAULT_DETECTOR, value_parser = or_default(DEFAULT_DETECTOR, parse::<String>))]
    pub det_name: String,
    /// Face recogniser; None for none
    #[arg(long, env = "REC_NAME", default_value = DEFAULT_RECOGNIZER, value_parser = optional::<String>)]
    pub rec_name: Setting<String>,
    /// Gender and age model; None for none
    #[arg(long, env = "GA_NAME", default_value = "None", value_parser = optional::<String>)]
    pub ga_name: Setting<String>,
    /// Mask detector; None for none
    #[arg(long, env = "MASK_DETECTOR", default_value = "None", value_parser = optional::<String>)]
    pub mask_detector: Setting<String>,
    /// Models that score whether faces are live, separated by commas; None for none
    #[arg(long, env = "LIVENESS_NAME", default_value = "None", value_parser = optional::<String>)]
    pub liveness_name: Setting<String>,
    /// Pictures are scaled to fit W,H before detection (floored to multiples of 32)
    #[arg(long, env = "MAX_SIZE", default_value = "640,640", value_parser = or_default("640,640", parse::<MaxSize>))]
    pub max_size: MaxSize,
    /// Faces per forward pass of the recogniser
    #[arg(long, env = "REC_BATCH_SIZE", default_value = "1", value_parser = or_default("1", at_least_one))]
    pub rec_batch_size: usize,
    /// Pictures per forward pass of the detector
    #[arg(long, env = "DET_BATCH_SIZE", default_value = "1", value_parser = or_default("1", at_least_one))]
    pub det_batch_size: usize,
    /// Milliseconds that a batch which is not full may wait for more; 0 holds nothing back
    #[arg(long, env = "BATCH_DELAY", default_value = "0", value_parser = or_default("0", short_delay))]
    pub batch_delay: Duration,
    /// Inferences that run at once; 0 takes the cores that this process may use
    #[arg(long, env = "NUM_WORKERS", default_value = "0", value_parser = or_default("0", whole_number))]
    pub num_workers: usize,
    /// Always onnx: the models are run by the engine built into this program
    #[arg(long, env = "INFERENCE_BACKEND", default_value = "onnx", value_parser = or_default("onnx", backend))]
    pub inference_backend: String,
    /// Read for compatibility: CPUs compute in 32 bits
    #[arg(long, env = "FORCE_FP16", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub force_fp16: bool,
    /// Let a request name any installed model, loading it if needed
    #[arg(long, env = "ALLOW_MODEL_SWITCH", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub allow_model_switch: bool,
    /// Models beside the configured ones that stay loaded; the least recently used goes
    #[arg(long, env = "MAX_LOADED_MODELS", default_value = "4", value_parser = or_default("4", at_least_one))]
    pub max_loaded_models: usize,
    /// Watch the models directory and models.json, and take over what changes without a restart
    #[arg(long, env = "RELOAD", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub reload: bool,
    /// Seconds between two looks at the files; a change counts when it is there at two of them
    #[arg(long, env = "RELOAD_INTERVAL", default_value = "1", hide_short_help = true,
          value_parser = or_default("1", interval))]
    pub reload_interval: f64,
}

/// What a request gets that leaves a field out.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Request defaults")]
pub struct Defaults {
    /// Return face crops
    #[arg(long, env = "DEF_RETURN_FACE_DATA", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub return_face_data: bool,
    /// Return landmarks
    #[arg(long, env = "DEF_RETURN_LANDMARKS", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub return_landmarks: bool,
    /// Return embeddings
    #[arg(long, env = "DEF_EXTRACT_EMBEDDING", default_value = "true", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("true", boolean))]
    pub extract_embedding: bool,
    /// Return gender and age
    #[arg(long, env = "DEF_EXTRACT_GA", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub extract_ga: bool,
    /// Detect medical masks
    #[arg(long, env = "DEF_DETECT_MASKS", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub detect_masks: bool,
    /// Score whether faces are live
    #[arg(long, env = "DEF_EXTRACT_LIVENESS", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub extract_liveness: bool,
    /// Lowest score of a face
    #[arg(long, env = "DEF_DET_THRESH", default_value = "0.6", value_parser = or_default("0.6", fraction))]
    pub det_thresh: f32,
    /// Headers for image URLs, as a JSON object
    #[arg(long, env = "DEF_IMG_REQ_HEADERS", default_value = DEFAULT_HEADERS, hide_default_value = true,
          value_parser = or_default(DEFAULT_HEADERS, parse::<RequestHeaders>))]
    pub img_req_headers: RequestHeaders,
    /// Read for compatibility: TLS is always verified
    #[arg(long, env = "DEF_SSLV3_HACK", default_value = "false", num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = or_default("false", boolean))]
    pub sslv3_hack: bool,
}

const DEFAULT_HEADERS: &str =
    r#"{"User-Agent": "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0"}"#;

/// Bounds on what one client can ask for.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Images that may wait for their turn, over all requests; more is 429
    #[arg(long, env = "QUEUE_SIZE", default_value = "512", value_parser = or_default("512", at_least_one))]
    pub queue_size: usize,
    /// Bytes in a request body; more is 413. Takes suffixes K, M, G
    #[arg(long, env = "MAX_BODY_SIZE", default_value = "64M", value_parser = or_default("64M", bytes))]
    pub max_body_size: u64,
    /// Bytes of all request bodies in memory at once; more is 503
    #[arg(long, env = "MAX_BODIES_IN_MEMORY", default_value = "1G", value_parser = or_default("1G", bytes))]
    pub max_bodies_in_memory: u64,
    /// Images in a request; more is 422
    #[arg(long, env = "MAX_IMAGES", default_value = "256", value_parser = or_default("256", at_least_one))]
    pub max_images: usize,
    /// Pixels of an image, in millions; more fails that image
    #[arg(long, env = "MAX_MEGAPIXELS", default_value = "50", value_parser = or_default("50", megapixels))]
    pub max_megapixels: u64,
    /// Seconds for a whole request; more is 504, or 503 if it was still waiting its turn
    #[arg(long, env = "REQUEST_TIMEOUT", default_value = "60", value_parser = or_default("60", seconds))]
    pub request_timeout: Duration,
    /// Seconds for the request line and headers
    #[arg(long, env = "HEADER_TIMEOUT", default_value = "10", value_parser = or_default("10", seconds))]
    pub header_timeout: Duration,
    /// Seconds that an idle connection stays open
    #[arg(long, env = "KEEP_ALIVE_TIMEOUT", default_value = "60", value_parser = or_default("60", seconds))]
    pub keep_alive_timeout: Duration,
    /// Connections at once; more are answered 503 and closed
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "2048", value_parser = or_default("2048", at_least_one))]
    pub max_connections: usize,
    /// Seconds that requests in flight get to finish after SIGTERM
    #[arg(long, env = "SHUTDOWN_TIMEOUT", default_value = "20", value_parser = or_default("20", seconds))]
    pub shutdown_timeout: Duration,
}

/// How images are read from URLs and paths.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Image sources")]
pub struct Sources {
    /// Directory below which requests may name files; without it no paths are read
    #[arg(long, env = "ROOT_IMAGES_DIR", default_value = "", hide_default_value = true, value_parser = optional::<PathBuf>)]
    pub root_images_dir: Setting<PathBuf>,
    /// Networks that image URLs may point to although they are not public, such as 10.0.0.0/8,192.168.1.5
    #[arg(long, env = "ALLOW_NETS", default_value = "", hide_default_value = true, value_parser = parse::<List<Net>>)]
    pub allow_nets: List<Net>,
    /// Bytes of one fetched image or file
    #[arg(long, env = "MAX_IMAGE_SIZE", default_value = "10M", value_parser = or_default("10M", bytes))]
    pub max_image_size: u64,
    /// Seconds to connect to an image's host
    #[arg(long, env = "FETCH_CONNECT_TIMEOUT", default_value = "5", value_parser = or_default("5", seconds))]
    pub fetch_connect_timeout: Duration,
    /// Seconds to fetch one image, redirects and retries included
    #[arg(long, env = "FETCH_TIMEOUT", default_value = "10", value_parser = or_default("10", seconds))]
    pub fetch_timeout: Duration,
    /// Attempts per image URL: timeouts and 5xx are tried again, 4xx never
    #[arg(long, env = "FETCH_ATTEMPTS", default_value = "5", value_parser = or_default("5", at_least_one))]
    pub fetch_attempts: usize,
    /// Image URLs fetched at once, over all requests
    #[arg(long, env = "FETCH_CONCURRENCY", default_value = "64", value_parser = or_default("64", at_least_one))]
    pub fetch_concurrency: usize,
    /// PEM file with certificate authorities that image hosts may use beside the public ones
    #[arg(long, env = "IMAGE_CA_FILE", default_value = "", hide_default_value = true, value_parser = optional::<PathBuf>)]
    pub image_ca_file: Setting<PathBuf>,
}

/// Who may use the service.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
pub struct Access {
    /// Key that clients must send as "Authorization: Bearer KEY" or "x-api-key: KEY"; empty or None, as by default, asks for none
    #[arg(long, env = "API_KEY", default_value = "", hide_default_value = true, hide_env_values = true,
          value_parser = secret)]
    pub api_key: Setting<Secret>,
    /// Origins that browsers may call from, separated by commas; * for any, None for none
    #[arg(long, env = "CORS_ORIGINS", default_value = "*", value_parser = parse::<List<String>>)]
    pub cors_origins: List<String>,
}

impl Settings {
    /// The settings of a service that was started without flags in an empty environment.
    pub fn defaults() -> Settings {
        let command = <Settings as clap::Args>::augment_args(clap::Command::new("ifr"))
            .mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
        let matches = command.get_matches_from(["ifr"]);
        // The defaults are constants of this file, and a test parses them.
        <Settings as clap::FromArgMatches>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// A setting that may be left out; empty, "None" and "null" mean that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T>(pub Option<T>);

impl Setting<String> {
    /// The value, if there is one.
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Setting<PathBuf> {
    /// The value, if there is one.
    pub fn as_deref(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

/// Values separated by commas; empty and "None" give an empty list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_none(text) {
            return Ok(List(Vec::new()));
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| item.parse().map_err(|error: T::Err| error.to_string())).collect::<Result<_, _>>().map(List)
    }
}

/// A value that never shows in logs or messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of these bytes.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself: for comparing, not for showing.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Width and height, in pixels, that a picture is scaled to fit; multiples of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxSize {
    /// As the operator gave it: `/info` shows it.
    pub given: [usize; 2],
}

impl MaxSize {
    /// Width and height that the detector runs at.
    pub fn floored(self) -> (usize, usize) {
        (self.given[0] / 32 * 32, self.given[1] / 32 * 32)
    }
}

impl FromStr for MaxSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.trim().trim_start_matches('[').trim_end_matches(']').split([',', 'x']);
        let sides: Vec<usize> = numbers
            .map(|side| {
                side.trim().parse::<usize>().map_err(|_| format!("'{text}' is not a size: write W,H as in 640,640"))
            })
            .collect::<Result<_, _>>()?;
        match sides[..] {
            [w, h] if (32..=8192).contains(&w) && (32..=8192).contains(&h) => Ok(MaxSize { given: [w, h] }),
            [_, _] => Err(format!("'{text}': both sides must be from 32 to 8192")),
            _ => Err(format!("'{text}' is not a size: write W,H as in 640,640")),
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub tracing::Level);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(LogLevel(match text.to_ascii_uppercase().as_str() {
            "TRACE" | "NOTSET" => tracing::Level::TRACE,
            "DEBUG" => tracing::Level::DEBUG,
            "INFO" => tracing::Level::INFO,
            "WARN" | "WARNING" => tracing::Level::WARN,
            "ERROR" | "CRITICAL" | "FATAL" => tracing::Level::ERROR,
            _ => return Err(format!("'{text}' is not a level: DEBUG, INFO, WARNING or ERROR")),
        }))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == tracing::Level::WARN { "WARNING" } else { self.0.as_str() })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("'{text}' is not a log format: text or json")),
        }
    }
}

/// Headers for image requests: names and values, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders(pub Vec<(String, String)>);

impl FromStr for RequestHeaders {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // `docker run --env-file` keeps the quotes that the original's .env puts around the object.
        let trimmed = text.trim();
        let unquoted = trimmed.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(trimmed);
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(unquoted)
            .map_err(|error| format!("not a JSON object of headers, as in {{\"User-Agent\": \"x\"}}: {error}"))?;
        let entry = |(name, value): (String, serde_json::Value)| match value {
            serde_json::Value::String(value) => Ok((name, value)),
            serde_json::Value::Number(value) => Ok((name, value.to_string())),
            _ => Err(format!("the header '{name}' must be a string")),
        };
        object.into_iter().map(entry).collect::<Result<_, _>>().map(RequestHeaders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn settings(arguments: &[&str]) -> Result<Settings, clap::Error> {
        let command = Settings::augment_args(clap::Command::new("ifr"))
            .mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
        let arguments = std::iter::once("ifr").chain(arguments.iter().copied());
        Settings::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn defaults_are_those_of_the_original() {
        let settings = Settings::defaults();
        assert_eq!(settings.port, 18080);
        assert_eq!(settings.models.max_size.given, [640, 640]);
        assert_eq!(settings.models.ga_name, Setting(None));
        assert_eq!(settings.defaults.det_thresh, 0.6);
        assert!(settings.defaults.extract_embedding && !settings.defaults.extract_ga);
        assert!(settings.defaults.img_req_headers.0[0].1.contains("Firefox/126.0"));
        assert_eq!(settings.limits.max_body_size, 64 << 20);
        assert_eq!(settings.sources.root_images_dir, Setting(None));
    }

    #[test]
    fn empty_and_none_mean_none() {
        for text in ["", "None", "none", "NONE", " "] {
            let settings = settings(&["--rec-name", text, "--models-dir", text, "--port", ""]).unwrap();
            assert_eq!(settings.models.rec_name, Setting(None), "{text:?}");
            assert_eq!(settings.models.models_dir, Setting(None));
            assert_eq!(settings.port, 18080);
        }
        assert_eq!(settings(&["--allow-nets", "None"]).unwrap().sources.allow_nets, List(vec![]));
    }

    #[test]
    fn every_setting_may_be_none_or_empty() {
        let command = Settings::augment_args(clap::Command::new("ifr"));
        let names: Vec<String> = command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect();
        assert!(names.len() > 40, "{names:?}");
        let plain = Settings::defaults();
        for name in &names {
            for text in ["None", "none", ""] {
                let flag = format!("--{name}={text}");
                let mut changed = settings(&[&flag]).unwrap_or_else(|error| panic!("{flag}: {error}"));
                // Where None is a choice of its own.
                match name.as_str() {
                    "rec-name" => changed.models.rec_name = plain.models.rec_name.clone(),
                    "cors-origins" => changed.access.cors_origins = plain.access.cors_origins.clone(),
                    _ => {}
                }
                assert_eq!(format!("{changed:?}"), format!("{plain:?}"), "{flag}");
            }
        }
        assert_eq!(settings(&["--api-key=None"]).unwrap().access.api_key, Setting(None));
    }

    #[test]
    fn wrong_values_say_which_setting_and_what_is_expected() {
        for (flag, name, expected) in [
            ("--port=abc", "--port", "from 0 to 65535"),
            ("--port=70000", "--port", "from 0 to 65535"),
            ("--num-workers=-1", "--num-workers", "from 0 up"),
            ("--host=here", "--host", "0.0.0.0"),
            ("--max-megapixels=x", "--max-megapixels", "from 1 up"),
            ("--det-thresh=2", "--det-thresh", "from 0 to 1"),
            ("--rec-batch-size=0", "--rec-batch-size", "from 1 up"),
        ] {
            let message = settings(&[flag]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn booleans_are_pythons() {
        for (text, expected) in [("True", true), ("False", false), ("1", true), ("off", false), ("", false)] {
            assert_eq!(settings(&["--force-fp16", text]).unwrap().models.force_fp16, expected, "{text:?}");
        }
        assert!(settings(&["--force-fp16"]).unwrap().models.force_fp16);
        assert!(!settings(&["--extract-embedding", "False"]).unwrap().defaults.extract_embedding);
        assert!(settings(&["--extract-embedding", "maybe"]).is_err());
    }

    #[test]
    fn sizes_in_the_forms_that_occur() {
        for (text, given, floored) in [
            ("640,640", [640, 640], (640, 640)),
            ("[640, 480]", [640, 480], (640, 480)),
            ("1000x700", [1000, 700], (992, 672)),
        ] {
            let size: MaxSize = text.parse().unwrap();
            assert_eq!((size.given, size.floored()), (given, floored), "{text}");
        }
        for bad in ["640", "a,b", "0,0", "640,640,640", "-1,640", "99999,640"] {
            assert!(bad.parse::<MaxSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn backends_without_a_gpu_say_what_to_use() {
        for name in ["trt", "triton", "TRT"] {
            let message = settings(&["--inference-backend", name]).unwrap_err().to_string();
            assert!(message.contains("INFERENCE_BACKEND=onnx"), "{message}");
        }
        assert_eq!(settings(&["--inference-backend", "onnx"]).unwrap().models.inference_backend, "onnx");
    }

    #[test]
    fn headers_survive_the_quotes_of_env_files() {
        let quoted: RequestHeaders = r#"'{"User-Agent": "x", "X-Count": 3}'"#.parse().unwrap();
        assert_eq!(quoted.0, [("User-Agent".into(), "x".into()), ("X-Count".into(), "3".into())]);
        assert!("{".parse::<RequestHeaders>().is_err());
        assert!(r#"{"a": []}"#.parse::<RequestHeaders>().is_err());
    }

    #[test]
    fn nothing_is_held_back_unless_it_is_said_for_how_long() {
        assert_eq!(Settings::defaults().models.batch_delay, Duration::ZERO);
        for (text, micros) in [("", 0), ("0", 0), ("2.5", 2_500), ("20ms", 20_000)] {
            let delay = settings(&["--batch-delay", text]).unwrap().models.batch_delay;
            assert_eq!(delay, Duration::from_micros(micros), "{text:?}");
        }
        for bad in ["-1", "1001", "x"] {
            assert!(settings(&[&format!("--batch-delay={bad}")]).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let settings = settings(&["--api-key", "swordfish"]).unwrap();
        assert!(!format!("{settings:?}").contains("swordfish"));
        assert_eq!(settings.access.api_key.0.unwrap().reveal(), "swordfish");
    }
}
