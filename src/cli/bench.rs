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

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Name or file of a model; may be given several times. The default is the built-in models
    #[arg(long = "model", value_name = "NAME|FILE.onnx")]
    models: Vec<String>,

    /// Directory with models as onnx/NAME/NAME.onnx; the built-in models need none
    #[arg(long, env = "MODELS_DIR", value_name = "DIR")]
    models_dir: Option<PathBuf>,

    /// Number of pictures or faces in one forward pass
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: u16,

    /// Number of threads of one forward pass
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// Width and height of the input of networks that take any size
    #[arg(long, default_value = "640,640", value_name = "W,H", value_parser = parse::size)]
    max_size: (usize, usize),

    /// Minimum time for each model, in seconds
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = parse::seconds)]
    seconds: f64,

    /// Report each layer instead: its kernel, its time and its use of the processor
    #[arg(long)]
    explain: bool,

    /// Print one JSON object per line instead of a table
    #[arg(long)]
    json: bool,
}

type Failure = Box<dyn std::error::Error>;

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
            // The next models are measured all the same.
            Err(error) => {
                eprintln!("ifr: {error}");
                failed += 1;
            }
            Ok(report) if args.json => line!("{}", report.json()?),
            Ok(Report::Layers(explanation)) => line!("{explanation}"),
            Ok(Report::Time(measured)) => {
                if let Some(head) = head.take() {
                    line!("{head}");
                }
                let shape = measured.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
                line!(
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
struct Bench {
    network: Network,
    plan: Arc<Plan>,
    input: Vec<f32>,
}

impl Bench {
    fn new(model: &str, args: &BenchArgs) -> Result<Bench, Failure> {
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
        Ok(Bench { network, plan, input })
    }
}

/// The report of each layer, from the runs that the time allows.
fn explain(model: &str, args: &BenchArgs) -> Result<Explanation, Failure> {
    let Bench { plan, input, .. } = Bench::new(model, args)?;
    let run = Instant::now();
    plan.run(plan.view(&input)?)?;
    let runs = (args.seconds / run.elapsed().as_secs_f64()) as usize;
    Ok(plan.explain(plan.view(&input)?, runs.clamp(5, 10_000))?)
}

fn measure(model: &str, args: &BenchArgs) -> Result<Measurement, Failure> {
    let Bench { network, plan, input } = Bench::new(model, args)?;
    let least = Duration::from_secs_f64(args.seconds);
    let shape = plan.input_shape().to_vec();
    let mut times = vec![];
    let started = Instant::now();
    while times.len() < 5 || started.elapsed() < least {
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

fn load(model: &str, args: &BenchArgs) -> Result<Network, Failure> {
    let path = Path::new(model);
    if model.ends_with(".onnx") || path.is_file() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Network::from_file(path, &name).map_err(|e| format!("{model}: {e}"))?);
    }
    Ok(ModelStore::new(args.models_dir.clone()).network(model)?.0)
}

/// The declared shape with `batch` and, for networks that take any size, `max_size`.
///
/// A fixed side of a crop (80 to 256 pixels) stays; other fixed sides are an accident of the export.
pub(super) fn shape(network: &Network, batch: usize, max_size: (usize, usize)) -> Vec<usize> {
    let declared = network.input().shape;
    if let [_, Some(h), Some(w), Some(3)] = declared[..] {
        return vec![batch, h, w, 3];
    }
    let side = |declared: Option<usize>, wanted: usize| declared.filter(|s| (80..=256).contains(s)).unwrap_or(wanted);
    let of = |i: usize| declared.get(i).copied().flatten();
    vec![batch, of(1).unwrap_or(3), side(of(2), max_size.1), side(of(3), max_size.0)]
}
