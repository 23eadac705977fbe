//! Marker codes of ITU T.81, table B.1, and the cursor that reads marker segments.

use crate::error::JpegError;

pub(crate) const SOF0: u8 = 0xC0;
pub(crate) const SOF2: u8 = 0xC2;
pub(crate) const DHT: u8 = 0xC4;
pub(crate) const JPG: u8 = 0xC8;
pub(crate) const DAC: u8 = 0xCC;
pub(crate) const RST0: u8 = 0xD0;
pub(crate) const RST7: u8 = 0xD7;
pub(crate) const SOI: u8 = 0xD8;
pub(crate) const EOI: u8 = 0xD9;
pub(crate) const SOS: u8 = 0xDA;
pub(crate) const DQT: u8 = 0xDB;
pub(crate) const DNL: u8 = 0xDC;
pub(crate) const DRI: u8 = 0xDD;
pub(crate) const APP0: u8 = 0xE0;
pub(crate) const APP14: u8 = 0xEE;
pub(crate) const APP15: u8 = 0xEF;
pub(crate) const COM: u8 = 0xFE;
pub(crate) const TEM: u8 = 0x01;

/// A marker segment before the first scan, for example EXIF (`FF E1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerSegment<'a> {
    /// Second byte of the marker: E0 to EF for APP0 to APP15, FE for a comment.
    pub marker: u8,
    /// The content after the length.
    pub data: &'a [u8],
}

/// A position in a file, for reading markers and segments.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    /// The next marker code. Bytes before it are skipped, as libjpeg does with a warning; `None` at the end of the
    /// data.
    pub(crate) fn next_marker(&mut self) -> Option<u8> {
        loop {
            self.at += first_ff(self.bytes.get(self.at..)?)?;
            let run = self.bytes[self.at..].iter().position(|&b| b != 0xFF)?;
            let code = self.bytes[self.at + run];
            self.at += run + 1;
            if code != 0 {
                return Some(code);
            }
        }
    }

    /// The content of the segment that starts here with its length; the cursor moves behind it.
    pub(crate) fn segment(&mut self) -> Result<&'a [u8], JpegError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk().ok_or(JpegError::HeaderCutOff)?));
        // libjpeg takes lengths of 0 and 1 for an empty segment where it skips the content.
        let end = length.max(2);
        let content = rest.get(2..end).ok_or(JpegError::HeaderCutOff)?;
        self.at += end;
        Ok(content)
    }
}

/// Offset of the first FF, looked for in blocks that are compared in vectors.
pub(crate) fn first_ff(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 64;
    let clean = |block: &&[u8]| block.iter().fold(0, |largest, &b| largest.max(b)) < 0xFF;
    let start = bytes.chunks_exact(BLOCK).take_while(clean).count() * BLOCK;
    Some(start + bytes[start..].iter().position(|&b| b == 0xFF)?)
}

/// The number of scans in `bytes` from `at`, which is counted to `limit` + 1 at most.
pub(crate) fn count_scans(bytes: &[u8], at: usize, limit: usize) -> usize {
    let mut cursor = Cursor::new(bytes, at);
    let mut scans = 0;
    while scans <= limit {
        match cursor.next_marker() {
            None | Some(EOI) => break,
            Some(TEM | SOI | RST0..=RST7) => continue,
            Some(marker) => {
                scans += usize::from(marker == SOS);
                if cursor.segment().is_err() {
                    break;
                }
            }
        }
    }
    scans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_behind_fill_bytes_and_garbage() {
        let bytes = [1, 2, 0xFF, 0, 3, 0xFF, 0xFF, 0xFF, 0xC4, 0, 4, 7, 8, 0xFF, 0xD9];
        let mut cursor = Cursor::new(&bytes, 0);
        assert_eq!(cursor.next_marker(), Some(DHT));
        assert_eq!(cursor.segment().unwrap(), &[7, 8]);
        assert_eq!(cursor.next_marker(), Some(EOI));
        assert_eq!(cursor.next_marker(), None);
    }

    #[test]
    fn the_first_ff_is_found_at_every_offset() {
        for offset in 0..200 {
            let mut bytes = vec![0xFE; 200];
            bytes[offset] = 0xFF;
            assert_eq!(first_ff(&bytes), Some(offset));
        }
        assert_eq!(first_ff(&[0; 100]), None);
    }
}
