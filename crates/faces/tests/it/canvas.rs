//! Detectors on canvases of other sizes than their files were exported for.

use std::path::{Path, PathBuf};

use ifr_faces::detect::{DetectError, Detection, Detector};
use ifr_faces::engine::{Network, ndarray::ArrayD};
use ifr_faces::models::ModelStore;
use ifr_testing::onnx::{Attribute, Fixed, OnnxGraph, Open, Style};
use ifr_testing::{make_arch, reference_data};

use crate::pictures::read;

/// Width and height.
const CANVASES: [(usize, usize); 4] = [(320, 320), (320, 640), (640, 480), (1280, 960)];

fn names(dir: &Path) -> Vec<String> {
    let detectors = ["scrfd", "retinaface", "mnet", "yolov5", "centerface"];
    let entries = std::fs::read_dir(dir.join("models/onnx")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| detectors.iter().any(|d| name.starts_with(d)));
    names.push("centerface".into());
    names.sort();
    names
}

fn iou(a: &Detection, b: &Detection) -> f32 {
    let side = |i: usize| (a.bbox[i + 2].min(b.bbox[i + 2]) - a.bbox[i].max(b.bbox[i])).max(0.0);
    let both = side(0) * side(1);
    both / (a.area() + b.area() - both)
}

/// Published weights find the same faces on every canvas that is large enough for them.
#[test]
fn published_detectors_find_the_same_faces() {
    let Some(dir) = reference_data() else { return };
    let store = ModelStore::new(Some(dir.join("models")));
    for name in names(&dir) {
        let images =
            ["t1.jpg", "Stallone.jpg", "mask.jpg", "lumia.jpg"].map(|file| read(&dir.join("images").join(file)));
        let find = |canvas: (usize, usize)| {
            let detector = store.detector(&name, canvas, 1).unwrap();
            assert_eq!(detector.canvas(), canvas, "{name}");
            images.each_ref().map(|image| detector.detect(&[image], 0.4).unwrap().remove(0))
        };
        let reference = find((640, 640));
        for canvas in CANVASES {
            let mut compared = 0;
            for (index, (found, reference)) in find(canvas).iter().zip(&reference).enumerate() {
                for (seen, other, which) in [(reference, found, "lost"), (found, reference, "new")] {
                    let (scale, largest) = (seen.scale.min(other.scale) as f32, seen.scale.max(other.scale) as f32);
                    // Faces with a high score that are neither tiny nor almost as large as either canvas.
                    let fits = |d: &&Detection| d.width() * scale > 32.0 && d.width() * largest < 200.0;
                    for face in seen.detections.iter().filter(|d| d.score > 0.7).filter(fits) {
                        let best = other.detections.iter().max_by(|a, b| iou(face, a).total_cmp(&iou(face, b)));
                        let overlap = best.map_or(0.0, |b| iou(face, b));
                        assert!(overlap > 0.7, "{name} {canvas:?} {index}: {which} {face:?}, nearest {best:?}");
                        compared += 1;
                    }
                }
            }
            println!("{name} {canvas:?}: {compared} faces compared");
            assert!(compared >= 4, "{name} {canvas:?}: {compared} faces compared");
        }
    }
}

fn run(bytes: &[u8], shape: &[usize]) -> Vec<ArrayD<f32>> {
    let plan = Network::from_onnx(bytes, "baked").unwrap().plan(shape).unwrap();
    let values: usize = shape.iter().product();
    let input: Vec<f32> = (0..values).map(|i| ((i * 7919) % 255) as f32 / 255.0 - 0.5).collect();
    plan.run(plan.view(&input).unwrap()).unwrap()
}

/// A graph with every constant that exporters derive from the height and width of the canvas.
fn baked(height: i64, width: i64) -> Vec<u8> {
    let mut g = OnnxGraph::new(Style { sides: Some((height, width)), ..Style::PLAIN });
    let (h, w) = (height / 8, width / 8);
    let x = g.conv_relu("data", 3, 8, 2);
    let x = g.conv_relu(&x, 8, 8, 2);
    let fine = g.conv_relu(&x, 8, 8, 2);
    let coarse = g.conv_relu(&fine, 8, 8, 2);
    let sizes = g.ints(&[1, 8, h, w]);
    let nearest = [
        Attribute::Text("mode", "nearest"),
        Attribute::Text("coordinate_transformation_mode", "asymmetric"),
        Attribute::Text("nearest_mode", "floor"),
    ];
    let up = g.node("Resize", &[&coarse, "", "", &sizes], &nearest);
    let x = g.node("Add", &[&fine, &up], &[]);
    // A channel shuffle.
    let x = g.reshape(&x, &[1, 2, 4, h, w]);
    let x = g.transpose(&x, &[0, 2, 1, 3, 4]);
    let x = g.reshape(&x, &[1, -1, h, w]);
    // A group norm.
    let groups = g.reshape(&x, &[0, 4, -1]);
    let (one, zero) = (g.floats(&[4], &[1.0; 4]), g.floats(&[4], &[0.0; 4]));
    let x = g.node("InstanceNormalization", &[&groups, &one, &zero], &[Attribute::Float("epsilon", 1e-5)]);
    let x = g.reshape(&x, &[0, 8, h, w]);
    // A grid of cells.
    let x = g.transpose(&x, &[0, 2, 3, 1]);
    let cells = (0..h).flat_map(|y| (0..w).map(move |x| (y, x)));
    let grid: Vec<f32> = cells
        .flat_map(|(y, x)| (0..8).map(move |c| if c % 2 == 0 { x as f32 - 0.5 } else { 8.0 * y as f32 }))
        .collect();
    let grid = g.floats(&[1, h, w, 8], &grid);
    let x = g.node("Add", &[&x, &grid], &[]);
    let x = g.reshape(&x, &[1, h * w, 8]);
    g.output(&x, &[Open, Open, Fixed(8)]);
    g.finish_planar()
}

#[test]
fn size_constants_follow_the_canvas() {
    for (width, height) in CANVASES {
        let shape = [1, 3, height, width];
        let (got, want) = (run(&baked(640, 640), &shape), run(&baked(height as i64, width as i64), &shape));
        assert_eq!(got[0].shape(), want[0].shape());
        let off = got[0].iter().zip(&want[0]).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off < 1e-4, "{width}x{height}: {off}");
    }
}

#[test]
fn graphs_with_size_constants_accept_batches() {
    let shape = [2, 3, 320, 256];
    let outputs = run(&baked_without_rows(640, 640), &shape);
    assert_eq!(outputs[0].shape(), [2, 8, 40, 32]);
}

fn baked_without_rows(height: i64, width: i64) -> Vec<u8> {
    let mut g = OnnxGraph::new(Style { sides: Some((height, width)), ..Style::PLAIN });
    let x = g.conv_relu("data", 3, 8, 4);
    let fine = g.conv_relu(&x, 8, 8, 2);
    let coarse = g.conv_relu(&fine, 8, 8, 2);
    let sizes = g.ints(&[1, 8, height / 8, width / 8]);
    let up = g.node("Resize", &[&coarse, "", "", &sizes], &[Attribute::Text("mode", "nearest")]);
    let x = g.node("Add", &[&fine, &up], &[]);
    g.output(&x, &[Open, Fixed(8), Open, Open]);
    g.finish_planar()
}

/// A detector whose graph adds a weight of the canvas's size, so that it has only one size.
fn fixed_detector(side: i64) -> Vec<u8> {
    let mut g = OnnxGraph::new(Style { sides: Some((side, side)), ..Style::PLAIN });
    let noise: Vec<f32> = (0..side * side).map(|i| ((i * i) % 7) as f32 / 100.0).collect();
    let learned = g.floats(&[1, 1, side, side], &noise);
    let x = g.node("Add", &["data", &learned], &[]);
    let x = g.conv_relu(&x, 3, 8, 4);
    for channels in [1, 4, 10] {
        let y = g.conv(&x, 8, channels, 1, 1);
        let y = g.node("Sigmoid", &[&y], &[]);
        g.output(&y, &[Open, Fixed(channels), Open, Open]);
    }
    g.finish_planar()
}

#[test]
fn fixed_graphs_are_used_at_their_size() {
    let bytes = fixed_detector(96);
    let network = || Network::from_onnx(&bytes, "stiff").unwrap();
    let error = Detector::new(network(), (640, 640), 1).err().unwrap();
    assert!(matches!(error, DetectError::FixedSize { width: 96, height: 96, .. }), "{error}");
    assert_eq!(error.to_string(), "stiff: this graph is fixed at 96x96; set MAX_SIZE=96,96");
    assert_eq!(Detector::new(network(), (96, 96), 1).unwrap().family(), "DBFace");
    let dir = tempfile::tempdir().unwrap();
    let store = ModelStore::new(Some(dir.path().into()));
    let file = dir.path().join("some.onnx");
    std::fs::write(&file, &bytes).unwrap();
    store.add(&file, "stiff", None).unwrap();
    assert_eq!(store.detector("stiff", (640, 480), 1).unwrap().canvas(), (96, 96));
}

/// Large architectures with random weights equal the same architectures exported for the other canvas.
#[test]
fn architectures_equal_exports_for_that_canvas() {
    let Some(script) = make_arch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(format!("{name}.onnx")) };
    let python = |code: &str, arguments: &[&str]| {
        let run = std::process::Command::new("python3").args(["-c", code]).args(arguments).status();
        assert!(run.unwrap().success());
    };
    for name in ["scrfd_10g_gn", "scrfd_10g_bn"] {
        let made = std::process::Command::new("python3").arg(&script).arg(name).arg(path(name)).status();
        assert!(made.unwrap().success());
        for (width, height) in [(320, 320), (640, 480)] {
            let export = path("export");
            let sides = [width.to_string(), height.to_string()];
            let code = "import sys, onnx, numpy as np\n\
                from onnx import numpy_helper as nh\n\
                source, out, w, h = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])\n\
                m = onnx.load(source)\n\
                for t in m.graph.initializer:\n\
                \x20   if t.data_type == 7 and list(t.dims) == [4]:\n\
                \x20       a = nh.to_array(t).copy()\n\
                \x20       stride = 640 // int(a[3])\n\
                \x20       a[2], a[3] = h // stride, w // stride\n\
                \x20       t.CopyFrom(nh.from_array(a, t.name))\n\
                for i, side in ((2, h), (3, w)):\n\
                \x20   m.graph.input[0].type.tensor_type.shape.dim[i].dim_value = side\n\
                for o in m.graph.output:\n\
                \x20   o.type.tensor_type.ClearField('shape')\n\
                onnx.save(m, out)\n";
            python(code, &[path(name).to_str().unwrap(), export.to_str().unwrap(), &sides[0], &sides[1]]);
            let shape = [1, 3, height, width];
            let got = run(&std::fs::read(path(name)).unwrap(), &shape);
            let want = run(&std::fs::read(&export).unwrap(), &shape);
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got, want, "{name} {width}x{height}");
            }
            let detector = Detector::new(Network::from_file(&path(name), name).unwrap(), (width, height), 1).unwrap();
            assert_eq!((detector.family(), detector.canvas()), ("SCRFD", (width, height)));
        }
    }
}
