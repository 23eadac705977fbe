//! Finds faces without computing embeddings, and prints their boxes and landmarks.
//!
//! ```sh
//! cargo run --release --example only_detect -- photo.jpg
//! ```

use std::error::Error;

use ifr::FaceAnalyzer;
use ifr::analyzer::AnalyzeOptions;
use ifr::image::{DecodeLimits, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path] = arguments.as_slice() else {
        return Err("usage: only_detect PICTURE".into());
    };

    // Only the detector is loaded. It sees the picture scaled to fit a canvas: a small canvas is fast, a large one also
    // finds small faces.
    let analyzer = FaceAnalyzer::builder().detection_only().canvas(640, 640).build()?;

    // Pictures of unknown origin: the limits refuse files that would need too much memory. EXIF orientation is applied.
    let picture = decode(&std::fs::read(path)?, &DecodeLimits::default())?;

    let options = AnalyzeOptions { threshold: 0.5, min_face_size: 20, ..AnalyzeOptions::default() };
    // One entry per picture. Boxes and landmarks are in pixels of the picture, by descending score.
    for image in analyzer.detect(&[picture], &options)? {
        for detection in &image.detections {
            let [x1, y1, x2, y2] = detection.bbox;
            println!("score {:.3}, box {x1:.0},{y1:.0} to {x2:.0},{y2:.0}", detection.score);
            for (name, [x, y]) in
                ["left eye", "right eye", "nose", "left mouth", "right mouth"].iter().zip(detection.landmarks)
            {
                println!("  {name} {x:.0},{y:.0}");
            }
        }
    }
    Ok(())
}
