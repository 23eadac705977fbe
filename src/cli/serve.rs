//! `ifr serve`: the REST service.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, FromArgMatches};

use super::{CliResult, OK, env_file};
use crate::config::Settings;
use crate::server;

/// Start the REST service. Every flag is also an environment variable.
#[derive(Args)]
pub(super) struct ServeArgs {
    /// File with settings, a line NAME=value for each, such as InsightFace-REST's .env; flags and the environment win over it. Read again
    /// at SIGHUP, for what it says of models
    #[arg(long, env = "ENV_FILE", value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Everything that can be set
    #[command(flatten)]
    settings: Settings,
}

/// Serves until SIGTERM or SIGINT, then lets requests in flight finish. Errs when the service cannot start: a model is
/// missing, the port is taken, a directory does not exist.
pub(super) fn run(args: ServeArgs) -> CliResult {
    let file = args.env_file;
    let settings = match &file {
        Some(path) => read(path, arguments())?,
        None => args.settings,
    };
    server::telemetry::access_log::init(&settings);
    let same = settings.clone();
    // Without a file nothing can have changed: neither flags nor the environment of a process do.
    let reread = move || file.as_deref().map_or_else(|| Ok(same.clone()), |path| read(path, arguments()));
    server::serve(settings, Some(Arc::new(move || Ok(reread()?))))?;
    Ok(OK)
}

/// The arguments of this process that follow its name: the subcommand's, its own name first.
fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}

/// Settings out of flags, the environment and a file, in this order of precedence.
fn read(file: &Path, arguments: impl Iterator<Item = OsString>) -> Result<Settings, String> {
    let mut values = env_file::read(file)?;
    // In the original's file: its compose file passes the one on as GA_NAME, and the other chooses what this program does not have.
    if let Some(name) = values.remove("GA_MODEL") {
        values.entry("GA_NAME".into()).or_insert(name);
    }
    values.remove("INFERENCE_BACKEND");
    let command = ServeArgs::augment_args(clap::Command::new("serve")).mut_args(|argument| {
        let value = argument.get_env().and_then(|name| values.get(name.to_str()?)).cloned();
        match value {
            Some(value) => argument.default_value(value),
            None => argument,
        }
    });
    let refused = |error: clap::Error| format!("{}: {}", file.display(), error.to_string().trim());
    let matches = command.try_get_matches_from(arguments).map_err(refused)?;
    ServeArgs::from_arg_matches(&matches).map(|args| args.settings).map_err(refused)
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
                // GPUs, which are not used here; the original's own containers and classes.
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
        let message = read(&file, arguments(&[])).unwrap_err();
        assert!(message.contains(".env") && message.contains("much"), "{message}");
    }
}
