//! Parity with InsightFace-REST 0.9.5 on the larger reference data: all detector families, three recognizers, gender
//! and age.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ifr_faces::align::align;
use ifr_faces::analyzer::{AnalyzeOptions, Face, FaceAnalyzer};
use ifr_faces::image::{Letterbox, RgbImage};
use ifr_faces::models::ModelStore;
use ifr_testing::reference_data;
use serde::Deserialize;

use crate::parity::{Differences, MAX_SCORE_DIFFERENCE, ReferenceFace, box_distance};
use crate::pictures::{mean_difference, read};

/// The results for a set of pictures with one selection of models.
#[derive(Deserialize)]
struct Reference {
    det_name: String,
    rec_name: Option<String>,
    ga_name: Option<String>,
    max_size: (usize, usize),
    threshold: f32,
    images: BTreeMap<String, ReferenceImage>,
}

#[derive(Deserialize)]
struct ReferenceImage {
    scale: f64,
    faces: Vec<ReferenceFace>,
}

fn read_reference(data: &Path, file: &str) -> Reference {
    serde_json::from_slice(&std::fs::read(data.join("golden").join(file)).unwrap()).unwrap()
}

/// The default model for the name in the reference data, where it is the name of the file.
fn model_name(name: &str) -> &str {
    if name == "fr_feature" { "mobilefacenet" } else { name }
}

fn check_parity(file: &str) {
    let Some(data) = reference_data() else { return };
    let reference = read_reference(&data, file);
    let store = ModelStore::new(Some(data.join("models")));
    let recognizer = reference.rec_name.as_deref().map(|n| Arc::new(store.recognizer(model_name(n), 8).unwrap()));
    let analyzer = FaceAnalyzer {
        detector: Some(Arc::new(store.detector(&reference.det_name, reference.max_size, 1).unwrap())),
        recognizer,
        gender_age: reference.ga_name.as_deref().map(|n| Arc::new(store.gender_age(n, 8).unwrap())),
        ..Default::default()
    };
    let options = AnalyzeOptions {
        threshold: reference.threshold,
        embedding: reference.rec_name.is_some(),
        gender_age: true,
        ..Default::default()
    };
    let mut problems = vec![];
    let (mut faces, mut embeddings, mut ages) = (0, 0, 0);
    // A face whose score is near the threshold may be on either side of it.
    let certain = |score: f32| score > reference.threshold + MAX_SCORE_DIFFERENCE;
    for (name, expected) in &reference.images {
        let image = read(&data.join("images").join(name));
        let found = analyzer.analyze(&[image], &options).unwrap().images.remove(0);
        assert!((found.scale - expected.scale).abs() < 1e-6, "{name}: scale {} for {}", found.scale, expected.scale);
        let mut left: Vec<&Face> = found.faces.iter().collect();
        let mut differences = Differences::default();
        for wanted in &expected.faces {
            let near = |face: &Face| box_distance(face, wanted);
            let nearest = (0..left.len()).min_by(|&a, &b| near(left[a]).total_cmp(&near(left[b])));
            if let Some(index) = nearest.filter(|&index| near(left[index]) <= 1.0) {
                differences.add(left.remove(index), wanted);
                continue;
            }
            let twin = left.iter().position(|face| is_twin(face, wanted));
            if let Some(twin) = twin.filter(|_| is_on_reference_canvas(&analyzer, &data, name, wanted, expected.scale))
            {
                println!("{file} {name}: suppression kept the other of two equal proposals for {:?}", wanted.bbox);
                left.remove(twin);
            } else if nearest.is_none() || certain(wanted.prob) {
                problems.push(format!("{name}: no face for {:?} ({})", wanted.bbox, wanted.prob));
            }
        }
        let additional = left.iter().filter(|face| certain(face.prob));
        problems.extend(additional.map(|face| format!("{name}: additional face {:?} ({})", face.bbox, face.prob)));
        println!("{file} {name}: {} faces, {differences:?}", found.faces.len());
        if !differences.is_parity() {
            problems.push(format!("{name}: {differences:?}"));
        }
        faces += differences.faces;
        embeddings += differences.embeddings;
        ages += differences.ages;
    }
    assert!(problems.is_empty(), "{file}:\n{}", problems.join("\n"));
    assert!(faces > 10, "{file}: only {faces} faces were compared");
    // The files contain the embeddings of eighteen faces each.
    assert!(reference.rec_name.is_none() || embeddings >= 15, "{file}: only {embeddings} embeddings were compared");
    assert!(reference.ga_name.is_none() || ages > 10, "{file}: only {ages} genders and ages were compared");
}

/// True if suppression may keep either of the two faces: they overlap, and their scores are nearly equal.
fn is_twin(face: &Face, wanted: &ReferenceFace) -> bool {
    let (a, b) = (face.bbox, wanted.bbox);
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |v: [f32; 4]| (v[2] - v[0]) * (v[3] - v[1]);
    let overlap = side(0) * side(1);
    overlap / (area(a) + area(b) - overlap) > 0.8 && (face.prob - wanted.prob).abs() < 0.01
}

/// True if the face is found on the canvas of the original. A difference is then caused by the JPEG decoder.
fn is_on_reference_canvas(
    analyzer: &FaceAnalyzer,
    data: &Path,
    name: &str,
    wanted: &ReferenceFace,
    scale: f64,
) -> bool {
    let canvas = read(&data.join("golden/letterbox").join(name.replace(".jpg", ".png")));
    let options = AnalyzeOptions { embedding: false, ..Default::default() };
    let found = analyzer.analyze(&[canvas], &options).unwrap().images.remove(0);
    assert_eq!(found.scale, 1.0);
    let is_exact = |face: &Face| {
        face.bbox.iter().zip(wanted.bbox).all(|(a, b)| (f64::from(*a) / scale - f64::from(b)).abs() < 0.1)
    };
    found.faces.iter().any(|face| is_exact(face) && (face.prob - wanted.prob).abs() < 0.002)
}

#[test]
fn scrfd_group_norm_mobilefacenet_gender_age() {
    check_parity("scrfd_2.5g_gnkps.json");
}

#[test]
fn scrfd_batch_norm_and_an_mxnet_recognizer() {
    check_parity("scrfd_2.5g_bnkps.json");
}

#[test]
fn centerface_and_a_torch_recognizer() {
    check_parity("centerface.json");
}

#[test]
fn retinaface() {
    check_parity("retinaface_mnet025_v1.json");
}

#[test]
fn retinaface_with_masks() {
    check_parity("mnet_cov2.json");
}

#[test]
fn yolov5_face() {
    check_parity("yolov5n-0.5.json");
}

#[test]
fn letterboxed_pictures_are_similar() {
    let Some(data) = reference_data() else { return };
    for stem in ["Stallone", "TH1", "lumia", "mask", "t1"] {
        let image = read(&data.join(format!("images/{stem}.jpg")));
        let expected = read(&data.join(format!("golden/letterbox/{stem}.png")));
        let fit = Letterbox::fit((image.width() as usize, image.height() as usize), (640, 640));
        let mut canvas = RgbImage::new(640, 640);
        fit.apply(&image, &mut canvas);
        let difference = mean_difference(&canvas, &expected);
        println!("letterbox {stem}: mean difference {difference:.3}");
        assert!(difference <= 1.0, "{stem}: {difference}");
    }
}

#[test]
fn crops_are_similar() {
    let Some(data) = reference_data() else { return };
    let reference = read_reference(&data, "scrfd_2.5g_gnkps.json");
    let mut compared = 0;
    for (name, image) in &reference.images {
        let picture = read(&data.join("images").join(name));
        for (i, face) in image.faces.iter().enumerate() {
            let crop = data.join(format!("golden/crops/{}_{i}.png", name.trim_end_matches(".jpg")));
            if crop.is_file() {
                let difference = mean_difference(&align(&picture, &face.landmarks), &read(&crop));
                println!("crop {name} {i}: mean difference {difference:.3}");
                assert!(difference <= 1.5, "{}: {difference}", crop.display());
                compared += 1;
            }
        }
    }
    assert!(compared >= 8, "only {compared} crops were compared");
}
