//! `ifr extract`: prints the faces of pictures as JSON Lines, or writes those of an archive to a file, resumable.
//!
//! ```text
//! Inputs (lazy walk) ─ turns ─ map_ordered ─ Extractor (jobs threads) ─ Record ┬ standard output
//!                                                                             └ Journal ─ OUT.jsonl | OUT.parquet
//! ```

mod column;
mod journal;
mod parquet;
mod picture;
mod progress;
mod record;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::journal::{Done, Journal, JournalError, MODELS, OpenedRun, VERSION, check_failures};
use self::picture::Extractor;
use self::progress::{RunProgress, Totals};
use self::record::{PictureStatus, Record};
use super::inputs::{Input, Inputs};
use super::networks::{NetworkArgs, named};
use super::ordered::map_ordered;
use super::{CliResult, OK, SOME_FAILED};
use crate::analyzer::{AnalyzeOptions, FaceAnalyzer};
use crate::cores::cores;
use crate::downloads::FetchError;
use crate::image::DecodeLimits;
use crate::models::{ModelError, Selection, split_names};
use crate::parse;

/// Maximum number of faces in one forward pass of the recognizer.
const REC_BATCH: usize = 8;

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr extract photo.jpg                        print one JSON object per picture
  ifr extract --jobs 4 --no-embedding ~/Pictures
                                               only boxes and landmarks, for all pictures of a directory
  ifr extract ~/Pictures -o faces.parquet --resume
                                               write a table; continue the run if it was interrupted
  ifr extract ~/Pictures -o faces.jsonl --failures failures.jsonl
                                               write failed pictures to their own file

Exit codes: 0 success, 1 some pictures failed, 2 nothing was done.";

#[derive(Args)]
pub(super) struct ExtractArgs {
    /// Pictures, directories of pictures, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    #[command(flatten)]
    networks: NetworkArgs,

    /// Minimum detection score of a face, 0 to 1
    #[arg(long, default_value = "0.6", value_parser = parse::fraction)]
    threshold: f32,

    /// Maximum number of faces per picture, largest first; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit_faces: usize,

    /// Minimum width of a face in pixels
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    min_face_size: u32,

    /// Do not compute embeddings
    #[arg(long)]
    no_embedding: bool,

    /// Gender and age model, such as genderage_v1 [default: none]
    #[arg(long, env = "GA_NAME", value_name = "NAME")]
    ga_name: Option<String>,

    /// Mask detector, such as mask_detector [default: none]
    #[arg(long, env = "MASK_DETECTOR", value_name = "NAME")]
    mask_detector: Option<String>,

    /// Liveness models, separated by commas [default: none]
    #[arg(long, env = "LIVENESS_NAME", value_name = "NAMES")]
    liveness_name: Option<String>,

    /// Number of pictures processed at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,

    /// Maximum size of a picture in millions of pixels
    #[arg(long, default_value = "50", value_name = "MEGAPIXELS", value_parser = parse::megapixels)]
    max_megapixels: f64,

    /// File to write instead of standard output: JSON Lines (.jsonl) or Parquet (.parquet, one row per face). It is
    /// created when the run is complete; until then the results are in FILE.partial
    #[arg(short, long, value_name = "FILE", value_parser = parse_output)]
    output: Option<Output>,

    /// Continue the interrupted run with the same --output, if there is one
    #[arg(long, requires = "output")]
    resume: bool,

    /// File for failed pictures as JSON Lines; without it they are part of the output. It must not exist
    #[arg(long, value_name = "FILE")]
    failures: Option<PathBuf>,
}

/// The output of a run.
#[derive(Clone, Debug, PartialEq)]
struct Output {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    JsonLines,
    Parquet,
}

/// A path to which no output can be written.
#[derive(Debug, PartialEq, thiserror::Error)]
enum OutputError {
    #[error("cannot tell a format from the name: end it in .jsonl or .parquet")]
    Format,
    #[error("{} is not a directory", .0.display())]
    Directory(PathBuf),
}

fn parse_output(text: &str) -> Result<Output, OutputError> {
    let path = PathBuf::from(text);
    let format = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("jsonl" | "ndjson") => Format::JsonLines,
        Some("parquet") => Format::Parquet,
        _ => return Err(OutputError::Format),
    };
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() && !dir.is_dir() => Err(OutputError::Directory(dir.into())),
        _ => Ok(Output { path, format }),
    }
}

pub(super) fn run(args: &ExtractArgs) -> CliResult {
    if args.failures.is_some() && args.failures.as_ref() == args.output.as_ref().map(|o| &o.path) {
        return Err("--failures and --output name the same file".into());
    }
    if args.output.is_some() || args.inputs.len() >= cores() || args.inputs.iter().any(|input| input.is_dir()) {
        // With many pictures, one core per picture is faster than many cores per picture.
        crate::engine::set_threads(cores() / jobs(args));
    }
    let analyzer = load(args)?;
    let options = AnalyzeOptions {
        threshold: args.threshold,
        limit_faces: args.limit_faces,
        min_face_size: args.min_face_size,
        embedding: analyzer.recognizer.is_some(),
        gender_age: analyzer.gender_age.is_some(),
        // Some detectors report masks themselves.
        masks: true,
        liveness: analyzer.liveness.is_some(),
        ..Default::default()
    };
    let limits = DecodeLimits { max_pixels: (args.max_megapixels * 1e6) as u64 };
    let extractor = Extractor { analyzer, options, limits };
    match &args.output {
        None => to_stdout(args, &extractor),
        Some(output) => to_file(args, &extractor, output),
    }
}

fn load(args: &ExtractArgs) -> Result<FaceAnalyzer, FetchError> {
    let attributes = Selection {
        gender_age: option(&args.ga_name),
        mask_detector: option(&args.mask_detector),
        liveness: option(&args.liveness_name),
        ..Selection::default()
    };
    args.networks.load_with(!args.no_embedding, REC_BATCH, attributes)
}

fn option(name: &Option<String>) -> Option<String> {
    name.as_deref().and_then(named).map(str::to_owned)
}

fn jobs(args: &ExtractArgs) -> usize {
    args.jobs.map_or_else(cores, usize::from)
}

/// All settings on which records depend: a run may only be continued with the same settings.
fn settings(args: &ExtractArgs, extractor: &Extractor) -> Result<serde_json::Value, ModelError> {
    let recognizer = extractor.analyzer.recognizer.as_ref().map(|recognizer| recognizer.name().to_owned());
    let names = [Some(args.networks.det_name.clone()), recognizer, option(&args.ga_name), option(&args.mask_detector)];
    let liveness = option(&args.liveness_name);
    let names = names.iter().flatten().map(String::as_str).chain(liveness.iter().flat_map(|names| split_names(names)));
    let models: serde_json::Map<_, _> = names
        .map(|name| Ok((name.to_owned(), args.networks.identity(name)?.into())))
        .collect::<Result<_, ModelError>>()?;
    Ok(json!({
        VERSION: env!("CARGO_PKG_VERSION"),
        MODELS: models,
        "det_name": args.networks.det_name,
        "rec_name": extractor.analyzer.recognizer.as_ref().map(|r| r.name()),
        "ga_name": option(&args.ga_name),
        "mask_detector": option(&args.mask_detector),
        "liveness_name": option(&args.liveness_name),
        "models_dir": args.networks.models_dir,
        "max_size": args.networks.max_size,
        "threshold": (f64::from(args.threshold) * 1e6).round() / 1e6,
        "limit_faces": args.limit_faces,
        "min_face_size": args.min_face_size,
        "max_megapixels": args.max_megapixels,
        "separate_failures": args.failures.is_some(),
    }))
}

fn to_stdout(args: &ExtractArgs, extractor: &Extractor) -> CliResult {
    let mut failures = match &args.failures {
        Some(path) => {
            check_failures(path, &PathBuf::new())?;
            Some(std::fs::File::create(path).map_err(JournalError::at(path))?)
        }
        None => None,
    };
    let mut progress = RunProgress::start(&args.inputs, Totals::default(), false);
    let mut error = None;
    let skipped = extract(args, extractor, Done::default(), 1, |record| {
        let written = match &mut failures {
            Some(file) if record.status == PictureStatus::Failed => {
                record.line().map_err(Into::into).and_then(|l| file.write_all(&l))
            }
            _ => print_record(record),
        };
        progress.add(record);
        error = written.err();
        error.is_none()
    });
    progress.finish();
    match error {
        // The reader of the output, such as `head`, has closed it.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(OK),
        Some(error) => return Err(error.into()),
        None => {}
    }
    Ok(summary(&progress, skipped))
}

fn to_file(args: &ExtractArgs, extractor: &Extractor, output: &Output) -> CliResult {
    let settings = settings(args, extractor)?;
    let opened = Journal::open(&output.path, &settings, args.failures.as_deref(), args.resume)?;
    let OpenedRun::Run(mut journal, done) = opened else {
        eprintln!("ifr: {} is complete; nothing to do", output.path.display());
        return Ok(OK);
    };
    if done.totals.pictures > 0 {
        eprintln!("ifr: {} pictures were done before", done.totals.pictures);
    }
    if let Some(version) = &journal.started_by {
        let this = env!("CARGO_PKG_VERSION");
        eprintln!("ifr: version {version} started this run, and this is {this}: numbers may differ in the last digits");
    }
    let mut progress = RunProgress::start(&args.inputs, done.totals, true);
    let mut error = None;
    let skipped = extract(args, extractor, done, TURN, |record| {
        let written = journal.write(record);
        progress.add(record);
        error = written.err();
        error.is_none()
    });
    progress.finish();
    if let Some(error) = error {
        return Err(error.into());
    }
    journal.finish(&output.path, |records, target| match output.format {
        Format::JsonLines => std::fs::rename(records, target).map_err(JournalError::at(target)),
        Format::Parquet => parquet::convert(records, target, &settings),
    })?;
    eprintln!("ifr: {}, in {}", progress.line(), output.path.display());
    Ok(summary(&progress, skipped))
}

/// Number of pictures that a worker takes at once in a run that writes a file: their faces are embedded in one batch.
const TURN: usize = 4;

/// Processes the inputs that are not done; returns the number of files that were skipped because they are not pictures.
fn extract(
    args: &ExtractArgs,
    extractor: &Extractor,
    mut done: Done,
    turn: usize,
    mut deliver: impl FnMut(&Record) -> bool,
) -> usize {
    let mut inputs = Inputs::new(args.inputs.clone());
    let mut left = inputs.by_ref().filter(|input| !done.take(&input.name()));
    let turns = std::iter::from_fn(|| Some(left.by_ref().take(turn).collect::<Vec<Input>>()).filter(|t| !t.is_empty()));
    map_ordered(turns, jobs(args), |turn| extractor.extract(&turn), |records| records.iter().all(&mut deliver));
    inputs.skipped
}

fn summary(progress: &RunProgress, skipped: usize) -> u8 {
    if skipped > 0 {
        eprintln!("ifr: skipped {skipped} files that are not pictures");
    }
    let Totals { pictures, failed, .. } = progress.totals();
    if pictures == 0 {
        eprintln!("ifr: no pictures found");
    }
    if failed > 0 {
        eprintln!("ifr: {failed} of {pictures} inputs failed");
        return SOME_FAILED;
    }
    OK
}

fn print_record(record: &Record) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&record.line()?)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_from_the_name() {
        let format = |text| parse_output(text).map(|o| o.format);
        assert_eq!(format("faces.JSONL"), Ok(Format::JsonLines));
        assert_eq!(format("/tmp/faces.parquet"), Ok(Format::Parquet));
        assert!(format("faces.csv").unwrap_err().to_string().contains(".parquet"));
        assert!(format("/no/such/dir/faces.parquet").unwrap_err().to_string().contains("/no/such/dir"));
    }
}
