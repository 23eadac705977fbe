//! TIFF pictures with a palette of 8-bit indices, which the decoder of `image` does not support.
//!
//! The file is decoded as a gray picture; then the gray values are replaced by the colors at these indices.

use image::{GrayImage, RgbImage};

const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const COLOR_MAP: u16 = 320;
/// Values of the photometric tag.
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;

/// The palette of a TIFF picture.
pub(super) struct Palette {
    colors: [[u8; 3]; 256],
    /// The file, changed to declare its indices as gray values.
    pub gray_file: Vec<u8>,
}

impl Palette {
    /// Reads the palette of the first picture. `None` without a complete palette of 256 colors.
    pub fn of_tiff(bytes: &[u8]) -> Option<Palette> {
        let directory = Directory::first_of(bytes)?;
        let kind = directory.find(PHOTOMETRIC)?;
        let single = |tag: u16| directory.find(tag).map_or(1, |entry| entry.short);
        if kind.short != PALETTE || single(BITS_PER_SAMPLE) != 8 || single(SAMPLES_PER_PIXEL) != 1 {
            return None;
        }
        let map = directory.find(COLOR_MAP).filter(|entry| entry.count == 3 * 256)?;
        let table = bytes.get(map.offset..)?.get(..3 * 256 * 2)?;
        let value = |i: usize| directory.order.short([table[2 * i], table[2 * i + 1]]);
        // The standard says 16 bits; some programs write 8 bits.
        let shift = if (0..3 * 256).all(|i| value(i) < 256) { 0 } else { 8 };
        let color = |i: usize| [0, 1, 2].map(|c| (value(c * 256 + i) >> shift) as u8);
        let mut gray_file = bytes.to_vec();
        gray_file[kind.value_at..kind.value_at + 2].copy_from_slice(&directory.order.bytes(BLACK_IS_ZERO));
        Some(Palette { colors: std::array::from_fn(color), gray_file })
    }

    /// The picture with the colors at `indices`.
    pub fn apply(&self, indices: &GrayImage) -> RgbImage {
        let mut image = RgbImage::new(indices.width(), indices.height());
        for (pixel, &index) in image.as_chunks_mut::<3>().0.iter_mut().zip(indices.as_raw()) {
            *pixel = self.colors[usize::from(index)];
        }
        image
    }
}

#[derive(Clone, Copy, PartialEq)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn short(self, bytes: [u8; 2]) -> u16 {
        if self == ByteOrder::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    fn long(self, bytes: [u8; 4]) -> u32 {
        if self == ByteOrder::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    fn bytes(self, value: u16) -> [u8; 2] {
        if self == ByteOrder::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

/// Directory of the first picture of a file: entries of twelve bytes, one for each tag.
struct Directory<'a> {
    order: ByteOrder,
    entries: &'a [[u8; 12]],
    /// Position of the entries in the file.
    start: usize,
}

/// An entry of the directory.
struct TiffTag {
    /// Number of values.
    count: u32,
    /// The value, for tags with one SHORT.
    short: u16,
    /// Position of the values in the file, for tags with more than four bytes.
    offset: usize,
    /// Position of the value field of this entry in the file.
    value_at: usize,
}

impl<'a> Directory<'a> {
    fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let order = match bytes.get(..4)? {
            b"II*\0" => ByteOrder::Little,
            b"MM\0*" => ByteOrder::Big,
            _ => return None,
        };
        let at = order.long(*bytes.get(4..)?.first_chunk()?) as usize;
        let count = usize::from(order.short(*bytes.get(at..)?.first_chunk()?));
        let start = at + 2;
        Some(Directory { order, entries: bytes.get(start..)?.get(..count * 12)?.as_chunks().0, start })
    }

    fn find(&self, tag: u16) -> Option<TiffTag> {
        let index = self.entries.iter().position(|e| self.order.short([e[0], e[1]]) == tag)?;
        let &[_, _, _, _, c0, c1, c2, c3, v0, v1, v2, v3] = &self.entries[index];
        Some(TiffTag {
            count: self.order.long([c0, c1, c2, c3]),
            short: self.order.short([v0, v1]),
            offset: self.order.long([v0, v1, v2, v3]) as usize,
            value_at: self.start + index * 12 + 8,
        })
    }
}
