//! Reading bits of an entropy-coded segment.
//!
//! Data ends at the first marker or at the end of the file. Reads beyond this give zero bits, as in libjpeg, and
//! [`BitReader::is_exhausted`] tells that it happened.

use crate::marker::{Cursor, EOI, RST0, RST7, SOF0};

/// What changes with every symbol; a copy is kept in registers while a block is decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BitWindow {
    /// The next bits, the first at the top.
    pub(crate) buffer: u64,
    /// Number of bits in `buffer` that are part of the data or of the padding.
    pub(crate) count: u32,
    /// Offset of the next byte; the end of the file once a marker was met.
    at: usize,
}

impl BitWindow {
    /// Guarantees 56 bits or more. Called when fewer than the next symbol's maximum are left.
    #[inline(always)]
    pub(crate) fn refill(&mut self, source: &mut Source<'_>) {
        if let Some(bytes) = source.bytes.get(self.at..).and_then(|b| b.first_chunk::<8>()) {
            let next = u64::from_be_bytes(*bytes);
            const ONES: u64 = 0x0101_0101_0101_0101;
            const TOPS: u64 = 0x8080_8080_8080_8080;
            // No byte is FF. A byte of 00 in the inverted word borrows and shows its top bit.
            if (!next).wrapping_sub(ONES) & next & TOPS == 0 {
                // Bits beyond `count` are the same bits that the next refill sets again.
                self.buffer |= next >> self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
                return;
            }
        }
        *self = source.refill_near_ff(*self);
    }

    #[inline(always)]
    pub(crate) fn drop(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The next 32 bits.
    #[inline(always)]
    pub(crate) fn window(&self) -> u32 {
        (self.buffer >> 32) as u32
    }

    /// Takes `bits` bits, 0 to 16.
    #[inline(always)]
    pub(crate) fn take(&mut self, bits: u32) -> u32 {
        let value = (self.buffer >> 1 >> (63 - bits)) as u32;
        self.drop(bits);
        value
    }
}

/// The data and what is known about its end.
#[derive(Clone, Debug)]
pub(crate) struct Source<'a> {
    bytes: &'a [u8],
    /// The marker at which reading stopped and which nobody has handled.
    unread: Option<u8>,
    /// Offset behind `unread`.
    behind_unread: usize,
    /// Zero bits that were put behind the data.
    padding: u32,
    /// The file ended without a marker.
    pub(crate) ended: bool,
    /// A code that is in no table, a value out of range or a marker out of order was met.
    pub(crate) corrupt: bool,
}

impl Source<'_> {
    /// Byte by byte: at FF and near the end of the data.
    #[cold]
    #[inline(never)]
    fn refill_near_ff(&mut self, mut window: BitWindow) -> BitWindow {
        window.buffer &= !(u64::MAX >> window.count);
        while window.count < 56 {
            let byte = if self.unread.is_some() { None } else { self.next_byte(&mut window.at) };
            let Some(byte) = byte else {
                self.padding += 56 - window.count;
                window.count = 56;
                break;
            };
            window.buffer |= u64::from(byte) << (56 - window.count);
            window.count += 8;
        }
        window
    }

    fn next_byte(&mut self, at: &mut usize) -> Option<u8> {
        match self.bytes.get(*at) {
            Some(0xFF) => {
                let run = self.bytes[*at..].iter().position(|&b| b != 0xFF);
                match run.map(|run| (self.bytes[*at + run], run)) {
                    Some((0, run)) => {
                        // More than one FF before 00 is not allowed; libjpeg's slow path reads them as one.
                        self.corrupt |= run > 1;
                        *at += run + 1;
                        return Some(0xFF);
                    }
                    Some((marker, run)) => {
                        self.stop(marker, *at + run + 1);
                        *at = self.bytes.len();
                    }
                    None => self.end(at),
                }
            }
            Some(&byte) => {
                *at += 1;
                return Some(byte);
            }
            None => self.end(at),
        }
        None
    }

    fn end(&mut self, at: &mut usize) {
        *at = self.bytes.len();
        self.ended = true;
        self.stop(EOI, *at);
    }

    fn stop(&mut self, marker: u8, behind: usize) {
        self.unread = Some(marker);
        self.behind_unread = behind;
    }
}

/// Bits of one scan.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    pub(crate) window: BitWindow,
    pub(crate) source: Source<'a>,
    next_restart: u8,
}

impl<'a> BitReader<'a> {
    /// Reads from `bytes[at..]`.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        BitReader {
            window: BitWindow { buffer: 0, count: 0, at },
            source: Source { bytes, unread: None, behind_unread: at, padding: 0, ended: false, corrupt: false },
            next_restart: 0,
        }
    }

    /// A reader whose next restart marker is RST`next_restart`.
    pub(crate) fn at_restart(bytes: &'a [u8], at: usize, next_restart: u8) -> Self {
        BitReader { next_restart, ..BitReader::new(bytes, at) }
    }

    /// Whether bits were used that the data does not have.
    #[inline(always)]
    pub(crate) fn is_exhausted(&self) -> bool {
        self.source.padding > self.window.count
    }

    /// Whether no data can follow in this scan: reading stopped at a marker that is no restart marker.
    pub(crate) fn is_at_end_of_scan(&self) -> bool {
        self.source.unread.is_some_and(|m| m >= SOF0 && !(RST0..=RST7).contains(&m))
    }

    /// Moves behind the next restart marker. `false` if the marker is not the expected one and is kept for a later
    /// interval, so that this interval has no data. The rules are those of libjpeg's `jpeg_resync_to_restart`.
    pub(crate) fn restart(&mut self) -> bool {
        self.window.buffer = 0;
        self.window.count = 0;
        self.source.padding = 0;
        let expected = self.next_restart;
        self.next_restart = (expected + 1) & 7;
        let mut marker = match self.source.unread {
            Some(marker) => marker,
            None => self.next_marker(),
        };
        if marker == RST0 + expected {
            self.pass_marker();
            return true;
        }
        self.source.corrupt = true;
        loop {
            let ahead = marker.wrapping_sub(RST0).wrapping_sub(expected) & 7;
            match marker {
                ..SOF0 => marker = self.next_marker(),
                RST0..=RST7 => match ahead {
                    // One of the next two: this interval is lost.
                    1 | 2 => return false,
                    // One of the last two: its interval is skipped.
                    6 | 7 => marker = self.next_marker(),
                    _ => {
                        self.pass_marker();
                        return true;
                    }
                },
                _ => return false,
            }
        }
    }

    /// Continues behind the unread marker.
    fn pass_marker(&mut self) {
        self.source.unread = None;
        self.window.at = self.source.behind_unread;
    }

    /// Looks for the marker after the data, or after the unread marker.
    fn next_marker(&mut self) -> u8 {
        let at = if self.source.unread.is_some() { self.source.behind_unread } else { self.window.at };
        let mut cursor = Cursor::new(self.source.bytes, at);
        let found = cursor.next_marker();
        self.window.at = self.source.bytes.len();
        match found {
            Some(marker) => self.source.stop(marker, cursor.at),
            None => self.source.end(&mut self.window.at),
        }
        found.unwrap_or(EOI)
    }

    /// Ends the scan: the marker that follows it (`None` at the end of the file) and the offset behind that marker.
    pub(crate) fn finish(mut self) -> (Option<u8>, usize) {
        let marker = match self.source.unread {
            Some(marker) => marker,
            None => self.next_marker(),
        };
        (if self.source.ended { None } else { Some(marker) }, self.source.behind_unread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bits up to the first marker, in steps of `step`.
    fn read(bytes: &[u8], step: u32, total: u32) -> (Vec<u32>, BitReader<'_>) {
        let mut reader = BitReader::new(bytes, 0);
        let mut values = vec![];
        for _ in 0..total / step {
            if reader.window.count < step {
                reader.window.refill(&mut reader.source);
            }
            values.push(reader.window.take(step));
        }
        (values, reader)
    }

    #[test]
    fn stuffed_bytes_are_read_as_ff() {
        let mut bytes: Vec<u8> = vec![0xFF, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF, 0, 0xFF, 0, 10, 0xFF, 0xFF, 0, 11];
        bytes.extend(20..60);
        bytes.extend([0xFF, 0xD9]);
        let plain: Vec<u32> =
            [0xFF, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF, 0xFF, 10, 0xFF, 11].into_iter().chain(20..60).collect();
        let bits = plain.len() as u32 * 8;
        let (bytewise, reader) = read(&bytes, 8, bits);
        assert_eq!(bytewise, plain);
        assert!(!reader.is_exhausted());
        assert_eq!(reader.finish(), (Some(EOI), bytes.len()));
        let (bitwise, _) = read(&bytes, 1, bits);
        let joined: Vec<u32> = bitwise.chunks(8).map(|b| b.iter().fold(0, |v, bit| v << 1 | bit)).collect();
        assert_eq!(joined, plain);
    }

    #[test]
    fn zero_bits_follow_the_data() {
        let (values, reader) = read(&[0xAB, 0xFF, 0xD9], 8, 16);
        assert_eq!(values, [0xAB, 0]);
        assert!(reader.is_exhausted());
        let (values, reader) = read(&[0xAB], 4, 8);
        assert_eq!(values, [0xA, 0xB]);
        assert!(!reader.is_exhausted() && reader.source.ended);
        assert_eq!(reader.finish(), (None, 1));
    }

    #[test]
    fn restart_markers_are_resynchronized() {
        let at = |bytes: &[u8]| {
            let mut reader = BitReader::new(bytes, 0);
            let found = reader.restart();
            (found, reader.source.unread)
        };
        assert_eq!(at(&[5, 0xFF, RST0, 1]), (true, None));
        // The next one but one is kept; the last one is passed over; one far away is taken.
        assert_eq!(at(&[0xFF, RST0 + 2, 1]), (false, Some(RST0 + 2)));
        assert_eq!(at(&[0xFF, RST7, 1, 0xFF, RST0, 1]), (true, None));
        assert_eq!(at(&[0xFF, RST0 + 4, 1]), (true, None));
        assert_eq!(at(&[0xFF, 0x02, 0xFF, EOI]), (false, Some(EOI)));
        assert_eq!(at(&[1, 2, 3]), (false, Some(EOI)));
    }
}
