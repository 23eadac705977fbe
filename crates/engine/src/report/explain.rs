//! What each layer of a plan does, where it runs and how long it takes.

use std::fmt;

use ndarray::{ArrayView, Dimension};
use serde::Serialize;
use web_time::Instant;

use crate::error::EngineError;
use crate::plan::Plan;
use crate::run::threads;
use crate::simd::Isa;

/// One step of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Name of the ONNX node, or of the last of those that became one.
    pub name: String,
    /// The operation: "conv", "max pool", "to blocks" (a change of layout), ...
    pub op: String,
    /// How it is computed, for operations that have a choice.
    pub algorithm: String,
    /// The instruction set of the engine's own kernel, or "tract".
    pub runs_on: String,
    pub input: Vec<usize>,
    pub output: Vec<usize>,
    /// Of the fastest run: other programs use the processor too.
    pub milliseconds: f64,
    /// Multiplications and additions of the direct algorithm in a second, in 1e9; 0 where there are none to speak of.
    pub gflops: f64,
    /// `gflops` as a share of what the processor could do if it did nothing else. Winograd's algorithm may exceed 1.
    pub share_of_peak: f64,
}

/// All steps of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub network: String,
    pub input: Vec<usize>,
    pub isa: String,
    pub threads: usize,
    /// Billions of multiplications and additions a second that all threads together can do.
    pub peak_gflops: f64,
    pub total_milliseconds: f64,
    /// Memory of one running inference, in bytes.
    pub arena_bytes: usize,
    pub layers: Vec<LayerReport>,
}

impl Plan {
    /// Runs the plan `runs` times on `input` and reports every step.
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
        let threads = threads::run(crate::run::team::threads);
        let peak_gflops = threads as f64 * crate::report::peak::gflops(isa);
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

fn dims(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
