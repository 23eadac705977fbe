//! JPEG with the colors libjpeg gives.
//!
//! Embeddings in people's databases were computed from pictures decoded by libjpeg. The decoder of the `image` crate rounds chroma twice
//! when it stretches it, which tints pictures by a third of a gray level and turns embeddings by up to 0.001 of cosine;
//! `jpeg-decoder` rounds once, as libjpeg does.

use image::RgbImage;
use jpeg_decoder::{Decoder, PixelFormat};

/// Decodes a JPEG of three colors; `None` when it has others (gray, CMYK) or is damaged, for a more lenient decoder to try.
///
/// The caller has checked the size in the header against its limits.
pub(super) fn decode_color(bytes: &[u8], max_pixels: u64) -> Option<RgbImage> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(max_pixels.saturating_mul(4)).unwrap_or(usize::MAX));
    decoder.read_info().ok()?;
    let info = decoder.info().filter(|i| i.pixel_format == PixelFormat::RGB24)?;
    RgbImage::from_raw(info.width.into(), info.height.into(), decoder.decode().ok()?)
}

/// Pixels times scans that may be gone through, for files of up to [`MAX_SCANS`] scans; [`USUAL_SCANS`] are always read.
///
/// A progressive file may refine its picture as often as it likes, and a scan of a few bytes costs as much as one of all pixels:
/// without a bound, a small file keeps a processor busy for minutes.
const MAX_SCANNED_PIXELS: u64 = 1_000_000_000;
const MAX_SCANS: usize = 100;
/// Encoders write about ten scans, those that search for the smallest file up to twice as many.
const USUAL_SCANS: usize = 20;
/// Sequential files have one scan for each color at the most.
const MAX_SEQUENTIAL_SCANS: usize = 4;

/// The most scans a file of so many pixels may have when it has more; `None` when all is well.
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

/// The markers of a JPEG up to its end, without those inside of segments and compressed data.
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
            // Compressed data holds FF only before 00 and restart markers; other bytes between segments are skipped, as decoders do.
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

/// Where the first FF is, looked for in blocks that are compared in vectors.
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
    fn colors_come_out_close_to_what_went_in() {
        let source = RgbImage::from_pixel(20, 10, image::Rgb([200, 30, 90]));
        let decoded = decode_color(&jpeg(source.clone().into()), 1000).unwrap();
        assert_eq!(decoded.dimensions(), (20, 10));
        assert!(decoded.as_raw().iter().zip(source.as_raw()).all(|(a, b)| a.abs_diff(*b) < 8));
    }

    #[test]
    fn what_it_does_not_take_is_left_to_others() {
        assert!(decode_color(&jpeg(image::GrayImage::new(8, 8).into()), 1000).is_none());
        assert!(decode_color(&jpeg(RgbImage::new(64, 64).into()), 10).is_none(), "over the limit");
        assert!(decode_color(b"no jpeg", 1000).is_none());
    }

    /// A progressive file of a picture without detail: one scan with the means, then so many that refine nothing.
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
    fn scans_are_counted_without_what_only_looks_like_one() {
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
    fn no_file_may_refine_a_picture_for_ever() {
        assert_eq!(too_many_scans(&refined(64, 64, 99), 64 * 64), None);
        assert_eq!(too_many_scans(&refined(64, 64, 100), 64 * 64), Some(100));
        assert_eq!(too_many_scans(&refined(64, 64, 19), 49_000_000), None, "as many as encoders write");
        assert_eq!(too_many_scans(&refined(64, 64, 20), 49_000_000), Some(20));
        let mut sequential = refined(64, 64, 4);
        let at = sequential.windows(2).position(|w| w == [0xFF, SOF2]).unwrap();
        sequential[at + 1] = 0xC0;
        assert_eq!(too_many_scans(&sequential, 64 * 64), Some(4));
        assert!(decode_color(&refined(64, 64, 11), 1 << 20).is_some(), "what the tests are made of is whole");
    }
}
