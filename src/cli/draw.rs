//! `ifr draw`: draws the faces of a picture on it.

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use clap::Args;
use image::ImageFormat;

use super::inputs::Input;
use super::networks::{NetworkArgs, named};
use super::{CliResult, OK, SOME_FAILED};
use crate::analyzer::{AnalyzeOptions, FaceAnalyzer};
use crate::files::replace_file;
use crate::image::{Annotation, DrawOptions, RgbImage, decode, draw_faces, encode_jpeg, one_line};
use crate::models::Selection;
use crate::parse;

pub(super) const EXAMPLES: &str = "\
Examples:
  ifr draw photo.jpg -o faces.png
  ifr draw photo.jpg -o faces.jpg --no-landmarks --no-scores --no-sizes
  curl -s https://example.org/photo.jpg | ifr draw - -o faces.png";

#[derive(Args)]
pub(super) struct DrawArgs {
    /// Picture, or - for standard input
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// File to write; its extension selects the format: png, jpg, webp, gif, bmp or tiff
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    #[command(flatten)]
    networks: NetworkArgs,

    /// Mask detector; boxes are then green for faces with a mask and red for faces without a mask
    #[arg(long, env = "MASK_DETECTOR", default_value = "None", value_name = "NAME")]
    mask_detector: String,

    /// Draw green boxes for faces with a mask and red boxes for faces without a mask, as --mask-detector does, with a
    /// face detector that also detects masks, such as mnet_cov2
    #[arg(long)]
    detect_masks: bool,

    /// Minimum detection score of a face, 0 to 1
    #[arg(long, default_value = "0.6", value_parser = parse::fraction)]
    threshold: f32,

    /// Maximum number of faces, largest first; 0 for no limit
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit_faces: usize,

    /// Do not draw landmarks
    #[arg(long)]
    no_landmarks: bool,

    /// Do not draw scores
    #[arg(long)]
    no_scores: bool,

    /// Do not draw the sizes of faces
    #[arg(long)]
    no_sizes: bool,
}

pub(super) fn run(args: &DrawArgs) -> CliResult {
    let name = args.output.display();
    let Some(format) = format_of(&args.output) else {
        return Err(
            format!("cannot write '{name}': its extension must be .png, .jpg, .webp, .gif, .bmp or .tiff").into()
        );
    };
    if let Some(directory) = args.output.parent().filter(|d| !d.as_os_str().is_empty() && !d.is_dir()) {
        return Err(format!("cannot write '{name}': {} is not a directory", directory.display()).into());
    }
    let mask_detector = named(&args.mask_detector).map(str::to_owned);
    let analyzer = args.networks.load_with(false, 1, Selection { mask_detector, ..Selection::default() })?;
    match draw(args, format, &analyzer) {
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

fn draw(args: &DrawArgs, format: ImageFormat, analyzer: &FaceAnalyzer) -> Result<usize, Box<dyn std::error::Error>> {
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
    let bytes =
        encode(&image, format).map_err(|e| format!("cannot write {}: {}", args.output.display(), one_line(&e)))?;
    replace(&args.output, &bytes).map_err(|e| format!("cannot write {}: {e}", args.output.display()))?;
    Ok(faces.len())
}

/// The format that belongs to the extension of the file; `None` if that format cannot be written.
fn format_of(path: &Path) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    ImageFormat::from_path(path).ok().filter(|format| matches!(format, Png | Jpeg | WebP | Gif | Bmp | Tiff))
}

/// Quality of JPEG output, which keeps thin lines sharp.
const JPEG_QUALITY: u8 = 92;

/// Encodes the picture in `format`. Errs if the picture is larger than the format allows.
fn encode(image: &RgbImage, format: ImageFormat) -> image::ImageResult<Vec<u8>> {
    if format == ImageFormat::Jpeg {
        return encode_jpeg(image, JPEG_QUALITY);
    }
    let mut bytes = vec![];
    image.write_to(&mut Cursor::new(&mut bytes), format)?;
    Ok(bytes)
}

/// Writes the file in one step; on errors it is unchanged.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // If the path is a link, its target is replaced, and the link stays.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
        // Pipes and devices are written to.
        return fs::write(target, bytes);
    }
    replace_file(&target, bytes)
}
