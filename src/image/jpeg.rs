//! JPEG with the colours libjpeg gives.
//!
//! Embeddings in people's databases were computed from pictures decoded by libjpeg. The decoder of the `image` crate rounds chroma twice
//! when it stretches it, which tints pictures by a third of a grey level and turns embeddings by up to 0.001 of cosine;
//! `jpeg-decoder` rounds once, as libjpeg does.

use image::RgbImage;
use jpeg_decoder::{Decoder, PixelFormat};

/// Decodes a JPEG of three colours; `None` when it has others (grey, CMYK) or is damaged, for a more lenient decoder to try.
///
/// The caller has checked the size in the header against its limits.
pub(super) fn decode_colour(bytes: &[u8], max_pixels: u64) -> Option<RgbImage> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(max_pixels.saturating_mul(4)).unwrap_or(usize::MAX));
    decoder.read_info().ok()?;
    let info = decoder.info().filter(|i| i.pixel_format == PixelFormat::RGB24)?;
    RgbImage::from_raw(info.width.into(), info.height.into(), decoder.decode().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat};

    fn jpeg(image: DynamicImage) -> Vec<u8> {
        let mut bytes = vec![];
        image.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
        bytes
    }

    #[test]
    fn colours_come_out_close_to_what_went_in() {
        let source = RgbImage::from_pixel(20, 10, image::Rgb([200, 30, 90]));
        let decoded = decode_colour(&jpeg(source.clone().into()), 1000).unwrap();
        assert_eq!(decoded.dimensions(), (20, 10));
        assert!(decoded.as_raw().iter().zip(source.as_raw()).all(|(a, b)| a.abs_diff(*b) < 8));
    }

    #[test]
    fn what_it_does_not_take_is_left_to_others() {
        assert!(decode_colour(&jpeg(image::GrayImage::new(8, 8).into()), 1000).is_none());
        assert!(decode_colour(&jpeg(RgbImage::new(64, 64).into()), 10).is_none(), "over the limit");
        assert!(decode_colour(b"no jpeg", 1000).is_none());
    }
}
