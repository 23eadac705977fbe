//! Time of each stage of an analysis: `cargo bench --bench stages`. `benches/stages.py` writes the result into
//! docs/performance.md.
//!
//! Input is a photograph of 12 megapixels with one face, with the default models on one thread. The table at the end has
//! the shares of the stages. Proposals and NMS are also measured on a crowd: lumia.jpg if the reference data is present
//! (see crates/testing), otherwise random outputs.

use std::hint::black_box;
use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group};
use ifr::align::align;
use ifr::detect::{CenterFace, Detection, DetectorHead, Scrfd, nms};
use ifr::engine::{Network, ndarray::ArrayD};
use ifr::image::{Letterbox, RgbImage, decode};
use ifr::models::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, ModelStore};
use ifr::recognize::{Embedding, RecognizerKind};

const CANVAS: (usize, usize) = (640, 640);

/// The built-in photograph, enlarged to 4000 x 3000, as a JPEG of quality 90.
fn photograph() -> Vec<u8> {
    let small = decode(ifr::models::health_picture(), &Default::default()).expect("the embedded picture is whole");
    let large = image::imageops::resize(&small, 4000, 3000, image::imageops::FilterType::Triangle);
    let mut bytes = vec![];
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(Cursor::new(&mut bytes), 90);
    large.write_with_encoder(encoder).expect("writing to memory");
    bytes
}

fn fit(image: &RgbImage, canvas: &mut [u8]) -> Letterbox {
    let letterbox = Letterbox::fit((image.width() as usize, image.height() as usize), CANVAS);
    letterbox.apply(image, canvas);
    letterbox
}

/// Outputs of an SCRFD network for lumia.jpg, or artificial ones with a similar number of proposals.
fn crowd() -> (Scrfd, Vec<ArrayD<f32>>) {
    if let Some(data) = ifr_testing::reference_data() {
        let model =
            std::fs::read(data.join("models/onnx/scrfd_2.5g_gnkps/scrfd_2.5g_gnkps.onnx")).expect("reference model");
        let network = Network::from_onnx(&model, "scrfd_2.5g_gnkps").expect("reference model");
        let plan = network.plan(&[1, 3, CANVAS.1, CANVAS.0]).expect("reference model");
        let image = decode(&std::fs::read(data.join("images/lumia.jpg")).expect("picture"), &Default::default())
            .expect("picture");
        let mut canvas = vec![0; 3 * CANVAS.0 * CANVAS.1];
        fit(&image, &mut canvas);
        let mut planes = vec![0.0; canvas.len()];
        let head = Scrfd::new(plan.output_shapes(), 1, CANVAS, false).expect("SCRFD");
        head.normalization().planes(&canvas, &mut planes);
        return (head, plan.run(plan.view(&planes).expect("input")).expect("inference"));
    }
    let mut outputs = vec![];
    for width in [1usize, 4, 10] {
        for stride in [8usize, 16, 32] {
            let anchors = (CANVAS.0 / stride) * (CANVAS.1 / stride) * 2;
            let value = |i: usize| {
                if width > 1 {
                    1.5
                } else if i.is_multiple_of(37) {
                    0.3 + (i % 600) as f32 / 1000.0
                } else {
                    0.01
                }
            };
            let values = (0..anchors * width).map(value).collect();
            outputs.push(ArrayD::from_shape_vec(vec![1, anchors, width], values).expect("shape"));
        }
    }
    let shapes: Vec<Vec<usize>> = outputs.iter().map(|t| t.shape().to_vec()).collect();
    (Scrfd::new(&shapes, 1, CANVAS, false).expect("SCRFD"), outputs)
}

/// The fields of a face in an answer of the service.
#[derive(serde::Serialize)]
struct StageAnswer<'a> {
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
    prob: f32,
    norm: f32,
    vec: &'a [f32],
}

/// The stages of one picture in their order. Each is a benchmark with this name in the group [`PICTURE`].
const STAGES: [&str; 8] = [
    "decode",
    "letterbox",
    "normalize",
    "detector network",
    "proposals and NMS",
    "align",
    "recognizer network",
    "encode",
];
const PICTURE: &str = "12 MP picture";

fn picture(c: &mut Criterion) {
    // The shares are measured on one thread.
    ifr::engine::set_threads(1);
    let store = ModelStore::default();
    let plan = |name: &str, shape: &[usize]| {
        let network = store.network(name).expect("an embedded model").0;
        network.plan(shape).expect("an embedded model")
    };
    let (detector, recognizer) =
        (plan(DEFAULT_DETECTOR, &[1, 3, CANVAS.1, CANVAS.0]), plan(DEFAULT_RECOGNIZER, &[1, 3, 112, 112]));
    let head = CenterFace::new(detector.output_shapes(), 1, CANVAS).expect("the default detector is a CenterFace");
    let mut group = c.benchmark_group(PICTURE);

    let bytes = photograph();
    let image = decode(&bytes, &Default::default()).expect("just encoded");
    group.bench_function(STAGES[0], |b| b.iter(|| decode(black_box(&bytes), &Default::default())));
    let mut canvas = vec![0u8; 3 * CANVAS.0 * CANVAS.1];
    let letterbox = fit(&image, &mut canvas);
    group.bench_function(STAGES[1], |b| b.iter(|| fit(black_box(&image), &mut canvas)));
    let mut planes = vec![0f32; canvas.len()];
    group.bench_function(STAGES[2], |b| b.iter(|| head.normalization().planes(black_box(&canvas), &mut planes)));
    let outputs = detector.run(detector.view(&planes).expect("input")).expect("inference");
    group.bench_function(STAGES[3], |b| b.iter(|| detector.run(detector.view(black_box(&planes)).expect("input"))));
    let postprocess = || {
        let mut found = vec![];
        head.proposals(black_box(&outputs), 0, 0.6, &mut found);
        nms(&mut found, head.nms_threshold());
        found
    };
    group.bench_function(STAGES[4], |b| b.iter(postprocess));
    let face = postprocess()[0];
    let landmarks = face.landmarks.map(|p| p.map(|v| letterbox.to_image(v)));
    let crop = align(&image, &landmarks);
    group.bench_function(STAGES[5], |b| b.iter(|| align(black_box(&image), &landmarks)));
    let normalization = RecognizerKind::ArcfaceTorch.normalization();
    let mut input = vec![0f32; crop.as_raw().len()];
    let mut embed = || {
        normalization.planes(black_box(crop.as_raw()), &mut input);
        let outputs = recognizer.run(recognizer.view(&input).expect("input")).expect("inference");
        Embedding::from_raw(outputs[0].as_slice().expect("row-major").into())
    };
    let embedding = embed();
    group.bench_function(STAGES[6], |b| b.iter(&mut embed));
    let answer = StageAnswer {
        bbox: face.bbox,
        landmarks,
        prob: face.score,
        norm: embedding.norm,
        vec: embedding.vector.as_slice().unwrap(),
    };
    group.bench_function(STAGES[7], |b| b.iter(|| serde_json::to_vec(black_box(&answer))));
    group.finish();
}

fn crowds(c: &mut Criterion) {
    let (head, outputs) = crowd();
    for threshold in [0.6, 0.02] {
        let mut found: Vec<Detection> = vec![];
        head.proposals(&outputs, 0, threshold, &mut found);
        let name = format!("proposals over {threshold} ({})", found.len());
        c.bench_function(&name, |b| {
            b.iter(|| {
                found.clear();
                head.proposals(black_box(&outputs), 0, threshold, &mut found);
                found.len()
            })
        });
        c.bench_function(&format!("NMS of {}", found.len()), |b| {
            b.iter_batched(|| found.clone(), |mut f| nms(&mut f, 0.4), criterion::BatchSize::SmallInput)
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).without_plots();
    targets = picture, crowds
}

fn main() {
    let started = SystemTime::now();
    benches();
    Criterion::default().configure_from_args().final_summary();
    let times: Vec<(&str, f64)> = STAGES.into_iter().filter_map(|s| Some((s, mean_ms(s, started)?))).collect();
    // A filter on the command line can exclude stages.
    if times.len() == STAGES.len() {
        let all: f64 = times.iter().map(|(_, ms)| ms).sum();
        println!("share of each stage, of {all:.2} ms for a picture of 12 megapixels with one face:");
        for (stage, ms) in times {
            println!("| {stage} | {ms:.3} | {:.1}% |", 100.0 * ms / all);
        }
    }
}

/// Mean time of a stage in milliseconds from the files of Criterion, if they were written after `started`.
fn mean_ms(stage: &str, started: SystemTime) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let home = std::env::var_os("CRITERION_HOME").map_or_else(|| target.join("criterion"), PathBuf::from);
    let file = home.join(PICTURE).join(stage).join("new/estimates.json");
    // Timestamps of file systems can be up to a second old.
    let modified = std::fs::metadata(&file).ok()?.modified().ok()? + Duration::from_secs(1);
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
    (modified >= started).then_some(estimates["mean"]["point_estimate"].as_f64()? / 1e6)
}
