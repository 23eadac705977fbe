//! `ifr extract`: pictures in, one JSON object a line out.

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::inputs::{Input, collect};
use super::networks::{NetworkArgs, parse_threshold};
use super::ordered::map_ordered;
use super::{CliResult, OK, SOME_FAILED};
use crate::analyzer::{AnalyzeOptions, Face, FaceAnalyzer};
use crate::image::{DecodeLimits, decode};

/// Faces embedded in one forward pass.
const REC_BATCH: usize = 8;
/// Compressed bytes read from one input.
const MAX_FILE: u64 = 256 << 20;

#[derive(Args)]
pub(super) struct ExtractArgs {
    /// Pictures, directories of pictures, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    #[command(flatten)]
    networks: NetworkArgs,

    /// Least score of a face, 0 to 1
    #[arg(long, default_value = "0.6", value_parser = parse_threshold)]
    threshold: f32,

    /// Keep only this many of the largest faces of each picture; 0 keeps all
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit_faces: usize,

    /// Drop faces narrower than this many pixels
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    min_face_size: u32,

    /// Only find faces, compute no embeddings
    #[arg(long)]
    no_embedding: bool,

    /// Pictures worked on at once; the number of cores when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,

    /// Refuse pictures of more pixels than this, in millions
    #[arg(long, default_value_t = 50.0, value_name = "MEGAPIXELS")]
    max_megapixels: f64,
}

/// One line of output.
#[derive(Serialize)]
struct Record {
    path: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    took_ms: f64,
    width: Option<u32>,
    height: Option<u32>,
    faces: Vec<FaceRecord>,
}

#[derive(Serialize)]
struct FaceRecord {
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
    prob: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    norm: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vec: Option<Vec<f32>>,
}

impl From<Face> for FaceRecord {
    fn from(face: Face) -> Self {
        let (norm, vec) = face.embedding.map(|e| (e.norm, e.vec)).unzip();
        FaceRecord { bbox: face.bbox, landmarks: face.landmarks, prob: face.prob, norm, vec }
    }
}

pub(super) fn run(args: &ExtractArgs) -> CliResult {
    let analyzer = args.networks.load(!args.no_embedding, REC_BATCH)?;
    let options = AnalyzeOptions {
        threshold: args.threshold,
        limit_faces: args.limit_faces,
        min_face_size: args.min_face_size,
        embedding: analyzer.recognizer.is_some(),
        ..Default::default()
    };
    let limits = DecodeLimits { max_pixels: (args.max_megapixels * 1e6) as u64 };
    let (inputs, passed_over) = collect(&args.inputs);
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()), usize::from);

    let progress = progress_bar(inputs.len());
    let mut failed = 0usize;
    let mut faces = 0usize;
    let mut broken_pipe = None;
    let work = |input: &Input| extract(input, &analyzer, &options, &limits);
    map_ordered(&inputs, jobs, work, |record| {
        failed += usize::from(record.error.is_some());
        faces += record.faces.len();
        let written = print_line(&record);
        progress.set_message(format!("{faces} faces, {failed} failed"));
        progress.inc(1);
        broken_pipe = written.err();
        broken_pipe.is_none()
    });
    progress.finish_and_clear();
    match broken_pipe {
        // The reader (head, say) has seen enough.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(OK),
        Some(error) => return Err(error.into()),
        None => {}
    }
    if passed_over > 0 {
        eprintln!("ifr: passed over {passed_over} files that are not pictures");
    }
    if failed > 0 {
        eprintln!("ifr: {failed} of {} inputs failed", inputs.len());
    }
    Ok(if failed > 0 { SOME_FAILED } else { OK })
}

fn print_line(record: &Record) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn progress_bar(inputs: usize) -> ProgressBar {
    if inputs < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} pictures, {per_sec}, {eta} left, {msg}");
    ProgressBar::new(inputs as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn extract(input: &Input, analyzer: &FaceAnalyzer, options: &AnalyzeOptions, limits: &DecodeLimits) -> Record {
    let started = Instant::now();
    // Nothing below is expected to panic; if it does, one picture fails and the others go on.
    let result = catch_unwind(AssertUnwindSafe(|| analyze(input, analyzer, options, limits)))
        .unwrap_or_else(|_| Err("internal error while working on this picture; please report it".into()));
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    let path = input.name();
    match result {
        Ok(found) => Record {
            path,
            status: "ok",
            error: None,
            took_ms,
            width: Some(found.width),
            height: Some(found.height),
            faces: found.faces.into_iter().map(FaceRecord::from).collect(),
        },
        Err(error) => {
            Record { path, status: "failed", error: Some(error), took_ms, width: None, height: None, faces: vec![] }
        }
    }
}

fn analyze(
    input: &Input,
    analyzer: &FaceAnalyzer,
    options: &AnalyzeOptions,
    limits: &DecodeLimits,
) -> Result<crate::analyzer::ImageFaces, String> {
    let bytes = input.read(MAX_FILE).map_err(|e| format!("cannot read: {e}"))?;
    let image = decode(&bytes, limits).map_err(|e| e.to_string())?;
    drop(bytes);
    let mut analysis = analyzer.analyze(&[image], options).map_err(|e| e.to_string())?;
    analysis.images.pop().ok_or_else(|| "no result".into())
}
