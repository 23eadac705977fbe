//! JPEG files, decoded to the pixels of libjpeg-turbo.
//!
//! Stored embeddings were computed from pictures decoded by libjpeg. A decoder that rounds differently changes colors
//! by a part of a gray level, and embeddings by up to 0.003 in cosine.

use ifr_jpeg::{Decoder, JpegError, MarkerSegment};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::error::{DecodeError, DecodeLimits};

/// Start of the data of an APP1 segment with an EXIF block.
const EXIF: &[u8] = b"Exif\0\0";
/// Second byte of the marker APP1.
const APP1: u8 = 0xE1;

/// Decodes a JPEG file to upright RGB.
///
/// # Errors
///
/// If the picture exceeds `limits` or has too many scans, if the header is damaged, or if the kind of JPEG is not
/// supported. `limits` are checked before pixels are allocated. Missing or damaged data after the header is no error.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, DecodeError> {
    let decoder = Decoder::new(bytes).map_err(|error| match error {
        JpegError::SideTooLong { width, height } => limits.check((width, height)).err().unwrap_or(error.into()),
        error => error.into(),
    })?;
    let (width, height) = (decoder.header().width, decoder.header().height);
    limits.check((width, height))?;
    let mut picture = RgbImage::new(width, height);
    decoder.decode_rgb(&mut picture).map_err(|error| match error {
        JpegError::TooManyScans { limit } => DecodeError::TooManyScans { width, height, limit },
        error => error.into(),
    })?;
    let orientation = orientation(decoder.segments());
    if orientation == Orientation::NoTransforms {
        return Ok(picture);
    }
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// Width and height in the header, before orientation. `None` if [`decode`] does not support the file.
pub(super) fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let decoder = Decoder::new(bytes).ok()?;
    Some((decoder.header().width, decoder.header().height))
}

/// The orientation in the first EXIF block. A picture without a block or with a damaged one is upright.
fn orientation<'a>(mut segments: impl Iterator<Item = MarkerSegment<'a>>) -> Orientation {
    segments
        .find_map(|segment| segment.data.strip_prefix(EXIF).filter(|_| segment.marker == APP1))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageEncoder, Rgb};

    // Second bytes of markers.
    const SOF0: u8 = 0xC0;
    const SOF2: u8 = 0xC2;
    const SOI: u8 = 0xD8;
    const EOI: u8 = 0xD9;
    const SOS: u8 = 0xDA;
    const LIMITS: DecodeLimits = DecodeLimits { max_pixels: 50_000_000 };

    /// 24x16, upper half light, lower half dark.
    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |_, y| if y < 8 { Rgb([200, 160, 90]) } else { Rgb([30, 40, 90]) })
    }

    fn jpeg(image: DynamicImage) -> Vec<u8> {
        let mut bytes = vec![];
        image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Jpeg).unwrap();
        bytes
    }

    #[test]
    fn decoded_colors_are_close_to_the_source() {
        let source = RgbImage::from_pixel(20, 10, Rgb([200, 30, 90]));
        let file = jpeg(source.clone().into());
        let decoded = decode(&file, &LIMITS).unwrap();
        assert_eq!((decoded.dimensions(), dimensions(&file)), ((20, 10), Some((20, 10))));
        assert!(decoded.as_raw().iter().zip(source.as_raw()).all(|(a, b)| a.abs_diff(*b) < 8));
    }

    #[test]
    fn sizes_over_the_limit_are_refused() {
        let mut file = jpeg(picture().into());
        let small = DecodeLimits { max_pixels: 24 * 16 - 1 };
        let error = decode(&file, &small).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { width: 24, height: 16, .. }), "{error}");
        let frame = file.windows(2).position(|w| w == [0xFF, SOF0]).unwrap();
        file[frame + 5..frame + 9].fill(0xFF);
        let error = decode(&file, &LIMITS).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { width: 65_535, height: 65_535, .. }), "{error}");
    }

    #[test]
    fn the_first_exif_block_counts() {
        let exif = |orientation: u8| {
            let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
            block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
            block
        };
        let mut file = vec![];
        let mut encoder = JpegEncoder::new_with_quality(&mut file, 95);
        encoder.set_exif_metadata(exif(6)).unwrap();
        encoder.write_image(&picture(), 24, 16, image::ExtendedColorType::Rgb8).unwrap();
        let second = [&[0xFF, APP1, 0, 2 + 6 + 26][..], EXIF, &exif(3)].concat();
        let tables = file.windows(2).position(|w| w == [0xFF, 0xDB]).unwrap();
        file.splice(tables..tables, second);
        let decoded = decode(&file, &LIMITS).unwrap();
        assert_eq!(decoded.dimensions(), (16, 24));
        assert!(decoded.get_pixel(13, 12)[0] > 150 && decoded.get_pixel(2, 12)[0] < 80, "turned clockwise");
    }

    #[test]
    fn a_file_that_was_cut_off_gives_its_upper_part() {
        let whole = include_bytes!("../../../../assets/astronaut.jpg");
        let all = decode(whole, &LIMITS).unwrap();
        let mut complete_rows = vec![];
        for length in [2, 20, 300, 5_000, 40_000, whole.len() - 2] {
            match decode(&whole[..length], &LIMITS) {
                Ok(image) => {
                    assert_eq!(image.dimensions(), (512, 512));
                    complete_rows
                        .push(image.rows().zip(all.rows()).take_while(|(a, b)| a.clone().eq(b.clone())).count());
                }
                Err(error) => assert!(length < 5_000 && !error.to_string().contains('\n'), "{error}"),
            }
        }
        assert!(complete_rows.is_sorted() && complete_rows.ends_with(&[512]), "{complete_rows:?}");
        assert!(complete_rows[complete_rows.len() - 2] > 100, "{complete_rows:?}");
    }

    #[test]
    fn kinds_that_are_not_supported_are_named() {
        let mut file = jpeg(picture().into());
        let frame = file.windows(2).position(|w| w == [0xFF, SOF0]).unwrap();
        file[frame + 1] = 0xC9;
        let error = decode(&file, &LIMITS).unwrap_err().to_string();
        assert!(error.contains("arithmetic-coded JPEG is not supported"), "{error}");
    }

    /// A progressive file of a uniform picture: one scan with the means, then `scans` scans without changes.
    fn refined(width: u16, height: u16, scans: usize) -> Vec<u8> {
        let segment = |marker: u8, data: &[u8]| {
            let length = (data.len() as u16 + 2).to_be_bytes();
            [&[0xFF, marker], &length[..], data].concat()
        };
        let table = |class: u8, symbol: u8| [&[class, 1][..], &[0; 15], &[symbol]].concat();
        let (h, w) = (height.to_be_bytes(), width.to_be_bytes());
        let components = [1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0];
        let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
        let mut file = vec![0xFF, SOI];
        file.extend(segment(0xDB, &[&[0][..], &[1; 64]].concat()));
        file.extend(segment(SOF2, &[&[8, h[0], h[1], w[0], w[1], 3][..], &components].concat()));
        file.extend(segment(0xC4, &table(0x00, 0)));
        file.extend(segment(0xC4, &table(0x10, 0)));
        file.extend(segment(SOS, &[3, 1, 0, 2, 0, 3, 0, 0, 0, 0]));
        file.extend(vec![0; (3 * blocks).div_ceil(8)]);
        for _ in 0..scans {
            file.extend(segment(SOS, &[1, 1, 0, 1, 63, 0]));
            file.extend(vec![0; blocks.div_ceil(8)]);
        }
        file.extend([0xFF, EOI]);
        file
    }

    #[test]
    fn the_number_of_scans_is_limited() {
        let limit_of = |file: &[u8]| match decode(file, &LIMITS) {
            Ok(_) => None,
            Err(DecodeError::TooManyScans { limit, .. }) => Some(limit),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(limit_of(&refined(64, 64, 99)), None);
        assert_eq!(limit_of(&refined(64, 64, 100)), Some(100));
        assert_eq!(limit_of(&refined(7000, 7000, 20)), Some(20));
        assert_eq!(ifr_jpeg::max_scans(true, 49_000_000), 20, "usual number of scans");
        // Only scans of the picture count: not those of a thumbnail in a segment, nor of a file after the end.
        let file = refined(64, 64, 99);
        let thumbnail = [&[0xFF, APP1, 0, 8][..], &[0xFF, SOS, 0xFF, SOS, 0xFF, SOS]].concat();
        assert_eq!(limit_of(&[&file[..2], &thumbnail, &file[2..], &file].concat()), None);
        // A sequential file whose first scan has one component of three.
        let mut sequential = refined(64, 64, 4);
        let frame = sequential.windows(2).position(|w| w == [0xFF, SOF2]).unwrap();
        sequential[frame + 1] = SOF0;
        let scan = sequential.windows(2).position(|w| w == [0xFF, SOS]).unwrap();
        sequential.splice(scan + 2..scan + 14, [0, 8, 1, 1, 0, 0, 63, 0]);
        assert_eq!(limit_of(&sequential), Some(4));
    }
}
