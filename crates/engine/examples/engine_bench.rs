//! Runs a network on request, for `benches/versus_onnxruntime.py`, which alternates between this program and ONNX Runtime.
//!
//! `engine_bench MODEL.onnx NxCxHxW THREADS` prints one JSON object when the network is ready. Then it answers each line of
//! its input with a JSON object: a number runs the network that often and returns the times, `load` loads the network
//! again, `explain` reports every layer.

use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use ifr_engine::{EngineError, Network, set_threads};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, shape, threads] = arguments.as_slice() else {
        return Err("usage: engine_bench MODEL.onnx NxCxHxW THREADS".into());
    };
    let shape = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    set_threads(threads.parse()?);
    let load = || {
        let start = Instant::now();
        let plan = Network::from_file(Path::new(path), path)?.plan(&shape)?;
        Ok::<_, EngineError>((plan, start.elapsed().as_secs_f64() * 1e3))
    };
    let (plan, prepared) = load()?;
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let input: Vec<f32> = (0..shape.iter().product()).map(|_| noise()).collect();
    let mut outputs = plan.new_outputs();
    plan.run_into(plan.view(&input)?, &mut outputs)?;
    let explanation = plan.explain(plan.view(&input)?, 1)?;
    println!("{}", json!({"prepare_ms": prepared, "peak_kb": peak_memory(), "isa": explanation.isa}));
    for line in std::io::stdin().lock().lines() {
        let answer = match line?.trim() {
            "load" => json!({"ms": load()?.1}),
            "explain" => serde_json::to_value(plan.explain(plan.view(&input)?, 15)?)?,
            count => {
                let mut times = vec![];
                for _ in 0..count.parse::<usize>()? {
                    let start = Instant::now();
                    plan.run_into(plan.view(&input)?, &mut outputs)?;
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
                json!({"ms": times})
            }
        };
        println!("{answer}");
    }
    Ok(())
}

/// Peak resident memory in kB, on systems with `/proc`.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
