//! Comparison of the engine with tract on whole networks: the default models, the reference data, and published
//! architectures.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use ifr_engine::ndarray::{ArrayD, Axis, ShapeBuilder};
use ifr_engine::{Backend, EngineError, Network, Plan};
use ifr_testing::{make_arch, model_files};

/// A network with a published architecture and random weights. `None` if the test must skip, which is reported.
fn architecture(name: &str) -> Option<PathBuf> {
    // Tests run concurrently, and two tests use the same files.
    static WRITING: Mutex<()> = Mutex::new(());
    let _guard = WRITING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let script = make_arch()?;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.onnx"));
    if !path.is_file() {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{}.part", std::process::id()));
        let run = Command::new("python3").arg(script).arg(name).arg(&made).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        std::fs::rename(made, &path).unwrap();
    }
    Some(path)
}

/// Reproducible random values from -`range` to `range`.
fn noise(shape: &[usize], seed: u32, range: f32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..shape.iter().product()).map(|_| next() * range).collect()
}

fn open(path: &Path) -> Network {
    Network::from_file(path, &path.file_stem().unwrap().to_string_lossy()).unwrap()
}

fn run(plan: &Plan, input: &[f32]) -> Result<Vec<ArrayD<f32>>, EngineError> {
    plan.run(plan.view(input)?)
}

/// Largest difference divided by the largest absolute value.
fn difference(got: &ArrayD<f32>, want: &ArrayD<f32>) -> f32 {
    assert_eq!(got.shape(), want.shape());
    let scale = want.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0.0f32, |m, (g, w)| m.max((g - w).abs())) / scale
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Compares the outputs of the engine with those of tract. Returns `false` if tract cannot run the network.
fn agrees_with_tract(path: &Path, batch: usize) -> bool {
    let network = open(path);
    let shape = common::input_shape(&network, batch);
    let plan = network.plan(&shape).unwrap();
    let oracle = open(path).with_backend(Backend::Tract);
    let Ok(oracle) = oracle.plan(&shape) else {
        eprintln!("{}: tract cannot run {shape:?}", path.display());
        return false;
    };
    let range = if network.normalizes_input() { 127.0 } else { 1.0 };
    let input = noise(&shape, 1, range);
    let (got, want) = (run(&plan, &input).unwrap(), run(&oracle, &input).unwrap());
    assert_eq!(got.len(), want.len());
    for (output, (got, want)) in got.iter().zip(&want).enumerate() {
        let off = difference(got, want);
        assert!(off < 1e-3, "{} {shape:?}: output {output} differs by {off} of its scale", path.display());
        if got.ndim() == 2 && got.shape()[1] >= 128 {
            for (got, want) in got.outer_iter().zip(want.outer_iter()) {
                let cosine = cosine(got.to_slice().unwrap(), want.to_slice().unwrap());
                assert!(cosine > 0.99999, "{} {shape:?}: cosine {cosine}", path.display());
            }
        }
    }
    true
}

/// Layers of the plan that tract runs.
fn layers_of_tract(plan: &Plan, input: &[f32]) -> Vec<String> {
    let layers = plan.explain(plan.view(input).unwrap(), 1).unwrap().layers;
    layers.into_iter().filter(|l| l.runs_on == "tract").map(|l| format!("{} ({})", l.name, l.algorithm)).collect()
}

#[test]
fn networks_agree_with_tract() {
    let files = model_files();
    let compared = files.iter().filter(|path| agrees_with_tract(path, 1)).count();
    // tract cannot run a few of the reference models.
    assert!(compared >= 2 && 4 * compared >= 3 * files.len(), "only {compared} of {} were compared", files.len());
}

#[test]
fn architectures_agree_with_tract() {
    for name in ["scrfd_10g_bn", "scrfd_10g_gn", "iresnet50", "iresnet100"] {
        let Some(path) = architecture(name) else { return };
        let batches: &[usize] = if name == "iresnet50" { &[1, 3] } else { &[1] };
        for &batch in batches {
            assert!(agrees_with_tract(&path, batch), "{name}: tract cannot run a batch of {batch}");
        }
    }
}

#[test]
fn networks_run_all_convolutions_on_the_engine() {
    let architectures = ["scrfd_10g_bn", "scrfd_10g_gn", "iresnet50"].into_iter().filter_map(architecture);
    for path in model_files().into_iter().chain(architectures) {
        let network = open(&path);
        let shape = common::input_shape(&network, 1);
        let plan = network.plan(&shape).unwrap();
        let left = layers_of_tract(&plan, &noise(&shape, 1, 1.0));
        let heavy =
            |l: &&String| ["conv", "gemm", "matmul", "einsum", "whole"].iter().any(|n| l.to_lowercase().contains(n));
        assert_eq!(left.iter().filter(heavy).collect::<Vec<_>>(), Vec::<&String>::new(), "{}", path.display());
    }
}

#[test]
fn networks_give_equal_results_for_batches_and_single_images() {
    for name in ["mobilefacenet", "centerface"] {
        let path = model_files().into_iter().find(|p| p.ends_with(format!("{name}.onnx"))).unwrap();
        let network = open(&path);
        let shapes = [common::input_shape(&network, 3), common::input_shape(&network, 1)];
        let input = noise(&shapes[0], 7, 1.0);
        let batched = run(&network.plan(&shapes[0]).unwrap(), &input).unwrap();
        let alone = network.plan(&shapes[1]).unwrap();
        for (image, input) in input.chunks(input.len() / 3).enumerate() {
            for (batched, alone) in batched.iter().zip(run(&alone, input).unwrap()) {
                let part = batched.as_slice().unwrap().chunks(batched.len() / 3).nth(image).unwrap();
                let part = ArrayD::from_shape_vec(alone.shape(), part.to_vec()).unwrap();
                assert!(difference(&part, &alone) < 1e-5, "{name}, image {image}");
            }
        }
    }
}

#[test]
fn plan_runs_on_several_threads_at_the_same_time() {
    let path = model_files().into_iter().find(|p| p.ends_with("mobilefacenet.onnx")).unwrap();
    let network = open(&path);
    let shape = common::input_shape(&network, 1);
    let plan = network.plan(&shape).unwrap();
    let inputs: Vec<Vec<f32>> = (0..8).map(|seed| noise(&shape, seed, 1.0)).collect();
    let expected: Vec<_> = inputs.iter().map(|input| run(&plan, input).unwrap()).collect();
    std::thread::scope(|scope| {
        for (input, expected) in inputs.iter().zip(&expected) {
            let plan = &plan;
            scope.spawn(move || (0..20).for_each(|_| assert_eq!(&run(plan, input).unwrap(), expected)));
        }
    });
}

#[test]
fn plan_treats_denormal_inputs_as_zero_at_full_speed() {
    let path = model_files().into_iter().find(|p| p.ends_with("mobilefacenet.onnx")).unwrap();
    let network = open(&path);
    let shape = common::input_shape(&network, 1);
    let plan = network.plan(&shape).unwrap();
    let tiny = noise(&shape, 3, 1e-39);
    assert!(tiny.iter().any(|v| v.is_subnormal()));
    let zeros = vec![0.0; tiny.len()];
    for (tiny, zero) in run(&plan, &tiny).unwrap().iter().zip(&run(&plan, &zeros).unwrap()) {
        assert!(difference(tiny, zero) < 1e-6);
    }
    let time = |input: &[f32]| {
        let start = std::time::Instant::now();
        run(&plan, input).unwrap();
        start.elapsed()
    };
    // Alternating, so that other load slows down both.
    let times: Vec<_> = (0..30).map(|_| (time(&tiny), time(&zeros))).collect();
    let tiny = times.iter().map(|(tiny, _)| tiny).min().unwrap();
    let zeros = times.iter().map(|(_, zeros)| zeros).min().unwrap();
    assert!(*tiny < *zeros * 3, "denormal inputs take {tiny:?}, zeros {zeros:?}");
}

#[test]
fn plan_rejects_an_input_of_the_wrong_length() {
    let path = model_files().into_iter().find(|p| p.ends_with("mobilefacenet.onnx")).unwrap();
    let network = open(&path);
    let plan = network.plan(&common::input_shape(&network, 1)).unwrap();
    let error = run(&plan, &[0.0; 3]).unwrap_err().to_string();
    assert!(error.contains("mobilefacenet") && error.contains('3'), "{error}");
}

#[test]
fn plan_accepts_any_layout_and_rejects_other_shapes() {
    let path = model_files().into_iter().find(|p| p.ends_with("mobilefacenet.onnx")).unwrap();
    let network = open(&path);
    let shape = common::input_shape(&network, 1);
    let plan = network.plan(&shape).unwrap();
    let input = noise(&shape, 5, 1.0);
    let expected = run(&plan, &input).unwrap();
    // The same values, stored with the axes in reverse order.
    let row_major = ArrayD::from_shape_vec(shape.as_slice(), input).unwrap();
    let mut reversed = ArrayD::zeros(shape.as_slice().f());
    reversed.assign(&row_major);
    assert!(reversed.as_slice().is_none());
    assert_eq!(plan.run(reversed.view()).unwrap(), expected);
    let error = plan.run(row_major.slice_axis(Axis(2), (..100).into())).unwrap_err();
    assert!(matches!(&error, EngineError::InputShape { got, .. } if got[2] == 100), "{error}");
    let error = plan.run_into(row_major.view(), &mut []).unwrap_err();
    assert!(matches!(error, EngineError::OutputShapes { .. }), "{error}");
    let mut outputs = plan.new_outputs();
    outputs[0].swap_axes(0, 1);
    let error = plan.run_into(row_major.view(), &mut outputs).unwrap_err();
    assert!(matches!(error, EngineError::OutputShapes { .. }), "{error}");
}
