//! Decoding of picture files to upright RGB pixels.

use std::io::Cursor;

use image::error::UnsupportedErrorKind;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::error::{DecodeError, DecodeLimits};
use super::palette::Palette;
use super::{jpeg, png};

/// Decodes a picture. The content determines the format.
///
/// The first frame of an animation is decoded, EXIF orientation is applied, gray is copied to three channels, 16-bit
/// samples are reduced to 8 bits, CMYK is converted, and alpha is dropped without blending, as with OpenCV's
/// `IMREAD_COLOR`. A JPEG file that was cut off gives its upper part; the rest is gray.
///
/// # Errors
///
/// If the format is unknown, the data is damaged, or the picture exceeds `limits`, which are checked before pixels are
/// allocated.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| DecodeError::UnknownFormat)?;
    let name = format_name(format).ok_or(DecodeError::UnknownFormat)?;
    if format == ImageFormat::Jpeg {
        return jpeg::decode(bytes, limits);
    }
    let failed = |source| match source {
        ImageError::Unsupported(e) if concerns_colors(&e.kind()) => DecodeError::Colors { format: name },
        source => DecodeError::Damaged { format: name, source },
    };
    let palette = if format == ImageFormat::Tiff { Palette::of_tiff(bytes) } else { None };
    let content = palette.as_ref().map_or(bytes, |p| &p.gray_file);

    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    let mut memory = Limits::no_limits();
    // Eight bytes per pixel is the deepest format (16-bit RGBA). The rest is for tables and a second copy.
    memory.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(64 << 20));
    reader.limits(memory);
    let mut decoder = match reader.into_decoder() {
        Ok(decoder) => decoder,
        Err(error) => {
            // Some decoders refuse extreme headers before they report the size.
            claimed_dimensions(bytes, format).map_or(Ok(()), |size| limits.check(size))?;
            return Err(failed(error));
        }
    };
    limits.check(decoder.dimensions())?;
    // A picture with a damaged EXIF block is decoded without orientation.
    let mut orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if format == ImageFormat::Png && matches!(decoder.exif_metadata(), Ok(None)) {
        let late = png::chunk(bytes, b"eXIf").and_then(Orientation::from_exif_chunk);
        orientation = late.unwrap_or(orientation);
    }
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    if let Some(palette) = &palette {
        picture = palette.apply(&picture.into_luma8()).into();
    }
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// Whether a decoder refuses a picture because of its colors. The TIFF decoder reports colors as an unsupported
/// feature.
fn concerns_colors(kind: &UnsupportedErrorKind) -> bool {
    match kind {
        UnsupportedErrorKind::Color(_) => true,
        UnsupportedErrorKind::GenericFeature(feature) => feature.contains("Photometric"),
        _ => false,
    }
}

/// Width and height in the header of a picture, before orientation. `None` if [`decode`] does not support it.
pub fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let format = image::guess_format(bytes).ok()?;
    format_name(format)?;
    if format == ImageFormat::Jpeg {
        return jpeg::dimensions(bytes);
    }
    let palette = if format == ImageFormat::Tiff { Palette::of_tiff(bytes) } else { None };
    let content = palette.as_ref().map_or(bytes, |p| &p.gray_file);
    ImageReader::with_format(Cursor::new(content), format).into_dimensions().ok()
}

/// Width and height in the header of a PNG or an extended WebP, read without a decoder.
fn claimed_dimensions(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    match format {
        ImageFormat::Png => png::dimensions(bytes),
        ImageFormat::WebP => {
            let header = bytes.get(12..).filter(|b| b.starts_with(b"VP8X"))?.get(12..18)?;
            let side = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]) + 1;
            Some((side(0), side(3)))
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
    use image::{ExtendedColorType, ImageEncoder, Rgb};

    const RED: Rgb<u8> = Rgb([200, 40, 30]);
    const BLUE: Rgb<u8> = Rgb([20, 60, 180]);

    /// 24x16, left half red, right half blue.
    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |x, _| if x < 12 { RED } else { BLUE })
    }

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = vec![];
        image.into().write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    fn decoded(bytes: &[u8]) -> RgbImage {
        decode(bytes, &DecodeLimits::default()).unwrap()
    }

    fn close(a: &Rgb<u8>, b: &Rgb<u8>, tolerance: u8) -> bool {
        a.0.iter().zip(b.0).all(|(a, b)| a.abs_diff(b) <= tolerance)
    }

    #[track_caller]
    fn assert_left_right(image: &RgbImage, left: Rgb<u8>, right: Rgb<u8>, tolerance: u8) {
        let (l, r) = (image.get_pixel(2, image.height() / 2), image.get_pixel(image.width() - 3, image.height() / 2));
        assert!(close(l, &left, tolerance) && close(r, &right, tolerance), "{l:?} {r:?}");
    }

    #[test]
    fn the_content_determines_the_format() {
        for format in [
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
            ImageFormat::Jpeg,
        ] {
            let bytes = encode(picture(), format);
            assert_eq!(dimensions(&bytes), Some((24, 16)), "{format:?}");
            let image = decoded(&bytes);
            assert_eq!(image.dimensions(), (24, 16), "{format:?}");
            assert_left_right(&image, RED, BLUE, if format == ImageFormat::Jpeg { 12 } else { 0 });
        }
    }

    #[test]
    fn gray_alpha_and_16_bits_become_rgb() {
        let rgb = DynamicImage::from(picture());
        let gray = Rgb([rgb.to_luma8().get_pixel(0, 0).0[0]; 3]);
        let dark = Rgb([rgb.to_luma8().get_pixel(20, 0).0[0]; 3]);
        for (image, left, right) in [
            (DynamicImage::from(rgb.to_luma8()), gray, dark),
            (rgb.to_luma_alpha8().into(), gray, dark),
            (rgb.to_luma16().into(), gray, dark),
            (rgb.to_rgba8().into(), RED, BLUE),
            (rgb.to_rgb16().into(), RED, BLUE),
            (rgb.to_rgba16().into(), RED, BLUE),
        ] {
            assert_left_right(&decoded(&encode(image, ImageFormat::Png)), left, right, 1);
        }
        assert_left_right(&decoded(&encode(rgb.to_luma8(), ImageFormat::Jpeg)), gray, dark, 6);
    }

    #[test]
    fn transparency_is_dropped_without_blending() {
        let image = image::RgbaImage::from_pixel(4, 4, image::Rgba([200, 40, 30, 0]));
        assert_eq!(*decoded(&encode(image, ImageFormat::Png)).get_pixel(1, 1), RED);
    }

    #[test]
    fn cmyk_jpeg_is_converted() {
        let image = decoded(include_bytes!("../../../../tests/data/cmyk.jpg"));
        assert_eq!(image.dimensions(), (24, 16));
        assert_left_right(&image, RED, BLUE, 16);
    }

    #[test]
    fn the_first_frame_of_an_animation_is_decoded() {
        let mut bytes = vec![];
        {
            let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
            for color in [RED, BLUE] {
                let frame = DynamicImage::from(RgbImage::from_pixel(8, 8, color)).to_rgba8();
                encoder.encode_frame(image::Frame::new(frame)).unwrap();
            }
        }
        assert_eq!(*decoded(&bytes).get_pixel(4, 4), RED);
    }

    /// An EXIF block: a TIFF header with one directory entry, the orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        block
    }

    /// An uncompressed RGB TIFF with an orientation tag.
    fn tiff(image: &RgbImage, orientation: u16) -> Vec<u8> {
        let (w, h) = (image.width() as u16, image.height() as u16);
        let tags: [(u16, u16, u32); 10] = [
            (256, 3, w.into()),
            (257, 3, h.into()),
            (258, 3, 8),
            (259, 3, 1),
            (262, 3, 2),
            (273, 4, 8 + 2 + 10 * 12 + 4),
            (274, 3, orientation.into()),
            (277, 3, 3),
            (278, 3, h.into()),
            (279, 4, image.as_raw().len() as u32),
        ];
        let mut bytes = b"II*\0\x08\0\0\0\x0a\0".to_vec();
        for (tag, kind, value) in tags {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(image.as_raw());
        bytes
    }

    #[test]
    fn orientation_is_applied_in_every_format() {
        let source = picture();
        let (raw, (w, h)) = (source.as_raw(), source.dimensions());
        let write = |encode: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = vec![];
            encode(&mut bytes);
            bytes
        };
        // 3 is a rotation by 180 degrees: the colors change sides. 6 is a rotation by 90 degrees: red is at the top.
        for orientation in [3u8, 6] {
            let files = [
                (
                    "JPEG",
                    write(&|out| {
                        let mut encoder = JpegEncoder::new_with_quality(out, 95);
                        encoder.set_exif_metadata(exif(orientation)).unwrap();
                        encoder.write_image(raw, w, h, ExtendedColorType::Rgb8).unwrap();
                    }),
                ),
                (
                    "PNG",
                    write(&|out| {
                        let mut encoder = PngEncoder::new(out);
                        encoder.set_exif_metadata(exif(orientation)).unwrap();
                        encoder.write_image(raw, w, h, ExtendedColorType::Rgb8).unwrap();
                    }),
                ),
                (
                    "WebP",
                    write(&|out| {
                        let mut encoder = WebPEncoder::new_lossless(out);
                        encoder.set_exif_metadata(exif(orientation)).unwrap();
                        encoder.write_image(raw, w, h, ExtendedColorType::Rgb8).unwrap();
                    }),
                ),
                ("TIFF", tiff(&source, orientation.into())),
            ];
            for (format, bytes) in files {
                let image = decoded(&bytes);
                if orientation == 3 {
                    assert_eq!(image.dimensions(), (24, 16), "{format}");
                    assert_left_right(&image, BLUE, RED, 12);
                } else {
                    assert_eq!(image.dimensions(), (16, 24), "{format}");
                    assert!(
                        close(image.get_pixel(8, 2), &RED, 12) && close(image.get_pixel(8, 21), &BLUE, 12),
                        "{format}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_png_is_oriented_by_a_chunk_after_its_pixels() {
        for orientation in [3u8, 6] {
            let plain = encode(picture(), ImageFormat::Png);
            let end = plain.len() - 12;
            let mut chunk = exif(orientation);
            let length = (chunk.len() as u32).to_be_bytes();
            chunk.splice(..0, *b"eXIf");
            let crc = crc32(&chunk).to_be_bytes();
            let image = decoded(&[&plain[..end], &length, &chunk, &crc, &plain[end..]].concat());
            match orientation {
                3 => assert_left_right(&image, BLUE, RED, 0),
                _ => assert_eq!((image.dimensions(), image.get_pixel(8, 2)), ((16, 24), &RED)),
            }
            // A truncated chunk is ignored.
            assert_eq!(decoded(&[&plain[..end], &length, &chunk[..9]].concat()).dimensions(), (24, 16));
        }
    }

    /// A TIFF of indices into 256 colors. Tags of the type SHORT have two bytes.
    fn palette_tiff(image: &[u8], width: u16, colors: &[Rgb<u16>; 256], photometric: u32, bits: u32) -> Vec<u8> {
        let height = (image.len() / usize::from(width)) as u32;
        let map_at = 8 + 2 + 11 * 12 + 4;
        let tags: [(u16, u16, u32, u32); 11] = [
            (256, 3, 1, width.into()),
            (257, 3, 1, height),
            (258, 3, 1, bits),
            (259, 3, 1, 1),
            (262, 3, 1, photometric),
            (273, 4, 1, map_at + 768 * 2),
            (274, 3, 1, 3),
            (277, 3, 1, 1),
            (278, 3, 1, height),
            (279, 4, 1, image.len() as u32),
            (320, 3, 768, map_at),
        ];
        let mut bytes = b"II*\0\x08\0\0\0\x0b\0".to_vec();
        for (tag, kind, count, value) in tags {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
        for c in 0..3 {
            bytes.extend(colors.iter().flat_map(|color| color.0[c].to_le_bytes()));
        }
        bytes.extend(image);
        bytes
    }

    #[test]
    fn palettes_of_tiff_are_applied() {
        let wide = |Rgb(c): Rgb<u8>| Rgb(c.map(|v| u16::from(v) * 257));
        let narrow = |Rgb(c): Rgb<u8>| Rgb(c.map(u16::from));
        let indices: Vec<u8> = (0..24 * 16).map(|i| if i % 24 < 12 { 200 } else { 7 }).collect();
        for deepen in [&wide as &dyn Fn(Rgb<u8>) -> Rgb<u16>, &narrow] {
            let mut colors = [Rgb([0u16; 3]); 256];
            (colors[200], colors[7]) = (deepen(RED), deepen(BLUE));
            let file = palette_tiff(&indices, 24, &colors, 3, 8);
            assert_eq!(dimensions(&file), Some((24, 16)));
            // Its orientation is upside down.
            assert_left_right(&decoded(&file), BLUE, RED, 0);
            for length in 0..file.len() {
                let _ = decode(&file[..length], &DecodeLimits::default());
            }
        }
        // A palette of 16 colors, and CIELab.
        for (photometric, bits) in [(3, 4), (8, 8)] {
            let file = palette_tiff(&indices, 24, &[Rgb([0; 3]); 256], photometric, bits);
            let error = decode(&file, &DecodeLimits::default()).unwrap_err();
            let clear = matches!(error, DecodeError::Colors { format: "TIFF" });
            assert!(clear && !error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn bad_input_gives_specific_errors() {
        let refuse = |bytes: &[u8]| decode(bytes, &DecodeLimits::default()).unwrap_err();
        assert!(matches!(refuse(b""), DecodeError::Empty));
        assert!(matches!(refuse(b"hello"), DecodeError::UnknownFormat));
        assert_eq!(dimensions(b"hello"), None);
        assert!(matches!(refuse(b"\x89PNG\r\n\x1a\n"), DecodeError::Damaged { format: "PNG", .. }));
        let png = encode(picture(), ImageFormat::Png);
        assert!(matches!(refuse(&png[..png.len() / 2]), DecodeError::Damaged { .. }));
        let small = DecodeLimits { max_pixels: 24 * 16 - 1 };
        assert!(matches!(decode(&png, &small), Err(DecodeError::TooLarge { width: 24, height: 16, .. })));
    }

    #[test]
    fn large_sizes_are_refused_before_allocation() {
        let mut png = encode(picture(), ImageFormat::Png);
        png[16..20].copy_from_slice(&65_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&65_000u32.to_be_bytes());
        // The header's checksum has to match, or it would be refused for that.
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = decode(&png, &DecodeLimits::default()).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { width: 65_000, height: 65_000, .. }), "{error}");
        assert_eq!(error.to_string(), "picture of 65000x65000 pixels exceeds the limit of 50 megapixels");
        // Extreme sizes, which decoders refuse before they report them.
        png[16..24].copy_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF]);
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff";
        for (extreme, side) in [(&png[..], (1 << 31) - 1), (webp, 1 << 24)] {
            let error = decode(extreme, &DecodeLimits::default()).unwrap_err();
            let told = matches!(error, DecodeError::TooLarge { width, height, .. } if (width, height) == (side, side));
            assert!(told, "{error}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
        })
    }
}
