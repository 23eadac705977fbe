//! Settings of the service. Each is a flag and an environment variable, with the name of InsightFace-REST 0.9.5 where
//! it has one.
//!
//! Precedence: flag, environment variable, settings file, default. A blank value and "None" mean "not set" (see
//! [`unset`]).

mod access;
mod limits;
mod models;
mod request_defaults;
mod sources;
pub mod unset;
mod values;

use std::net::IpAddr;

use clap::builder::Resettable;
use clap::{Args, Command, FromArgMatches};

pub use access::Access;
pub use limits::Limits;
pub use models::ModelSettings;
pub use request_defaults::Defaults;
pub use sources::SourceSettings;
pub use values::{CidrList, HeadersError, List, LogFormat, LogLevel, MaxSize, RequestHeaders, Secret, Setting};

use crate::parse::{self, ParseError};

/// All settings of `ifr serve`.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// Address to listen on
    #[arg(long, env = "HOST", default_value = "0.0.0.0", value_parser = ip_address)]
    pub host: IpAddr,
    /// Port to listen on; 0 selects a free port
    #[arg(long, env = "PORT", default_value = "18080", value_parser = parse::port)]
    pub port: u16,
    /// Minimum log level: DEBUG, INFO, WARNING, ERROR
    #[arg(long, env = "LOG_LEVEL", default_value = "INFO", value_parser = parse::value::<LogLevel>)]
    pub log_level: LogLevel,
    /// Log format: text, or json for one object per line
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = parse::value::<LogFormat>)]
    pub log_format: LogFormat,
    /// Models and how they run
    #[command(flatten)]
    pub models: ModelSettings,
    /// Values of request fields that a request leaves out
    #[command(flatten)]
    pub defaults: Defaults,
    /// Limits on requests and connections
    #[command(flatten)]
    pub limits: Limits,
    /// How images are read from URLs and paths
    #[command(flatten)]
    pub sources: SourceSettings,
    /// Access control
    #[command(flatten)]
    pub access: Access,
}

impl Settings {
    /// The settings of a service that was started without flags in an empty environment.
    ///
    /// # Panics
    /// Never: the defaults are constants of this module, and a test reads them.
    pub fn defaults() -> Settings {
        let command = Settings::augment_args(Command::new("ifr")).mut_args(|argument| argument.env(Resettable::Reset));
        let settings = command.try_get_matches_from(["ifr"]).and_then(|matches| Settings::from_arg_matches(&matches));
        settings.expect("the defaults are valid settings")
    }
}

fn ip_address(text: &str) -> Result<IpAddr, ParseError> {
    let expected = "an address of this machine: write 0.0.0.0, 127.0.0.1 or ::";
    parse::value(text).map_err(|_| ParseError::new(text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(arguments: &[&str]) -> Result<Settings, clap::Error> {
        let command = Settings::augment_args(Command::new("ifr")).mut_args(|argument| argument.env(Resettable::Reset));
        let arguments = std::iter::once("ifr").chain(arguments.iter().copied()).map(Into::into);
        let arguments = unset::with_defaults_for_blank_flags(&command, arguments);
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
    fn blank_and_none_mean_not_set() {
        for text in ["", "None", "none", "NONE", " "] {
            let settings = settings(&["--rec-name", text, "--models-dir", text, "--port", ""]).unwrap();
            assert_eq!(settings.models.rec_name, Setting(None), "{text:?}");
            assert_eq!(settings.models.models_dir, Setting(None));
            assert_eq!(settings.port, 18080);
        }
        assert_eq!(settings(&["--allow-nets", "None"]).unwrap().sources.allow_nets, CidrList(vec![]));
    }

    #[test]
    fn every_setting_accepts_none_and_blank() {
        let command = Settings::augment_args(clap::Command::new("ifr"));
        let names: Vec<String> = command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect();
        assert!(names.len() > 40, "{names:?}");
        let plain = Settings::defaults();
        for name in &names {
            for text in ["None", "none", ""] {
                let flag = format!("--{name}={text}");
                let mut changed = settings(&[&flag]).unwrap_or_else(|error| panic!("{flag}: {error}"));
                // For these None is a value.
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
    fn errors_name_the_setting_and_the_expected_value() {
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
    fn booleans_are_those_of_pydantic() {
        for (text, expected) in [("True", true), ("False", false), ("1", true), ("off", false), ("", false)] {
            assert_eq!(settings(&["--force-fp16", text]).unwrap().models.force_fp16, expected, "{text:?}");
        }
        assert!(settings(&["--force-fp16"]).unwrap().models.force_fp16);
        assert!(!settings(&["--extract-embedding", "False"]).unwrap().defaults.extract_embedding);
        assert!(settings(&["--extract-embedding", "maybe"]).is_err());
    }

    #[test]
    fn sizes_have_several_forms() {
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
    fn gpu_backends_are_refused_with_the_alternative() {
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
    fn batches_wait_only_for_the_configured_delay() {
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
    fn secrets_are_not_shown() {
        let settings = settings(&["--api-key", "swordfish"]).unwrap();
        assert!(!format!("{settings:?}").contains("swordfish"));
        assert_eq!(settings.access.api_key.0.unwrap().reveal(), "swordfish");
    }
}
