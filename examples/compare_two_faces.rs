//! Compares the largest face of one picture with the largest face of another.
//!
//! ```sh
//! cargo run --release --example compare_two_faces -- first.jpg second.jpg
//! ```

use std::error::Error;

use ifr::FaceAnalyzer;
use ifr::analyzer::Face;

/// Cosines of two pictures of one person are usually higher, of different people lower. The value depends on the
/// recognizer: choose your own threshold with pairs of your pictures and an acceptable rate of false matches.
const SAME_PERSON: f32 = 0.4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second] = arguments.as_slice() else {
        return Err("usage: compare_two_faces FIRST SECOND".into());
    };

    // The built-in models. Loading takes a fraction of a second: do it once and keep the analyzer.
    let analyzer = FaceAnalyzer::with_default_models()?;
    let first = largest_face(&analyzer, first)?;
    let second = largest_face(&analyzer, second)?;

    // Both faces have an embedding, because the analyzer has a recognizer.
    let (Some(first), Some(second)) = (first.embedding, second.embedding) else {
        return Err("the analyzer has no recognizer".into());
    };
    // The cosine of the angle between the embeddings. It fails for embeddings of different recognizers.
    let similarity = first.similarity(&second)?;
    let verdict = if similarity >= SAME_PERSON { "probably the same person" } else { "probably different people" };
    println!("similarity {similarity:.3}: {verdict}");
    Ok(())
}

/// Finds the faces of a picture file and returns the one with the largest box.
fn largest_face(analyzer: &FaceAnalyzer, path: &str) -> Result<Face, Box<dyn Error>> {
    let faces = analyzer.analyze_file(path)?.faces;
    let area = |face: &Face| (face.bbox[2] - face.bbox[0]) * (face.bbox[3] - face.bbox[1]);
    let largest = faces.into_iter().max_by(|a, b| area(a).total_cmp(&area(b)));
    largest.ok_or_else(|| format!("{path}: no face found").into())
}
