//! Detection of the type of a network from its graph: detector families, widths of embeddings, batches, shapes and
//! opsets of different exporters, and the messages for unsuitable graphs.

use ifr_faces::attributes::{FaceView, GenderAge, Liveness, MaskDetector};
use ifr_faces::detect::Detector;
use ifr_faces::engine::Network;
use ifr_faces::image::RgbImage;
use ifr_faces::models::classify;
use ifr_faces::recognize::{Recognizer, RecognizerKind};
use ifr_testing::onnx::{Attribute, Dim, Fixed, Named, OnnxGraph, Open, Style};

fn network(bytes: &[u8]) -> Network {
    Network::from_onnx(bytes, "some").unwrap()
}

fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 + seed * 31) as u8, (y * 5 + x * seed) as u8, (x * y / 9 + seed) as u8])
    })
}

/// A recognizer with an embedding of `width` numbers. It has all layers whose ONNX form differs between opsets.
fn embedder(style: Style, width: i64) -> Vec<u8> {
    let mut g = OnnxGraph::new(Style { sides: Some((112, 112)), ..style });
    let x = g.conv_relu("data", 3, 8, 2);
    let x = g.batch_norm(&x, 8);
    let x = g.clip(&x);
    let x = g.conv_relu(&x, 8, 16, 2);
    let x = g.double(&x);
    let x = g.conv_relu(&x, 16, 16, 4);
    let maps = g.node("Flatten", &[&x], &[Attribute::Int("axis", 1)]);
    let mean = g.global_mean(&x);
    let x = g.node("Concat", &[&maps, &mean], &[Attribute::Int("axis", 1)]);
    let x = g.dense(&x, 16 * 14 * 14 + 16, width);
    g.output(&x, &[style.batch, Fixed(width)]);
    g.finish_planar()
}

fn batches() -> [Dim; 4] {
    [Fixed(1), Fixed(4), Named("N"), Open]
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn recognizer_accepts_all_widths_and_batches() {
    let crops: Vec<RgbImage> = (0..5).map(|seed| picture(112, 112, seed)).collect();
    let crops: Vec<&RgbImage> = crops.iter().collect();
    for width in [64, 128, 512, 1024] {
        let mut expected: Option<Vec<Vec<f32>>> = None;
        for batch in batches() {
            for weights_as_inputs in [false, true] {
                let style = Style { batch, weights_as_inputs, ..Style::PLAIN };
                for batch_size in [1, 4] {
                    let recognizer = Recognizer::new(network(&embedder(style, width)), None, batch_size).unwrap();
                    assert_eq!(recognizer.dimension(), width as usize);
                    assert_eq!(recognizer.batch(), batch_size, "{style:?}");
                    assert_eq!(recognizer.kind(), RecognizerKind::ArcfaceTorch);
                    let found: Vec<Vec<f32>> =
                        recognizer.embed(&crops).unwrap().into_iter().map(|e| e.vector.to_vec()).collect();
                    let expected = expected.get_or_insert_with(|| found.clone());
                    for (a, b) in found.iter().zip(expected) {
                        assert!(cosine(a, b) > 0.99999, "{style:?}, batch {batch_size}");
                    }
                    assert!(cosine(&found[0], &found[1]) < 0.9999, "different pictures have different embeddings");
                }
            }
        }
    }
}

#[test]
fn recognizer_results_are_equal_for_opsets_7_to_21() {
    let (a, b) = (picture(112, 112, 1), picture(112, 112, 9));
    let mut expected = None;
    for opset in 7..=21 {
        let style = Style { opset, ..Style::PLAIN };
        let recognizer =
            Recognizer::new(network(&embedder(style, 128)), None, 2).unwrap_or_else(|e| panic!("opset {opset}: {e}"));
        let found = recognizer.embed(&[&a, &b]).unwrap();
        let expected: &Vec<_> = expected.get_or_insert_with(|| found.clone());
        for (one, other) in found.iter().zip(expected) {
            assert!(
                one.similarity(other).unwrap() > 0.99999 && (one.norm - other.norm).abs() < 1e-3 * other.norm,
                "opset {opset}"
            );
        }
    }
}

#[test]
fn recognizer_with_normalization_is_of_the_mxnet_kind() {
    let mut g = OnnxGraph::new(Style { sides: Some((112, 112)), ..Style::PLAIN });
    let (mean, scale) = (g.floats(&[1], &[127.5]), g.floats(&[1], &[0.0078125]));
    let x = g.node("Sub", &["data", &mean], &[]);
    let x = g.node("Mul", &[&x, &scale], &[]);
    let x = g.conv_relu(&x, 3, 8, 8);
    let x = g.node("Flatten", &[&x], &[]);
    let x = g.dense(&x, 8 * 14 * 14, 128);
    g.output(&x, &[Fixed(1), Fixed(128)]);
    let recognizer = Recognizer::new(network(&g.finish_planar()), None, 1).unwrap();
    assert_eq!(recognizer.kind(), RecognizerKind::ArcfaceMxnet);
}

/// Feature maps of 16 channels at strides 4, 8, 16, 32 and 64.
fn pyramid(g: &mut OnnxGraph) -> Vec<String> {
    pyramid_on(g, "data")
}

fn pyramid_on(g: &mut OnnxGraph, data: &str) -> Vec<String> {
    let mut x = g.conv_relu(data, 3, 16, 2);
    let mut maps = vec![];
    for _ in 0..5 {
        x = g.conv_relu(&x, 16, 16, 2);
        maps.push(x.clone());
    }
    maps
}

/// Rows of `width` numbers from a map of `anchors * width` channels.
fn rows(g: &mut OnnxGraph, x: &str, anchors: i64, width: i64, batched: bool) -> String {
    let x = g.conv(x, 16, anchors * width, 1, 1);
    let x = g.transpose(&x, &[0, 2, 3, 1]);
    match (batched, g.style.batch) {
        (false, _) => g.reshape(&x, &[-1, width]),
        (true, Fixed(batch)) => g.reshape(&x, &[batch, -1, width]),
        (true, _) => g.reshape(&x, &[0, -1, width]),
    }
}

fn scrfd(style: Style, batched: bool) -> Vec<u8> {
    scrfd_of(style, batched, |_| "data".into())
}

/// An SCRFD detector with a first operation on its input.
fn scrfd_of(style: Style, batched: bool, first: impl Fn(&mut OnnxGraph) -> String) -> Vec<u8> {
    let mut g = OnnxGraph::new(style);
    let data = first(&mut g);
    let maps = pyramid_on(&mut g, &data);
    let mut outputs = vec![];
    for width in [1, 4, 10] {
        for map in &maps[1..4] {
            let x = rows(&mut g, map, 2, width, batched);
            outputs.push(if width == 1 { g.node("Sigmoid", &[&x], &[]) } else { x });
        }
    }
    for output in outputs {
        let declared: &[Dim] = if batched { &[Open, Open, Open] } else { &[Open, Open] };
        g.output(&output, declared);
    }
    g.finish_planar()
}

/// A detector whose outputs are maps: index of the stride and number of channels of each.
fn maps(style: Style, channels: &[(usize, i64)]) -> Vec<u8> {
    let mut g = OnnxGraph::new(style);
    let pyramid = pyramid(&mut g);
    for &(level, channels) in channels {
        let x = g.conv(&pyramid[level], 16, channels, 1, 1);
        // Then at most half of the cells of a score are faces.
        let x = g.node("Sigmoid", &[&x], &[]);
        g.output(&x, &[Open, Fixed(channels), Open, Open]);
    }
    g.finish_planar()
}

fn yolo(style: Style, levels: &[usize]) -> Vec<u8> {
    let mut g = OnnxGraph::new(style);
    let maps = pyramid(&mut g);
    let parts: Vec<String> = levels.iter().map(|&level| rows(&mut g, &maps[level], 3, 16, true)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let x = g.node("Concat", &parts, &[Attribute::Int("axis", 1)]);
    let x = g.node("Sigmoid", &[&x], &[]);
    g.output(&x, &[Open, Open, Fixed(16)]);
    g.finish_planar()
}

const RETINA: [(usize, i64); 9] = [(3, 4), (3, 8), (3, 20), (2, 4), (2, 8), (2, 20), (1, 4), (1, 8), (1, 20)];

/// A detector family, and its graph in the style of an exporter.
type Family = (&'static str, fn(Style) -> Vec<u8>);

const FAMILIES: [Family; 8] = [
    ("SCRFD", |style| scrfd(style, true)),
    ("SCRFD", |style| scrfd(Style { batch: Fixed(1), ..style }, false)),
    ("YOLOv5-face", |style| yolo(style, &[1, 2, 3])),
    ("YOLOv5-face", |style| yolo(style, &[1, 2, 3, 4])),
    ("RetinaFace", |style| maps(style, &RETINA)),
    ("RetinaFace", |style| maps(style, &[&RETINA[..], &[(3, 6), (2, 6), (1, 6)]].concat())),
    ("CenterFace", |style| maps(style, &[(0, 1), (0, 2), (0, 2), (0, 10)])),
    ("DBFace", |style| maps(style, &[(0, 1), (0, 4), (0, 10)])),
];

#[test]
fn detector_families_are_found_for_all_canvases_and_styles() {
    let image = picture(200, 150, 3);
    for (index, (family, graph)) in FAMILIES.iter().enumerate() {
        // The last canvas is not a multiple of 32 and is rounded down.
        for canvas in [(64, 64), (128, 64), (96, 160), (320, 256), (70, 101)] {
            let mut expected = None;
            for (batch, sides, opset) in [
                (Fixed(1), Some((64, 64)), 13),
                (Named("N"), None, 11),
                (Fixed(10), Some((32, 32)), 9),
                (Open, None, 17),
            ] {
                let style = Style { opset, batch, sides, weights_as_inputs: opset < 10 };
                let bytes = graph(style);
                for batch_size in [1, 3] {
                    let detector = Detector::new(network(&bytes), canvas, batch_size)
                        .unwrap_or_else(|e| panic!("{family} ({index}), {style:?}: {e}"));
                    assert_eq!(
                        (detector.family(), detector.canvas()),
                        (*family, (canvas.0 / 32 * 32, canvas.1 / 32 * 32))
                    );
                    let found = detector.detect(&[&image, &image], 0.5).unwrap();
                    assert_eq!(
                        found[0], found[1],
                        "{family} ({index}), {style:?}: equal pictures of a batch have equal results"
                    );
                    let expected = expected.get_or_insert_with(|| found[0].detections.clone());
                    assert_eq!(found[0].detections.len(), expected.len(), "{family} ({index}), {canvas:?}, {style:?}");
                    for (a, b) in found[0].detections.iter().zip(expected) {
                        assert!((a.score - b.score).abs() < 1e-4, "{family} ({index}), {style:?}");
                    }
                }
            }
            assert!(expected.is_some_and(|e| !e.is_empty()), "{family} ({index}): no faces to compare");
        }
    }
}

#[test]
fn scrfd_with_and_without_normalization_agree() {
    let inside = |g: &mut OnnxGraph| {
        let (mean, scale) = (g.floats(&[1], &[127.5]), g.floats(&[1], &[1.0 / 128.0]));
        let x = g.node("Sub", &["data", &mean], &[]);
        g.node("Mul", &[&x, &scale], &[])
    };
    let image = picture(200, 150, 6);
    let find = |bytes: &[u8]| {
        let detector = Detector::new(network(bytes), (128, 96), 1).unwrap();
        detector.detect(&[&image], 0.5).unwrap().remove(0).detections
    };
    let (plain, other) = (find(&scrfd(Style::PLAIN, true)), find(&scrfd_of(Style::PLAIN, true, inside)));
    assert!(!plain.is_empty() && plain.len() == other.len());
    for (a, b) in plain.iter().zip(&other) {
        assert!((a.score - b.score).abs() < 1e-4 && (a.bbox[0] - b.bbox[0]).abs() < 0.1, "{a:?} {b:?}");
    }
}

#[test]
fn unsuitable_graphs_are_rejected_with_their_shapes() {
    for (graph, seen) in [
        (embedder(Style::PLAIN, 128), "[1, 128]"),
        (maps(Style::PLAIN, &[(0, 1), (0, 4)]), "[[1, 1, 16, 16], [1, 4, 16, 16]]"),
        (maps(Style::PLAIN, &RETINA[..6]), "[1, 20, 2, 2]"),
        (yolo(Style::PLAIN, &[1, 2]), "[1, 240, 16]"),
    ] {
        let canvas = if seen == "[1, 128]" { (128, 128) } else { (64, 64) };
        let message = Detector::new(network(&graph), canvas, 1).err().unwrap().to_string();
        // A network for crops cannot be prepared for a canvas of another size.
        assert!(message.contains(seen) || message.contains("cannot be prepared"), "{seen}: {message}");
        assert!(message.starts_with("some: "), "{message}");
    }
    let message = Recognizer::new(network(&scrfd(Style::PLAIN, true)), None, 1).err().unwrap().to_string();
    assert!(message.contains("not a recognizer") && message.contains("[1, 128, 1]"), "{message}");
}

#[test]
fn inputs_without_four_dimensions_are_rejected() {
    let dense = |input: &[Dim]| {
        let mut g = OnnxGraph::new(Style::PLAIN);
        let x = g.node("Relu", &["data"], &[]);
        g.output(&x, &[Open, Open]);
        g.finish(input)
    };
    let message = Network::from_onnx(&dense(&[Fixed(1), Fixed(512)]), "some").err().unwrap().to_string();
    assert!(message.contains("4 dimensions") && message.contains("found 2 dimensions"), "{message}");
}

/// A network with one face as input and `values` numbers as output.
fn attribute_network(style: Style, side: i64, values: i64, interleaved: bool) -> Vec<u8> {
    let mut g = OnnxGraph::new(Style { sides: Some((side, side)), ..style });
    let data = if interleaved { g.transpose("data", &[0, 3, 1, 2]) } else { "data".into() };
    let x = g.conv_relu(&data, 3, 8, 8);
    let x = g.node("Flatten", &[&x], &[]);
    let cells = (side + 7) / 8;
    let x = g.dense(&x, 8 * cells * cells, values);
    g.output(&x, &[style.batch, Fixed(values)]);
    match interleaved {
        true => g.finish(&[style.batch, Fixed(side), Fixed(side), Fixed(3)]),
        false => g.finish_planar(),
    }
}

#[test]
fn attribute_networks_are_checked_by_their_shapes() {
    let image = picture(300, 200, 4);
    let crops: Vec<RgbImage> = (0..3).map(|seed| picture(112, 112, seed)).collect();
    let faces: Vec<FaceView> = crops
        .iter()
        .enumerate()
        .map(|(i, crop)| FaceView { image: &image, bbox: [40.0 + i as f32, 30.0, 120.0, 130.0], crop })
        .collect();
    for batch in batches() {
        let style = Style { batch, ..Style::PLAIN };
        for batch_size in [1, 2] {
            for (side, values) in [(112, 202), (96, 3)] {
                let network = network(&attribute_network(style, side, values, false));
                let estimated = GenderAge::new(network, batch_size).unwrap().estimate(&faces).unwrap();
                assert!(estimated.len() == 3 && estimated.iter().all(|(gender, _)| *gender <= 1));
            }
            for side in [224, 112] {
                let network = network(&attribute_network(style, side, 2, true));
                assert_eq!(MaskDetector::new(network, batch_size).unwrap().detect(&faces).unwrap().len(), 3);
            }
            let networks = vec![
                (2.7, network(&attribute_network(style, 80, 3, false))),
                (4.0, network(&attribute_network(style, 80, 3, false))),
            ];
            let scores = Liveness::new(networks, batch_size).unwrap().score(&faces).unwrap();
            assert!(scores.len() == 3 && scores.iter().all(|s| (0.0..=1.0).contains(s)), "{scores:?}");
        }
    }
    for wrong in [attribute_network(Style::PLAIN, 112, 7, false), attribute_network(Style::PLAIN, 112, 202, true)] {
        let message = GenderAge::new(network(&wrong), 1).err().unwrap().to_string();
        assert!(message.contains("gender and age network") && message.contains("112"), "{message}");
    }
    let message =
        MaskDetector::new(network(&attribute_network(Style::PLAIN, 112, 2, false)), 1).err().unwrap().to_string();
    assert!(message.contains("mask detector") && message.contains("1xSxSx3"), "{message}");
}

#[test]
fn networks_are_classified_by_their_graphs() {
    let of = |bytes: Vec<u8>| classify(|| Network::from_onnx(&bytes, "some"), (640, 640)).map(|r| r.to_string());
    for (bytes, expected) in [
        (scrfd(Style::PLAIN, false), "face detector: SCRFD"),
        (scrfd(Style { sides: None, batch: Open, ..Style::PLAIN }, true), "face detector: SCRFD"),
        (yolo(Style { sides: Some((96, 96)), ..Style::PLAIN }, &[1, 2, 3]), "face detector: YOLOv5-face"),
        (embedder(Style::PLAIN, 128), "recognizer: 128 numbers for a face of 112x112"),
        (embedder(Style { batch: Named("N"), ..Style::PLAIN }, 512), "recognizer: 512 numbers for a face of 112x112"),
        (attribute_network(Style::PLAIN, 112, 202, false), "gender and age network: 202 numbers for a face"),
        (attribute_network(Style::PLAIN, 96, 3, false), "gender and age network: 3 numbers for a face"),
        (attribute_network(Style::PLAIN, 80, 3, false), "liveness network: 3 numbers for a face of 80x80"),
        (attribute_network(Style::PLAIN, 224, 2, true), "mask detector: mask and no mask for a face of 224x224"),
    ] {
        assert_eq!(of(bytes).unwrap(), expected);
    }
    // A classifier of pictures is not a network for faces.
    let message = of(attribute_network(Style::PLAIN, 224, 1000, false)).err().unwrap().to_string();
    assert!(message.contains("takes pictures of 224x224"), "{message}");
    let message = of(maps(Style::PLAIN, &[(0, 1), (0, 4)])).err().unwrap().to_string();
    assert!(message.contains("[1, 4, 16, 16]") && message.contains("SCRFD has 9 outputs"), "{message}");
}

/// Networks with the layers of large published networks and random weights.
#[test]
fn published_architectures_are_accepted() {
    let Some(tool) = ifr_testing::make_arch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let architectures = [("iresnet50", false), ("iresnet100", false), ("scrfd_10g_gn", true), ("scrfd_10g_bn", true)];
    for (architecture, detector) in architectures {
        // Only once, because the file has a quarter of a gigabyte.
        let batches: &[Option<&str>] = if architecture == "iresnet100" { &[None] } else { &[None, Some("1")] };
        for &batch in batches {
            let file = dir.path().join("arch.onnx");
            let mut command = std::process::Command::new("python3");
            command.arg(&tool).arg(architecture).arg(&file);
            if let Some(batch) = batch {
                command.args(["--batch", batch]);
            }
            assert!(command.status().unwrap().success());
            let network = Network::from_file(&file, architecture).unwrap();
            if detector {
                let detector = Detector::new(network, (640, 640), 1).unwrap();
                assert_eq!(detector.family(), "SCRFD");
                detector.detect(&[&picture(640, 480, 2)], 0.5).unwrap();
            } else {
                let recognizer = Recognizer::new(network, None, 2).unwrap();
                assert_eq!((recognizer.dimension(), recognizer.batch()), (512, 2));
                let crop = picture(112, 112, 5);
                let both = recognizer.embed(&[&crop, &crop]).unwrap();
                assert!(both[0].similarity(&both[1]).unwrap() > 0.99999);
            }
        }
    }
}
