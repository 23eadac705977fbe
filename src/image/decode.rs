//! Compressed picture to upright RGB pixels.

use std::io::Cursor;

use super::jpeg;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

/// What a picture may cost before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Width times height, checked from the header.
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits { max_pixels: 50_000_000 }
    }
}

/// Why bytes did not become a picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("empty file")]
    Empty,
    #[error("not a picture in a known format (JPEG, PNG, WebP, GIF, BMP, TIFF)")]
    UnknownFormat,
    #[error("picture of {width}x{height} pixels exceeds the limit of {limit_megapixels} megapixels")]
    TooLarge { width: u32, height: u32, limit_megapixels: f64 },
    #[error("damaged or unsupported {format} picture: {source}")]
    Damaged { format: &'static str, source: ImageError },
}

/// Decodes a picture whose format is told by its content, never by a name.
///
/// The first frame of an animation is taken, EXIF orientation is applied, grey is spread to three channels, 16-bit samples are
/// reduced to 8, CMYK is converted and alpha is dropped without blending (as OpenCV's `IMREAD_COLOR` does).
///
/// Errs on unknown or damaged data, and on pictures over `limits` before their pixels are allocated.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| DecodeError::UnknownFormat)?;
    let name = format_name(format).ok_or(DecodeError::UnknownFormat)?;
    let damaged = |source| DecodeError::Damaged { format: name, source };

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut memory = Limits::no_limits();
    // Eight bytes a pixel is the deepest format (16-bit RGBA); the rest is room for tables and one more copy.
    memory.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(64 << 20));
    reader.limits(memory);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(DecodeError::TooLarge { width, height, limit_megapixels: limits.max_pixels as f64 / 1e6 });
    }
    // A broken EXIF block must not cost the picture.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let colour = if format == ImageFormat::Jpeg { jpeg::decode_colour(bytes, limits.max_pixels) } else { None };
    let mut picture = match colour {
        Some(image) => DynamicImage::ImageRgb8(image),
        None => DynamicImage::from_decoder(decoder).map_err(damaged)?,
    };
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn format_name(format: ImageFormat) -> Option<&'static str> {
    Some(match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => return None,
    })
}
