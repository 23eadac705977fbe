//! Report of a plan: operation, algorithm, instruction set and time of each step.

use std::fmt;

use ndarray::{ArrayView, Dimension};
use serde::Serialize;
use web_time::Instant;

use crate::error::EngineError;
use crate::plan::Plan;
use crate::report::peak;
use crate::run::{team, threads};
use crate::simd::Isa;

/// Report of one step of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Name of the ONNX node; of the last node if several were fused.
    pub name: String,
    /// Name of the operation: "conv", "max pool", "to blocks" (a change of layout), ...
    pub op: String,
    /// Name of the algorithm; empty for operations without a choice.
    pub algorithm: String,
    /// Instruction set of the engine's kernel, or "tract".
    pub runs_on: String,
    /// Shape of the first input.
    pub input: Vec<usize>,
    /// Shape of the first output.
    pub output: Vec<usize>,
    /// Time of the fastest run, because other programs use the CPU, too.
    pub milliseconds: f64,
    /// Billions of multiplications and additions per second, counted for the direct algorithm; 0 for operations whose
    /// number is not counted.
    pub gflops: f64,
    /// `gflops` divided by the peak of the CPU. Winograd's algorithm may exceed 1.
    pub share_of_peak: f64,
}

/// Report of all steps of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Name of the network.
    pub network: String,
    /// Shape of the input, batch first.
    pub input: Vec<usize>,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Number of threads of a run.
    pub threads: usize,
    /// Peak of all threads together, in billions of multiplications and additions per second.
    pub peak_gflops: f64,
    /// Sum of the times of all steps.
    pub total_milliseconds: f64,
    /// Memory of one running inference, in bytes.
    pub arena_bytes: usize,
    /// The steps in execution order.
    pub layers: Vec<LayerReport>,
}

impl Plan {
    /// Runs the plan `runs` times, at least once, on `input` and reports every step. Errs for an input of another
    /// shape.
    pub fn explain<D: Dimension>(&self, input: ArrayView<f32, D>, runs: usize) -> Result<Explanation, EngineError> {
        let steps = self.step_infos();
        let mut outputs = self.new_outputs();
        let mut times = vec![f64::INFINITY; steps.len()];
        for _ in 0..runs.max(1) {
            let mut last = Instant::now();
            self.run_observed(input.view(), &mut outputs, |step| {
                let now = Instant::now();
                times[step] = times[step].min((now - last).as_secs_f64() * 1e3);
                last = now;
            })?;
        }
        let isa = Isa::detect();
        let threads = threads::run(team::threads);
        let peak_gflops = threads as f64 * peak::gflops(isa);
        let layers: Vec<LayerReport> = steps
            .into_iter()
            .zip(times)
            .map(|(step, milliseconds)| {
                let gflops = if milliseconds > 0.0 { step.flops as f64 / milliseconds / 1e6 } else { 0.0 };
                LayerReport {
                    name: step.name,
                    op: step.op.into(),
                    runs_on: if step.op == "tract" { "tract".into() } else { isa.name().into() },
                    algorithm: step.algorithm,
                    input: step.input_shape,
                    output: step.output_shape,
                    milliseconds,
                    gflops,
                    share_of_peak: gflops / peak_gflops,
                }
            })
            .collect();
        Ok(Explanation {
            network: self.name().into(),
            input: self.input_shape().to_vec(),
            isa: isa.name().into(),
            threads,
            peak_gflops,
            total_milliseconds: layers.iter().map(|l| l.milliseconds).sum(),
            arena_bytes: self.arena_bytes(),
            layers,
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "{} {} on {}, {} thread(s), peak {:.0} GFLOP/s: {:.2} ms, {:.1} MB of buffers",
            self.network,
            dims(&self.input),
            self.isa,
            self.threads,
            self.peak_gflops,
            self.total_milliseconds,
            self.arena_bytes as f64 / 1e6
        )?;
        let header = ["op", "algorithm", "runs on", "input", "output", "ms", "%", "GFLOP/s", "peak", "name"];
        let mut rows = vec![header.map(String::from)];
        for layer in &self.layers {
            let rate = |text: String| if layer.gflops > 0.0 { text } else { String::new() };
            rows.push([
                layer.op.clone(),
                layer.algorithm.clone(),
                layer.runs_on.clone(),
                dims(&layer.input),
                dims(&layer.output),
                format!("{:.3}", layer.milliseconds),
                format!("{:.1}", 100.0 * layer.milliseconds / self.total_milliseconds),
                rate(format!("{:.0}", layer.gflops)),
                rate(format!("{:.0}%", 100.0 * layer.share_of_peak)),
                layer.name.clone(),
            ]);
        }
        let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in rows {
            for (column, cell) in row.iter().enumerate() {
                match column {
                    5..=8 => write!(f, "{cell:>width$}  ", width = widths[column])?,
                    9 => writeln!(f, "{cell}")?,
                    _ => write!(f, "{cell:<width$}  ", width = widths[column])?,
                }
            }
        }
        Ok(())
    }
}

/// Formats a shape as `1x3x112x112`.
fn dims(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
