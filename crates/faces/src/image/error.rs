//! Limits and errors of decoding.

use ifr_jpeg::JpegError;
use image::ImageError;

/// Limits that are checked before the pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Maximum number of pixels: width times height in the header.
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits { max_pixels: 50_000_000 }
    }
}

impl DecodeLimits {
    /// Refuses a picture that is too large.
    pub(super) fn check(&self, (width, height): (u32, u32)) -> Result<(), DecodeError> {
        match u64::from(width) * u64::from(height) > self.max_pixels {
            true => {
                let limit_megapixels = self.max_pixels as f64 / 1e6;
                Err(DecodeError::TooLarge { width, height, limit_megapixels })
            }
            false => Ok(()),
        }
    }
}

/// Failure to decode a picture. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("empty file")]
    Empty,
    /// The first bytes are not those of a supported format.
    #[error("not a picture in a known format (JPEG, PNG, WebP, GIF, BMP, TIFF)")]
    UnknownFormat,
    /// The header declares more than [`DecodeLimits::max_pixels`].
    #[error("picture of {width}x{height} pixels exceeds the limit of {limit_megapixels} megapixels")]
    TooLarge {
        /// Width in pixels, before orientation.
        width: u32,
        /// Height in pixels, before orientation.
        height: u32,
        /// Limit in millions of pixels.
        limit_megapixels: f64,
    },
    /// A JPEG with more scans than any encoder writes. Decoding it could take minutes.
    #[error("JPEG picture with more than {limit} scans, the maximum for {width}x{height} pixels")]
    TooManyScans {
        /// Width in pixels, before orientation.
        width: u32,
        /// Height in pixels, before orientation.
        height: u32,
        /// Maximum number of scans of a picture of this size.
        limit: usize,
    },
    /// Unsupported colors: in TIFF, palettes of fewer than 8 bits, uncompressed YCbCr and CIELab.
    #[error("{format} picture with unsupported colors (supported: gray, RGB, CMYK and 8-bit palettes); save it as RGB")]
    Colors {
        /// Name of the format.
        format: &'static str,
    },
    /// A JPEG that is damaged before its first pixels, or of a kind that is not supported.
    #[error(transparent)]
    Jpeg(#[from] JpegError),
    /// Any other failure of the decoder of the format.
    #[error("damaged or unsupported {format} picture: {}", one_line(source))]
    Damaged {
        /// Name of the format.
        format: &'static str,
        /// Error of the decoder.
        source: ImageError,
    },
}

/// The message of an error on one line. The messages of some decoders and encoders have line breaks.
pub fn one_line(error: &ImageError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
