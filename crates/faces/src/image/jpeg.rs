//! JPEG decoding with the colors of libjpeg.
//!
//! Stored embeddings were computed from pictures decoded by libjpeg. The decoder of the `image` crate rounds twice when
//! it upsamples chroma, which changes colors by a third of a gray level and embeddings by up to 0.001 in cosine.
//! `jpeg-decoder` rounds once, like libjpeg.

use image::RgbImage;
use jpeg_decoder::{Decoder, PixelFormat};

/// Decodes a JPEG with three color channels. `None` for gray, CMYK and damaged files, which the decoder of `image` may
/// support.
///
/// The caller must have checked the size in the header.
pub(super) fn decode_color(bytes: &[u8], max_pixels: u64) -> Option<RgbImage> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(max_pixels.saturating_mul(4)).unwrap_or(usize::MAX));
    decoder.read_info().ok()?;
    let info = decoder.info().filter(|i| i.pixel_format == PixelFormat::RGB24)?;
    RgbImage::from_raw(info.width.into(), info.height.into(), decoder.decode().ok()?)
}

/// Maximum of pixels times scans of a progressive file. At least [`USUAL_SCANS`] and at most [`MAX_SCANS`] scans are
/// allowed.
///
/// A scan of a few bytes takes as long as a scan of all pixels. Without a limit, a small file could take minutes.
const MAX_SCANNED_PIXELS: u64 = 1_000_000_000;
/// Maximum number of scans of a progressive file of any size.
const MAX_SCANS: usize = 100;
/// Number of scans that is always allowed. Encoders write about 10 scans, size-optimizing encoders up to 20.
const USUAL_SCANS: usize = 20;
/// Maximum number of scans of a sequential file: one for each color channel.
const MAX_SEQUENTIAL_SCANS: usize = 4;

/// The maximum number of scans for a file of `pixels` pixels, if the file has more; else `None`.
pub(super) fn too_many_scans(bytes: &[u8], pixels: u64) -> Option<usize> {
    let affordable =
        usize::try_from(MAX_SCANNED_PIXELS / pixels.max(1)).unwrap_or(usize::MAX).clamp(USUAL_SCANS, MAX_SCANS);
    let mut progressive = false;
    let mut scans = 0;
    for marker in Markers::of(bytes) {
        match marker {
            SOF2 => progressive = true,
            SOS => scans += 1,
            _ => {}
        }
        let limit = if progressive { affordable } else { MAX_SEQUENTIAL_SCANS };
        if scans > limit {
            return Some(limit);
        }
    }
    None
}

const SOF2: u8 = 0xC2;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// Markers of a JPEG up to its end. Bytes inside of segments and compressed data are skipped.
struct Markers<'a> {
    rest: &'a [u8],
}

impl<'a> Markers<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Markers { rest: bytes }
    }
}

impl Iterator for Markers<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            // In compressed data, FF is followed by 00 or a restart marker. Other bytes between segments are skipped,
            // as in decoders.
            self.rest = &self.rest[first_ff(self.rest)?..];
            let marker_at = self.rest.iter().position(|&b| b != 0xFF)?;
            let marker = self.rest[marker_at];
            self.rest = &self.rest[marker_at + 1..];
            match marker {
                0 | 0x01 | 0xD0..=0xD7 => continue,
                EOI => self.rest = &[],
                SOI => {}
                _ => {
                    let length = self.rest.first_chunk().map_or(0, |&l| usize::from(u16::from_be_bytes(l)));
                    self.rest = self.rest.get(length..).unwrap_or_default();
                }
            }
            return Some(marker);
        }
    }
}

/// Index of the first FF byte. The search compares blocks in vector registers.
fn first_ff(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 64;
    let clean = |block: &&[u8]| block.iter().fold(0, |most, &b| most.max(b)) < 0xFF;
    let start = bytes.chunks_exact(BLOCK).take_while(clean).count() * BLOCK;
    Some(start + bytes[start..].iter().position(|&b| b == 0xFF)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat};

    fn jpeg(image: DynamicImage) -> Vec<u8> {
        let mut bytes = vec![];
        image.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
        bytes
    }

    #[test]
    fn decoded_colors_are_close_to_the_source() {
        let source = RgbImage::from_pixel(20, 10, image::Rgb([200, 30, 90]));
        let decoded = decode_color(&jpeg(source.clone().into()), 1000).unwrap();
        assert_eq!(decoded.dimensions(), (20, 10));
        assert!(decoded.as_raw().iter().zip(source.as_raw()).all(|(a, b)| a.abs_diff(*b) < 8));
    }

    #[test]
    fn other_colors_sizes_and_formats_give_none() {
        assert!(decode_color(&jpeg(image::GrayImage::new(8, 8).into()), 1000).is_none());
        assert!(decode_color(&jpeg(RgbImage::new(64, 64).into()), 10).is_none(), "over the limit");
        assert!(decode_color(b"no jpeg", 1000).is_none());
    }

    /// A progressive file of a uniform picture: one scan with the means, then `scans` scans without changes.
    pub fn refined(width: u16, height: u16, scans: usize) -> Vec<u8> {
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
    fn only_scans_of_the_picture_are_counted() {
        let whole = include_bytes!("../../../../assets/astronaut.jpg");
        assert_eq!(Markers::of(whole).filter(|&m| m == SOS).count(), 1);
        assert_eq!(Markers::of(whole).last(), Some(EOI));
        let file = refined(64, 64, 11);
        assert_eq!(Markers::of(&file).filter(|&m| m == SOS).count(), 12);
        // A thumbnail in a segment, and another picture after the end.
        let thumbnail = [&[0xFF, 0xE1, 0, 8][..], &[0xFF, SOS, 0xFF, SOS, 0xFF, SOS]].concat();
        let with_more = [&file[..2], &thumbnail, &file[2..], &file].concat();
        assert_eq!(Markers::of(&with_more).filter(|&m| m == SOS).count(), 12);
        for length in 0..file.len() {
            Markers::of(&file[..length]).count();
        }
    }

    #[test]
    fn the_number_of_scans_is_limited() {
        assert_eq!(too_many_scans(&refined(64, 64, 99), 64 * 64), None);
        assert_eq!(too_many_scans(&refined(64, 64, 100), 64 * 64), Some(100));
        assert_eq!(too_many_scans(&refined(64, 64, 19), 49_000_000), None, "usual number of scans");
        assert_eq!(too_many_scans(&refined(64, 64, 20), 49_000_000), Some(20));
        let mut sequential = refined(64, 64, 4);
        let at = sequential.windows(2).position(|w| w == [0xFF, SOF2]).unwrap();
        sequential[at + 1] = 0xC0;
        assert_eq!(too_many_scans(&sequential, 64 * 64), Some(4));
        assert!(decode_color(&refined(64, 64, 11), 1 << 20).is_some(), "the test file is valid");
    }
}
