//! Writes the embedding of every face in a directory of pictures as JSON Lines, one face per line.
//!
//! ```sh
//! cargo run --release --example embed_directory -- DIRECTORY > faces.jsonl
//! ```
//!
//! `ifr extract` does the same for large archives: in parallel, with Parquet output, and resumable.

use std::error::Error;
use std::path::PathBuf;

use ifr::FaceAnalyzer;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory] = arguments.as_slice() else {
        return Err("usage: embed_directory DIRECTORY".into());
    };

    // Other models are named here and loaded from a models directory:
    // `.models_dir("models").detector("scrfd_10g_gnkps").recognizer("w600k_r50")`.
    let analyzer = FaceAnalyzer::builder().canvas(640, 640).build()?;

    let mut paths = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>, std::io::Error>>()?;
    paths.sort();
    for path in paths.iter().filter(|path| path.is_file()) {
        // A file that cannot be read as a picture is reported and skipped.
        let picture = match analyzer.analyze_file(path) {
            Ok(picture) => picture,
            Err(error) => {
                eprintln!("skipped: {error}");
                continue;
            }
        };
        for face in &picture.faces {
            // The vector has unit length, so the dot product of two of them is their cosine. `norm` is the length
            // before normalization; it is small for faces of low quality.
            let Some(embedding) = &face.embedding else { continue };
            let vec = embedding.vector.to_vec();
            println!(
                "{}",
                json!({ "path": path, "bbox": face.bbox, "prob": face.prob, "norm": embedding.norm, "vec": vec })
            );
        }
    }
    Ok(())
}
