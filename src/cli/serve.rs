//! `ifr serve`: the REST service.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, FromArgMatches};

use super::env_file::{self, EnvFileError};
use super::{CliResult, OK};
use crate::config::Settings;
use crate::config::unset::{with_defaults_for_blank_flags, without_blank_variables};
use crate::server;

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr serve                                  listen on port 18080; documentation at http://localhost:18080/docs
  ifr serve --port 8080
  PORT=8080 API_KEY=secret ifr serve         with environment variables, which other users cannot see
  ifr serve --env-file .env                  with a file that has the lines PORT=8080 and API_KEY=secret
  ifr serve --det-name scrfd_10g_gnkps --models-dir /models

An option has precedence over its environment variable, and that over the file. A blank value and None mean: not set.";

#[derive(Args)]
pub(super) struct ServeArgs {
    /// File with settings as lines NAME=value, such as the .env of InsightFace-REST. Options and environment variables
    /// have precedence. SIGHUP reads the file again and applies the settings of models
    #[arg(long, env = "ENV_FILE", value_name = "FILE")]
    env_file: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

/// Serves until SIGTERM or SIGINT, then waits for requests in flight. Errs if the service cannot start: a model is
/// missing, the port is in use, a directory does not exist.
pub(super) fn run(args: ServeArgs) -> CliResult {
    let file = args.env_file;
    let settings = match &file {
        Some(path) => read(path, arguments())?,
        None => args.settings,
    };
    server::init_logging(&settings);
    let same = settings.clone();
    // Without a file the settings cannot change: flags and the environment of a process are fixed.
    let reread = move || file.as_deref().map_or_else(|| Ok(same.clone()), |path| read(path, arguments()));
    server::serve(settings, Some(Arc::new(move || Ok(reread()?))))?;
    Ok(OK)
}

/// The arguments of this process after its name, which start with the name of the subcommand.
fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}

/// Settings that cannot be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    File(#[from] EnvFileError),
    #[error("{path}: {message}", message = .source.to_string().trim())]
    Settings { path: PathBuf, source: clap::Error },
}

/// Settings from flags, the environment and a file, in this order of precedence.
fn read(file: &Path, arguments: impl Iterator<Item = OsString>) -> Result<Settings, ReadError> {
    let mut values = env_file::read(file)?;
    // The compose file of the original passes its GA_MODEL on as GA_NAME. Its INFERENCE_BACKEND selects backends that
    // this program does not have.
    if let Some(name) = values.remove("GA_MODEL") {
        values.entry("GA_NAME".into()).or_insert(name);
    }
    values.remove("INFERENCE_BACKEND");
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let arguments = with_defaults_for_blank_flags(&command, arguments);
    let command = without_blank_variables(command, &|name| std::env::var_os(name), &values);
    let settings = command.try_get_matches_from(arguments).and_then(|matches| ServeArgs::from_arg_matches(&matches));
    settings.map(|args| args.settings).map_err(|source| ReadError::Settings { path: file.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_file_is_read_value_by_value() {
        let shared = std::env::var_os("IFR_TEST_DATA");
        let shared = shared.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
        let file = shared.join("api/original.env");
        if !file.exists() {
            eprintln!("skipped: {} is not there (set IFR_TEST_DATA)", file.display());
            return;
        }
        let settings = read(&file, ["serve"].into_iter().map(OsString::from)).unwrap();
        let (models, defaults) = (&settings.models, &settings.defaults);
        let headers = format!("{{{:?}: {:?}}}", defaults.img_req_headers.0[0].0, defaults.img_req_headers.0[0].1);
        let title = |value: bool| if value { "True".to_string() } else { "False".into() };
        let name = |name: Option<&str>| name.unwrap_or("None").to_string();
        for (variable, value) in env_file::read(&file).unwrap() {
            let ours = match variable.as_str() {
                "DET_NAME" => models.det_name.clone(),
                "REC_NAME" => name(models.rec_name.as_deref()),
                "GA_MODEL" => name(models.ga_name.as_deref()),
                "MASK_DETECTOR" => name(models.mask_detector.as_deref()),
                "REC_BATCH_SIZE" => models.rec_batch_size.to_string(),
                "DET_BATCH_SIZE" => models.det_batch_size.to_string(),
                "MAX_SIZE" => format!("{},{}", models.max_size.given[0], models.max_size.given[1]),
                "FORCE_FP16" => title(models.force_fp16),
                "NUM_WORKERS" => models.num_workers.to_string(),
                "DEF_DET_THRESH" => defaults.det_thresh.to_string(),
                "DEF_RETURN_FACE_DATA" => title(defaults.return_face_data),
                "DEF_EXTRACT_GA" => title(defaults.extract_ga),
                "DEF_EXTRACT_EMBEDDING" => title(defaults.extract_embedding),
                "DEF_IMG_REQ_HEADERS" => headers.clone(),
                "LOG_LEVEL" => settings.log_level.to_string(),
                // Settings of GPUs, and of the containers and classes of the original.
                "INFERENCE_BACKEND" => {
                    assert_eq!(models.inference_backend, "onnx");
                    continue;
                }
                "USE_NVJPEG" | "COMPOSE_PROJECT_NAME" | "IFR_VERSION" | "FACE_MODEL_CLASS" => continue,
                other => panic!("{other} is not known"),
            };
            assert_eq!(ours, value, "{variable}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env");
        std::fs::write(
            &file,
            "# models\nDEF_DET_THRESH=0.25\nMAX_BODY_SIZE='3M'\nMAX_IMAGES=7\nUNKNOWN=1\n\
             INFERENCE_BACKEND=trt\nGA_MODEL=genderage_v1",
        )
        .unwrap();
        let arguments =
            |more: &[&str]| ["serve"].iter().chain(more).map(OsString::from).collect::<Vec<_>>().into_iter();
        let settings = read(&file, arguments(&["--max-images", "9"])).unwrap();
        assert_eq!((settings.defaults.det_thresh, settings.limits.max_body_size), (0.25, 3 << 20));
        assert_eq!((settings.limits.max_images, settings.port), (9, 18080));
        assert_eq!(settings.models.ga_name.as_deref(), Some("genderage_v1"));
        std::fs::write(&file, "DEF_DET_THRESH=much").unwrap();
        let message = read(&file, arguments(&[])).unwrap_err().to_string();
        assert!(message.contains(".env") && message.contains("much"), "{message}");
    }
}
