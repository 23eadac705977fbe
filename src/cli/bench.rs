//! `ifr bench`: measures the speed of networks on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{CliResult, OK, SOME_FAILED, USAGE};
use crate::engine::{Explanation, Network, Plan};
use crate::models::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, ModelStore};
use crate::parse;

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr bench                                  the built-in models, one thread
  ifr bench --threads 4 --max-size 1280,1280
  ifr bench --model my.onnx --batch 8
  ifr bench --model centerface --explain     time and processor use of each layer";

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Name or file of a model [default: the built-in models]. May be given several times
    #[arg(long = "model", value_name = "NAME|FILE.onnx")]
    models: Vec<String>,

    /// Directory with models as onnx/NAME/NAME.onnx; not needed for the built-in models
    #[arg(long, env = "MODELS_DIR", value_name = "DIR")]
    models_dir: Option<PathBuf>,

    /// Number of pictures or faces in one forward pass
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: u16,

    /// Number of threads of one forward pass
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// Width and height of the input, for networks that accept any size
    #[arg(long, default_value = "640,640", value_name = "W,H", value_parser = parse::size)]
    max_size: (usize, usize),

    /// Minimum number of seconds per model
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = parse::seconds)]
    seconds: f64,

    /// Report the kernel, the time and the processor use of each layer, instead of the total time
    #[arg(long)]
    explain: bool,

    /// Print one JSON object per line instead of a table
    #[arg(long)]
    json: bool,
}

/// A network that cannot be loaded or run.
type BoxedError = Box<dyn std::error::Error>;

#[derive(Serialize)]
struct Measurement {
    model: String,
    shape: Vec<usize>,
    batch: usize,
    threads: usize,
    median_ms: f64,
    min_ms: f64,
    runs: usize,
}

pub(super) fn run(args: &BenchArgs) -> CliResult {
    let defaults = [DEFAULT_DETECTOR, DEFAULT_RECOGNIZER].map(String::from);
    let models = if args.models.is_empty() { &defaults[..] } else { &args.models[..] };
    crate::engine::set_threads(args.threads.into());
    let mut head = (!args.json).then(|| {
        format!("{:<28} {:>16} {:>7} {:>10} {:>10} {:>6}", "model", "shape", "threads", "median ms", "min ms", "runs")
    });
    let mut failed = 0;
    for model in models {
        let report = if args.explain {
            explain(model, args).map(Report::Layers)
        } else {
            measure(model, args).map(Report::Time)
        };
        match report {
            // The other models are measured in any case.
            Err(error) => {
                eprintln!("ifr: {error}");
                failed += 1;
            }
            Ok(report) if args.json => print_line!("{}", report.json()?),
            Ok(Report::Layers(explanation)) => print_line!("{explanation}"),
            Ok(Report::Time(measured)) => {
                if let Some(head) = head.take() {
                    print_line!("{head}");
                }
                let shape = measured.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
                print_line!(
                    "{:<28} {shape:>16} {:>7} {:>10.2} {:>10.2} {:>6}",
                    measured.model,
                    measured.threads,
                    measured.median_ms,
                    measured.min_ms,
                    measured.runs
                );
            }
        }
    }
    Ok(match failed {
        0 => OK,
        all if all == models.len() => USAGE,
        _ => SOME_FAILED,
    })
}

/// The report on a model.
enum Report {
    Time(Measurement),
    Layers(Explanation),
}

impl Report {
    fn json(&self) -> serde_json::Result<String> {
        match self {
            Report::Time(measured) => serde_json::to_string(measured),
            Report::Layers(explanation) => serde_json::to_string(explanation),
        }
    }
}

/// A network with a plan and an input.
struct PreparedModel {
    network: Network,
    plan: Arc<Plan>,
    input: Vec<f32>,
}

impl PreparedModel {
    fn new(model: &str, args: &BenchArgs) -> Result<PreparedModel, BoxedError> {
        let network = load(model, args)?;
        let shape = shape(&network, args.batch.into(), args.max_size);
        let plan = network.plan(&shape)?;
        // Noise in the range of a normalized picture: zeros and denormals would change the time.
        let mut state = 1u32;
        let input: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        for _ in 0..2 {
            plan.run(plan.view(&input)?)?;
        }
        Ok(PreparedModel { network, plan, input })
    }
}

/// Reports each layer, averaged over the runs that fit into the time.
fn explain(model: &str, args: &BenchArgs) -> Result<Explanation, BoxedError> {
    let PreparedModel { plan, input, .. } = PreparedModel::new(model, args)?;
    let run = Instant::now();
    plan.run(plan.view(&input)?)?;
    let runs = (args.seconds / run.elapsed().as_secs_f64()) as usize;
    Ok(plan.explain(plan.view(&input)?, runs.clamp(5, 10_000))?)
}

fn measure(model: &str, args: &BenchArgs) -> Result<Measurement, BoxedError> {
    let PreparedModel { network, plan, input } = PreparedModel::new(model, args)?;
    let minimum = Duration::from_secs_f64(args.seconds);
    let shape = plan.input_shape().to_vec();
    let mut times = vec![];
    let started = Instant::now();
    while times.len() < 5 || started.elapsed() < minimum {
        let run = Instant::now();
        std::hint::black_box(plan.run(plan.view(&input)?)?);
        times.push(run.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let name = network.name().to_owned();
    Ok(Measurement {
        model: name,
        batch: shape[0],
        shape,
        threads: args.threads.into(),
        median_ms: times[times.len() / 2],
        min_ms: times[0],
        runs: times.len(),
    })
}

fn load(model: &str, args: &BenchArgs) -> Result<Network, BoxedError> {
    let path = Path::new(model);
    if model.ends_with(".onnx") || path.is_file() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Network::from_file(path, &name).map_err(|e| format!("{model}: {e}"))?);
    }
    Ok(ModelStore::new(args.models_dir.clone()).network(model)?.0)
}

/// The declared shape with `batch` and, for networks that accept any size, `max_size`.
///
/// A fixed side of 80 to 256 pixels, the size of a crop, is kept. Other fixed sides are those of an example picture of
/// the export.
pub(super) fn shape(network: &Network, batch: usize, max_size: (usize, usize)) -> Vec<usize> {
    let declared = network.input().shape;
    if let [_, Some(h), Some(w), Some(3)] = declared[..] {
        return vec![batch, h, w, 3];
    }
    let side = |declared: Option<usize>, wanted: usize| declared.filter(|s| (80..=256).contains(s)).unwrap_or(wanted);
    let dimension = |i: usize| declared.get(i).copied().flatten();
    vec![batch, dimension(1).unwrap_or(3), side(dimension(2), max_size.1), side(dimension(3), max_size.0)]
}
