//! What each stage around the networks costs: `cargo bench --bench stages`.
//!
//! A 12-megapixel photograph is decoded, fitted into the canvas and normalised; proposals are decoded and suppressed as on a crowd; a face
//! is cut out. With the reference data present (see tests/common) the crowd is the real lumia.jpg.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, criterion_group, criterion_main};
use ifr::align::align;
use ifr::detect::{Detection, DetectorHead, Scrfd, nms};
use ifr::engine::{Network, Tensor};
use ifr::image::{Letterbox, Normalization, RgbImage, decode};

#[path = "../tests/common/mod.rs"]
mod common;

const CANVAS: (usize, usize) = (640, 640);

/// The repository's photograph, enlarged to 4000 x 3000 and saved as a camera would.
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

/// Outputs of an SCRFD network on lumia.jpg, or made-up ones with as many proposals.
fn crowd() -> (Scrfd, Vec<Tensor>) {
    if let Some(data) = common::test_data() {
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
        return (head, plan.run(&planes).expect("inference"));
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
            outputs.push(Tensor { shape: vec![1, anchors, width], data: (0..anchors * width).map(value).collect() });
        }
    }
    let shapes: Vec<Vec<usize>> = outputs.iter().map(|t| t.shape.clone()).collect();
    (Scrfd::new(&shapes, 1, CANVAS, false).expect("SCRFD"), outputs)
}

fn stages(c: &mut Criterion) {
    let bytes = photograph();
    let image = decode(&bytes, &Default::default()).expect("just encoded");
    let mut canvas = vec![0u8; 3 * CANVAS.0 * CANVAS.1];
    let mut planes = vec![0f32; canvas.len()];
    c.bench_function("decode 12 MP JPEG", |b| b.iter(|| decode(black_box(&bytes), &Default::default())));
    c.bench_function("letterbox 12 MP to 640x640", |b| b.iter(|| fit(black_box(&image), &mut canvas)));
    c.bench_function("normalise 640x640", |b| {
        b.iter(|| Normalization::rgb(127.5, 128.0).planes(black_box(&canvas), &mut planes))
    });

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

    let landmarks = [[1640.0, 620.0], [1960.0, 640.0], [1790.0, 800.0], [1660.0, 900.0], [1930.0, 920.0]];
    c.bench_function("align one face", |b| b.iter(|| align(black_box(&image), &landmarks)));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2)).without_plots();
    targets = stages
}
criterion_main!(benches);
