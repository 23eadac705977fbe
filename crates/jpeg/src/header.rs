//! The frame header and the color space: what is known before the first scan is decoded.

use crate::error::{JpegError, MAX_SIDE};
use crate::marker::*;
use crate::tables::Tables;

/// Color space of the components, found by libjpeg's rules: a JFIF marker, then an Adobe marker, then component
/// identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorSpace {
    /// One component.
    Gray,
    /// Luma and two chroma components (ITU-R BT.601, full range).
    YCbCr,
    /// Red, green, blue.
    Rgb,
    /// Four inks. Files of Adobe programs store them inverted (255 is no ink).
    Cmyk,
    /// Inks as YCbCr, and black.
    Ycck,
}

/// A component of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Identifier in the file.
    pub id: u8,
    /// Horizontal sampling factor, 1 to 4; 1 where it is the only component.
    pub horizontal: u8,
    /// Vertical sampling factor, 1 to 4; 1 where it is the only component.
    pub vertical: u8,
    pub(crate) quant_slot: u8,
    /// Vertical sampling factor in the file, also where it is the only component.
    pub(crate) vertical_in_file: u8,
}

/// What the segments before the first scan say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// 1, 3 or 4 components.
    pub components: Vec<Component>,
    /// Color space of the components.
    pub color: ColorSpace,
    /// Progressive coding; otherwise sequential (baseline or extended).
    pub progressive: bool,
    /// The Adobe marker is present: CMYK samples are inverted.
    pub adobe: bool,
}

impl Header {
    /// Largest horizontal and vertical sampling factors.
    pub(crate) fn max_sampling(&self) -> (usize, usize) {
        let largest = |f: fn(&Component) -> u8| self.components.iter().map(f).max().unwrap_or(1).into();
        (largest(|c| c.horizontal), largest(|c| c.vertical))
    }

    /// Pixels of the picture.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// The start of a file up to its first scan.
#[derive(Clone, Debug)]
pub(crate) struct Preamble {
    pub(crate) header: Header,
    pub(crate) tables: Tables,
    /// Offset of the first scan's segment, behind its marker.
    pub(crate) scan_at: usize,
    /// A marker has a value that libjpeg warns of.
    pub(crate) unusual: bool,
}

/// Applies a segment that defines tables or means nothing to the decoder.
///
/// Errs on markers that may not occur here.
pub(crate) fn read_table_segment(marker: u8, data: &[u8], tables: &mut Tables) -> Result<(), JpegError> {
    match marker {
        DQT => tables.read_quant(data),
        DHT => tables.read_huffman(data),
        DRI => tables.read_restart_interval(data),
        APP0..=APP15 | COM | DNL | DAC => Ok(()),
        SOF0..=0xCF => Err(JpegError::damaged("second frame header")),
        _ => Err(JpegError::damaged("unknown marker")),
    }
}

/// Whether a marker has no segment.
pub(crate) fn stands_alone(marker: u8) -> bool {
    matches!(marker, TEM | RST0..=RST7)
}

impl Preamble {
    pub(crate) fn read(bytes: &[u8]) -> Result<Preamble, JpegError> {
        if !bytes.starts_with(&[0xFF, SOI]) {
            return Err(JpegError::NotJpeg);
        }
        let mut cursor = Cursor::new(bytes, 2);
        let mut tables = Tables::default();
        let mut frame: Option<Header> = None;
        let mut jfif = false;
        let mut adobe = None;
        loop {
            let marker = cursor.next_marker().ok_or(JpegError::HeaderCutOff)?;
            match marker {
                _ if stands_alone(marker) => {}
                EOI => return Err(JpegError::NoPicture),
                SOI => return Err(JpegError::damaged("second start of image")),
                SOS => break,
                SOF0..=SOF2 => {
                    let data = cursor.segment()?;
                    if frame.is_some() {
                        return Err(JpegError::damaged("second frame header"));
                    }
                    frame = Some(read_frame(data, marker == SOF2)?);
                }
                0xC3 | 0xC5..=0xCB | 0xCD..=0xCF => {
                    return Err(JpegError::Process { process: process_name(marker) });
                }
                _ => {
                    let data = cursor.segment()?;
                    match marker {
                        APP0 => jfif |= data.len() >= 14 && data.starts_with(b"JFIF\0"),
                        APP14 if data.len() >= 12 && data.starts_with(b"Adobe") => adobe = Some(data[11]),
                        _ => {}
                    }
                    read_table_segment(marker, data, &mut tables)?;
                }
            }
        }
        let mut header = frame.ok_or(JpegError::damaged("scan without a frame header"))?;
        let (color, unusual) = color_space(&header.components, jfif, adobe)?;
        header.color = color;
        header.adobe = adobe.is_some();
        Ok(Preamble { header, tables, scan_at: cursor.at, unusual })
    }
}

fn process_name(marker: u8) -> &'static str {
    match marker {
        0xC3 => "lossless",
        0xC5..=0xC7 => "hierarchical",
        0xC9 | 0xCA => "arithmetic-coded",
        0xCB => "lossless arithmetic-coded",
        JPG => "extended (JPG)",
        _ => "hierarchical arithmetic-coded",
    }
}

/// SOF0, SOF1, SOF2 (T.81, B.2.2). The color space is set later.
fn read_frame(data: &[u8], progressive: bool) -> Result<Header, JpegError> {
    const BAD: JpegError = JpegError::Damaged { problem: "bad frame header" };
    let (head, components) = data.split_first_chunk::<6>().ok_or(BAD)?;
    let [bits, h1, h0, w1, w0, count] = *head;
    let (width, height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
    if width == 0 || height == 0 {
        return Err(JpegError::Empty { width, height });
    }
    if components.len() != usize::from(count) * 3 {
        return Err(BAD);
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(JpegError::SideTooLong { width, height });
    }
    if bits != 8 {
        return Err(JpegError::Precision { bits });
    }
    if !matches!(count, 1 | 3 | 4) {
        return Err(JpegError::Components { components: count });
    }
    let mut components: Vec<Component> = components
        .as_chunks::<3>()
        .0
        .iter()
        .map(|&[id, sampling, quant_slot]| Component {
            id,
            horizontal: sampling >> 4,
            vertical: sampling & 15,
            quant_slot,
            vertical_in_file: sampling & 15,
        })
        .collect();
    if components.iter().any(|c| !(1..=4).contains(&c.horizontal) || !(1..=4).contains(&c.vertical)) {
        return Err(JpegError::damaged("bad sampling factor"));
    }
    if let [only] = components.as_mut_slice() {
        // A scan of one component is not interleaved: its factors mean nothing.
        (only.horizontal, only.vertical) = (1, 1);
    }
    let header = Header { width, height, components, color: ColorSpace::Gray, progressive, adobe: false };
    let (h, v) = header.max_sampling();
    for c in &header.components {
        for (factor, largest) in [(c.horizontal, h as u8), (c.vertical, v as u8)] {
            if largest % factor != 0 {
                return Err(JpegError::FractionalSampling { factor, largest });
            }
        }
    }
    Ok(header)
}

/// The color space, and whether the Adobe marker names none for this number of components.
fn color_space(components: &[Component], jfif: bool, adobe: Option<u8>) -> Result<(ColorSpace, bool), JpegError> {
    Ok(match (components.len(), jfif, adobe) {
        (1, ..) => (ColorSpace::Gray, false),
        (3, true, _) => (ColorSpace::YCbCr, false),
        (3, false, Some(0)) => (ColorSpace::Rgb, false),
        (3, false, Some(transform)) => (ColorSpace::YCbCr, transform != 1),
        (3, false, None) => match [components[0].id, components[1].id, components[2].id] {
            [b'R', b'G', b'B'] => (ColorSpace::Rgb, false),
            _ => (ColorSpace::YCbCr, false),
        },
        (4, _, None | Some(0)) => (ColorSpace::Cmyk, false),
        (4, _, Some(transform)) => (ColorSpace::Ycck, transform != 2),
        (count, ..) => return Err(JpegError::Components { components: count as u8 }),
    })
}

/// The segments that carry metadata (APP0 to APP15 and comments) before the first scan, in the order of the file.
pub(crate) fn segments(bytes: &[u8]) -> impl Iterator<Item = MarkerSegment<'_>> {
    let mut cursor = Cursor::new(bytes, 2);
    std::iter::from_fn(move || {
        loop {
            let marker = cursor.next_marker()?;
            match marker {
                _ if stands_alone(marker) => {}
                SOI | EOI | SOS => return None,
                _ => {
                    let data = cursor.segment().ok()?;
                    if matches!(marker, APP0..=APP15 | COM) {
                        return Some(MarkerSegment { marker, data });
                    }
                }
            }
        }
    })
}
