//! Parity with InsightFace-REST 0.9.5 on the pictures in `tests/golden`, which are part of the repository.

use std::path::Path;

use ifr_faces::FaceAnalyzer;
use serde::Deserialize;

use crate::parity::{Differences, ReferenceFace, box_distance};

#[derive(Deserialize)]
struct ReferenceAnswer {
    data: Vec<AnswerImage>,
}

#[derive(Deserialize)]
struct AnswerImage {
    faces: Vec<ReferenceFace>,
}

fn compare(name: &str, faces: usize) {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let answer = std::fs::read(picture.with_extension("jpg.json")).unwrap();
    let expected = serde_json::from_slice::<ReferenceAnswer>(&answer).unwrap().data.remove(0).faces;
    assert_eq!(expected.len(), faces, "{name}: faces in the reference answer");
    let mut found = FaceAnalyzer::with_default_models().unwrap().analyze_file(picture).unwrap().faces;
    assert_eq!(found.len(), faces, "{name}: faces");
    // The original truncates coordinates to whole pixels.
    for face in &mut found {
        face.bbox.iter_mut().chain(face.landmarks.as_flattened_mut()).for_each(|value| *value = value.trunc());
    }
    let mut differences = Differences::default();
    for face in &expected {
        let nearest =
            (0..found.len()).min_by(|&a, &b| box_distance(&found[a], face).total_cmp(&box_distance(&found[b], face)));
        differences.add(&found.swap_remove(nearest.unwrap()), face);
    }
    println!("{name}: {differences:?}");
    assert!(differences.is_parity(), "{name}: {differences:?}");
    assert_eq!(differences.embeddings, faces, "{name}: embeddings in the reference answer");
}

#[test]
fn astronaut_has_the_faces_of_the_original() {
    compare("astronaut.jpg", 1);
}

#[test]
fn collage_has_the_faces_of_the_original() {
    compare("collage.jpg", 5);
}
