//! Encoding of pictures as JPEG files.

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// Encodes a picture as a JPEG file with `quality` from 1 to 100.
///
/// # Errors
///
/// If a side is longer than 65535 pixels, the maximum of the format.
pub fn encode_jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_size() {
        let bytes = encode_jpeg(&RgbImage::new(5, 3), 95).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8().dimensions(), (5, 3));
        assert!(encode_jpeg(&RgbImage::new(65536, 1), 95).is_err());
    }
}
