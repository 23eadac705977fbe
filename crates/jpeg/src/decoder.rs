//! The decoder: reads a file and returns rows of RGB, or planes.

use std::ops::Range;

use crate::bits::BitReader;
use crate::coefficients::Coefficients;
use crate::error::JpegError;
use crate::header::{self, Header, Preamble, read_table_segment, stands_alone};
use crate::marker::{Cursor, EOI, MarkerSegment, SOS, count_scans};
use crate::planes::Planes;
use crate::progressive;
use crate::restart::RestartPlan;
use crate::samples::transform_row;
use crate::scan::{ScanHeader, ScanLayout};
use crate::sequential::{Entropy, SequentialScan};
use crate::smoothing::Smoothing;
use crate::tables::Tables;

/// Rows of samples above an MCU row that are kept: the rows that are not yet converted (4 at most) and their upper
/// neighbors.
const ROWS_KEPT: usize = 8;

/// Damage of a file that was decoded nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Data is missing: the file was cut off, or a part of it is lost. The pixels without data are gray in sequential
    /// files, and less detailed in progressive ones.
    pub truncated: bool,
    /// Codes or markers break the rules; pixels may be wrong.
    pub corrupt: bool,
}

impl Damage {
    /// True if the file has no damage.
    pub fn is_none(self) -> bool {
        self == Damage::default()
    }
}

/// A JPEG file whose header was read.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    preamble: Preamble,
}

impl<'a> Decoder<'a> {
    /// Reads the header, up to the first scan. Nothing of the picture's size is allocated before a call of a
    /// `decode` function.
    ///
    /// Errs if the file is not JPEG, is damaged before the first scan, or uses a process that is not supported.
    pub fn new(bytes: &'a [u8]) -> Result<Decoder<'a>, JpegError> {
        Ok(Decoder { bytes, preamble: Preamble::read(bytes)? })
    }

    /// The header of the file.
    pub fn header(&self) -> &Header {
        &self.preamble.header
    }

    /// The metadata segments (APP0 to APP15 and comments) before the first scan, in the order of the file.
    pub fn segments(&self) -> impl Iterator<Item = MarkerSegment<'a>> + use<'a> {
        header::segments(self.bytes)
    }

    /// Decodes the picture to RGB, row after row without gaps.
    ///
    /// # Panics
    ///
    /// When `out` does not have width * height * 3 bytes.
    pub fn decode_rgb(&self, out: &mut [u8]) -> Result<Damage, JpegError> {
        let row = self.header().width as usize * 3;
        assert_eq!(out.len(), row * self.header().height as usize, "size of the output");
        let mut work = None;
        let mut rest = out;
        let emit = &mut |planes: &Planes, y: Range<usize>| {
            let work = work.get_or_insert_with(|| planes.row_work());
            let (now, later) = std::mem::take(&mut rest).split_at_mut(y.len() * row);
            rest = later;
            planes.rgb_rows(y, 0..planes.width(), work, now);
        };
        Ok(self.decode(false, emit)?.1)
    }

    /// Decodes the picture and gives its rows to `rows` in order, some at a time: the numbers of the rows, and their
    /// RGB.
    ///
    /// Keeps no more of the picture than some rows, except for progressive files and others of several scans.
    pub fn decode_rows(&self, rows: impl FnMut(Range<usize>, &[u8])) -> Result<Damage, JpegError> {
        Ok(self.decode(false, &mut converted(rows))?.1)
    }

    /// As [`decode_rows`](Self::decode_rows), and keeps the planes, of which any part can be converted later.
    pub fn decode_planes_and_rows(&self, rows: impl FnMut(Range<usize>, &[u8])) -> Result<(Planes, Damage), JpegError> {
        self.decode(true, &mut converted(rows))
    }

    /// Decodes the picture to planes.
    pub fn decode_planes(&self) -> Result<(Planes, Damage), JpegError> {
        self.decode(true, &mut |_, _| ())
    }

    /// Gives `emit` the planes and the rows of pixels that can be converted, in order.
    fn decode(&self, keep: bool, emit: &mut dyn FnMut(&Planes, Range<usize>)) -> Result<(Planes, Damage), JpegError> {
        let header = self.header();
        let layout = ScanLayout::new(header);
        let mut cursor = Cursor::new(self.bytes, self.preamble.scan_at);
        let scan = ScanHeader::read(cursor.segment()?, header)?;
        let mut tables = self.preamble.tables.clone();
        if !header.progressive {
            tables.add_standard_huffman();
        }
        let mut damage = Damage { corrupt: self.preamble.unusual, ..Damage::default() };
        if header.progressive || scan.components.len() < header.components.len() {
            let coefficients = self.decode_scans(scan, cursor, tables, &layout, &mut damage)?;
            let mut progress = Progress::new(header, &layout, keep);
            let smoothing = if header.progressive { Smoothing::of(&coefficients) } else { None };
            for row in 0..layout.mcus_down {
                progress.start_row(row);
                let planes = progress.planes.components_mut();
                transform_row(&coefficients, row, &layout, smoothing.as_ref(), planes);
                progress.rows.finish(row + 1, &progress.planes, emit);
            }
            return Ok((progress.planes, damage));
        }
        let scan = SequentialScan::new(&scan, header, &tables, &layout)?;
        let plan = RestartPlan::new(self.bytes, cursor.at, tables.restart_interval, &layout);
        let mut progress = Progress::new(header, &layout, keep || plan.is_some());
        let (first_row, mut entropy) = match &plan {
            None => (0, Entropy::new(BitReader::new(self.bytes, cursor.at), tables.restart_interval)),
            Some(plan) => {
                let Progress { planes, rows, .. } = &mut progress;
                let rest =
                    plan.decode(self.bytes, &scan, &layout, planes, |planes, end| rows.finish(end, planes, emit));
                match rest {
                    None => return Ok((progress.planes, damage)),
                    Some(rest) => rest,
                }
            }
        };
        for row in first_row..layout.mcus_down {
            progress.start_row(row);
            scan.decode_row(&mut entropy, &mut progress.bands(row));
            progress.rows.finish(row + 1, &progress.planes, emit);
        }
        damage.truncated |= entropy.truncated;
        damage.corrupt |= entropy.reader.source.corrupt;
        Ok((progress.planes, damage))
    }

    /// Decodes all scans of a file of several; `cursor` is behind the header of the first one.
    fn decode_scans(
        &self,
        mut scan: ScanHeader,
        mut cursor: Cursor<'a>,
        mut tables: Tables,
        layout: &ScanLayout,
        damage: &mut Damage,
    ) -> Result<Coefficients, JpegError> {
        let header = self.header();
        let limit = max_scans(header.progressive, header.pixels());
        if count_scans(self.bytes, cursor.at, limit) >= limit {
            return Err(JpegError::TooManyScans { limit });
        }
        let mut coefficients = Coefficients::new(layout);
        let mut ended = false;
        loop {
            if header.progressive {
                scan.check_progression()?;
            }
            coefficients.latch_quant(&scan, header, &tables)?;
            damage.corrupt |= header.progressive && !coefficients.note_scan(&scan);
            let mut entropy = Entropy::new(BitReader::new(self.bytes, cursor.at), tables.restart_interval);
            progressive::decode_scan(&mut coefficients, &scan, layout, &tables, header.progressive, &mut entropy)?;
            damage.truncated |= entropy.truncated;
            damage.corrupt |= entropy.reader.source.corrupt;
            let (mut marker, at) = entropy.reader.finish();
            cursor.at = at;
            // Up to the next scan.
            loop {
                match marker {
                    None => ended = true,
                    Some(marker) if stands_alone(marker) => {}
                    Some(EOI) => {}
                    Some(marker) => match cursor.segment() {
                        Err(_) => ended = true,
                        Ok(data) if marker == SOS => {
                            scan = ScanHeader::read(data, header)?;
                            break;
                        }
                        Ok(data) => read_table_segment(marker, data, &mut tables)?,
                    },
                }
                if ended || marker == Some(EOI) {
                    damage.truncated |= ended && header.progressive && !coefficients.is_complete();
                    damage.truncated |= ended && coefficients.components.iter().any(|c| c.quant.is_none());
                    return Ok(coefficients);
                }
                marker = cursor.next_marker();
            }
        }
    }
}

/// A receiver of planes that converts rows to RGB for `rows`.
fn converted(mut rows: impl FnMut(Range<usize>, &[u8])) -> impl FnMut(&Planes, Range<usize>) {
    let mut work = None;
    let mut rgb = vec![];
    move |planes, y| {
        let work = work.get_or_insert_with(|| planes.row_work());
        rgb.resize(y.len() * planes.width() * 3, 0);
        planes.rgb_rows(y.clone(), 0..planes.width(), work, &mut rgb);
        rows(y, &rgb);
    }
}

/// Planes that are filled by rows of MCUs.
struct Progress<'h> {
    planes: Planes,
    layout: &'h ScanLayout,
    /// The planes hold all of the picture.
    keep: bool,
    rows: RowsReady,
}

impl<'h> Progress<'h> {
    fn new(header: &Header, layout: &'h ScanLayout, keep: bool) -> Progress<'h> {
        let max_v = header.max_sampling().1;
        let planes = match keep {
            true => Planes::new(header, layout.mcus_across, layout.mcus_down, 0),
            false => Planes::new(header, layout.mcus_across, 1, ROWS_KEPT),
        };
        let delay = if planes.needs_neighbors() { max_v } else { 0 };
        let rows = RowsReady { mcus_down: layout.mcus_down, mcu_height: 8 * max_v, delay, emitted: 0 };
        Progress { planes, layout, keep, rows }
    }

    /// Makes room for MCU row `row`.
    fn start_row(&mut self, row: usize) {
        if !self.keep {
            let components = &self.layout.components;
            self.planes.slide(|c| (row * components[c].v * 8).saturating_sub(ROWS_KEPT));
        }
    }

    /// The rows of each plane that belong to MCU row `row`.
    fn bands(&mut self, row: usize) -> Vec<&mut [u8]> {
        let components = self.planes.components_mut().iter_mut().zip(&self.layout.components);
        components.map(|(plane, at)| plane.rows_mut(row * at.v * 8, at.v * 8)).collect()
    }
}

/// The rows of pixels that can be converted.
struct RowsReady {
    mcus_down: usize,
    /// Pixel rows in an MCU.
    mcu_height: usize,
    /// Rows at the end of the last MCU row that wait for the next one.
    delay: usize,
    emitted: usize,
}

impl RowsReady {
    /// Gives out the rows of pixels that are complete with the first `mcu_rows` MCU rows.
    fn finish(&mut self, mcu_rows: usize, planes: &Planes, emit: &mut dyn FnMut(&Planes, Range<usize>)) {
        let ready = match mcu_rows == self.mcus_down {
            true => planes.height(),
            false => (mcu_rows * self.mcu_height - self.delay).min(planes.height()),
        };
        while self.emitted < ready {
            let end = (self.emitted + self.mcu_height).min(ready);
            emit(planes, self.emitted..end);
            self.emitted = end;
        }
    }
}

/// Maximum number of scans that is reasonable for a picture.
///
/// The number of scans of a progressive file is not bounded, and a scan of a few bytes takes as long as a scan of all
/// pixels: without a limit, a small file keeps a processor busy for minutes. Encoders write about 10 scans,
/// size-optimizing encoders up to 20. 20 scans are always read; up to 100 are read as long as pixels times scans is at
/// most 10^9. Sequential files have at most one scan for each component.
pub fn max_scans(progressive: bool, pixels: u64) -> usize {
    const MAX_SCANNED_PIXELS: u64 = 1_000_000_000;
    match progressive {
        true => (MAX_SCANNED_PIXELS / pixels.max(1)).clamp(20, 100) as usize,
        false => 4,
    }
}
