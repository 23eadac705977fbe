//! `ifr draw`: the faces of a picture drawn onto it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use image::codecs::jpeg::JpegEncoder;

use super::inputs::Input;
use super::networks::{NetworkArgs, named, parse_threshold};
use super::{CliResult, OK, SOME_FAILED};
use crate::analyzer::AnalyzeOptions;
use crate::image::{Annotation, DrawOptions, RgbImage, decode, draw_faces};
use crate::models::Selection;

#[derive(Args)]
pub(super) struct DrawArgs {
    /// Picture, or - for standard input
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// Where to write the picture; its name's ending says in which format (png, jpg, webp, ...)
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    networks: NetworkArgs,

    /// Network that tells masked from bare faces: boxes are then green and red; None for none
    #[arg(long, env = "MASK_DETECTOR", default_value = "None", value_name = "NAME")]
    mask_detector: String,

    /// Draw boxes green and red for faces with and without a mask; only detectors such as mnet_cov2 tell without a --mask-detector
    #[arg(long)]
    detect_masks: bool,

    /// Least score of a face, 0 to 1
    #[arg(long, default_value = "0.6", value_parser = parse_threshold)]
    threshold: f32,

    /// Draw only this many of the largest faces; 0 draws all
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit_faces: usize,

    /// Draw no landmarks
    #[arg(long)]
    no_landmarks: bool,

    /// Write no scores
    #[arg(long)]
    no_scores: bool,

    /// Write no sizes
    #[arg(long)]
    no_sizes: bool,
}

pub(super) fn run(args: &DrawArgs) -> CliResult {
    if image::ImageFormat::from_path(&args.output).is_err() {
        let name = args.output.display();
        return Err(
            format!("cannot tell a format from '{name}': end it in .png, .jpg, .webp, .gif, .bmp or .tiff").into()
        );
    }
    let mask_detector = named(&args.mask_detector).map(str::to_owned);
    let analyzer = args.networks.load_with(false, 1, Selection { mask_detector, ..Selection::default() })?;
    match draw(args, &analyzer) {
        Ok(faces) => {
            let plural = if faces == 1 { "face" } else { "faces" };
            eprintln!("ifr: {faces} {plural} drawn in {}", args.output.display());
            Ok(OK)
        }
        Err(error) => {
            eprintln!("ifr: {}: {error}", args.input.display());
            Ok(SOME_FAILED)
        }
    }
}

fn draw(args: &DrawArgs, analyzer: &crate::analyzer::FaceAnalyzer) -> Result<usize, Box<dyn std::error::Error>> {
    let input = if args.input.as_os_str() == "-" { Input::Stdin } else { Input::File(args.input.clone()) };
    let mut image = decode(&input.read(256 << 20)?, &Default::default())?;
    let options = AnalyzeOptions {
        threshold: args.threshold,
        limit_faces: args.limit_faces,
        embedding: false,
        masks: args.detect_masks || analyzer.mask_detector.is_some(),
        ..Default::default()
    };
    let analysis = analyzer.analyze(std::slice::from_ref(&image), &options)?;
    let faces: Vec<Annotation> = analysis.images.iter().flat_map(|i| &i.faces).map(Annotation::from).collect();
    let style = DrawOptions { landmarks: !args.no_landmarks, scores: !args.no_scores, sizes: !args.no_sizes };
    draw_faces(&mut image, &faces, &style);
    save(&image, &args.output).map_err(|e| format!("cannot write {}: {e}", args.output.display()))?;
    Ok(faces.len())
}

/// Writes the format the name asks for; JPEG at a quality that keeps thin lines clean.
fn save(image: &RgbImage, path: &Path) -> image::ImageResult<()> {
    if image::ImageFormat::from_path(path)? != image::ImageFormat::Jpeg {
        return image.save(path);
    }
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut file, 92))?;
    Ok(file.flush()?)
}
