//! Parity with InsightFace-REST 0.9.5 on the pictures in `tests/golden`, which are part of the repository.

use std::path::Path;

use ifr_faces::FaceAnalyzer;
use ifr_faces::analyzer::Face;
use ifr_faces::engine::ndarray::Array1;
use ifr_faces::recognize::Embedding;
use serde::Deserialize;

const MAX_DISTANCE: f32 = 1.0;
const MAX_SCORE_DIFFERENCE: f32 = 0.02;
const MIN_COSINE: f32 = 0.999;

#[derive(Deserialize)]
struct ReferenceAnswer {
    data: Vec<ReferenceImage>,
}

#[derive(Deserialize)]
struct ReferenceImage {
    faces: Vec<ReferenceFace>,
}

#[derive(Deserialize)]
struct ReferenceFace {
    bbox: [f32; 4],
    landmarks: [[f32; 2]; 5],
    prob: f32,
    norm: f32,
    vec: Vec<f32>,
}

/// Maximum difference of coordinates in pixels. The original truncates coordinates to whole pixels.
fn distance<'a>(ours: impl IntoIterator<Item = &'a f32>, theirs: impl IntoIterator<Item = &'a f32>) -> f32 {
    ours.into_iter().zip(theirs).map(|(a, b)| (a.trunc() - b).abs()).fold(0.0, f32::max)
}

fn assert_same_face(name: &str, face: &Face, expected: &ReferenceFace) {
    let off = distance(&face.bbox, &expected.bbox);
    assert!(off <= MAX_DISTANCE, "{name}: box {:?} for {:?}", face.bbox, expected.bbox);
    let off = distance(face.landmarks.as_flattened(), expected.landmarks.as_flattened());
    assert!(off <= MAX_DISTANCE, "{name}: landmarks {:?} for {:?}", face.landmarks, expected.landmarks);
    let off = (face.prob - expected.prob).abs();
    assert!(off <= MAX_SCORE_DIFFERENCE, "{name}: score {} for {}", face.prob, expected.prob);
    let reference = Embedding { norm: expected.norm, vector: Array1::from_vec(expected.vec.clone()) };
    let embedding = face.embedding.as_ref().expect("the recognizer is configured");
    let cosine = embedding.similarity(&reference).unwrap();
    println!("{name} {:?}: score off by {off:.4}, cosine {cosine:.6}", expected.bbox);
    assert!(cosine >= MIN_COSINE, "{name}: cosine {cosine}");
}

fn compare(name: &str, faces: usize) {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let answer = std::fs::read(picture.with_extension("jpg.json")).unwrap();
    let expected = serde_json::from_slice::<ReferenceAnswer>(&answer).unwrap().data.remove(0).faces;
    assert_eq!(expected.len(), faces, "{name}: faces in the reference answer");
    let mut found = FaceAnalyzer::with_default_models().unwrap().analyze_file(picture).unwrap().faces;
    assert_eq!(found.len(), faces, "{name}: faces");
    for face in &expected {
        let nearest = (0..found.len())
            .min_by(|&a, &b| distance(&found[a].bbox, &face.bbox).total_cmp(&distance(&found[b].bbox, &face.bbox)));
        assert_same_face(name, &found.swap_remove(nearest.unwrap()), face);
    }
}

#[test]
fn astronaut_has_the_faces_of_the_original() {
    compare("astronaut.jpg", 1);
}

#[test]
fn collage_has_the_faces_of_the_original() {
    compare("collage.jpg", 5);
}
