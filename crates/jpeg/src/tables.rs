//! Quantization and Huffman tables as segments define them, and the standard Huffman tables.

use crate::error::JpegError;
use crate::huffman::{HuffmanSpec, HuffmanTable, TableClass};

/// Position in an 8x8 block of the coefficient at each place of the zigzag order (T.81, figure A.6). The entries after
/// 64 are for runs that lead out of a damaged block: libjpeg stores such coefficients at the last position.
#[rustfmt::skip]
pub(crate) const ZIGZAG: [u8; 128] = {
    const ORDER: [u8; 64] = [
         0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
        12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
        35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
        58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    ];
    let mut zigzag = [63; 128];
    let mut i = 0;
    while i < 64 {
        zigzag[i] = ORDER[i];
        i += 1;
    }
    zigzag
};

/// Quantization factors in the order of rows. They are kept in 16 bits and multiplied in 16 bits, as libjpeg-turbo
/// does it in vectors.
pub(crate) type QuantTable = [i16; 64];

/// All tables that segments have defined so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) quant: [Option<Box<QuantTable>>; 4],
    dc: [Option<HuffmanSpec>; 4],
    ac: [Option<HuffmanSpec>; 4],
    /// MCUs between restart markers; 0 without restart markers.
    pub(crate) restart_interval: usize,
}

impl Tables {
    /// DQT (T.81, B.2.4.1).
    pub(crate) fn read_quant(&mut self, mut data: &[u8]) -> Result<(), JpegError> {
        const BAD: JpegError = JpegError::Damaged { problem: "bad quantization table" };
        while let Some((&head, rest)) = data.split_first() {
            let bytes = if head >> 4 == 0 { 64 } else { 128 };
            let (values, rest) = rest.split_at_checked(bytes).ok_or(BAD)?;
            let slot = self.quant.get_mut(usize::from(head & 15)).ok_or(BAD)?;
            let mut table = Box::new([0; 64]);
            for (i, &position) in ZIGZAG[..64].iter().enumerate() {
                table[usize::from(position)] = match bytes {
                    64 => i16::from(values[i]),
                    _ => i16::from_be_bytes([values[2 * i], values[2 * i + 1]]),
                };
            }
            *slot = Some(table);
            data = rest;
        }
        Ok(())
    }

    /// DHT (T.81, B.2.4.2).
    pub(crate) fn read_huffman(&mut self, mut data: &[u8]) -> Result<(), JpegError> {
        const BAD: JpegError = JpegError::Damaged { problem: "bad Huffman table" };
        while let Some((&head, rest)) = data.split_first() {
            let counts: &[u8; 16] = rest.first_chunk().ok_or(BAD)?;
            let total = counts.iter().map(|&c| usize::from(c)).sum();
            let symbols = rest[16..].get(..total).filter(|_| total <= 256).ok_or(BAD)?;
            let slots = if head & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = slots.get_mut(usize::from(head & !0x10)).ok_or(BAD)?;
            *slot = Some(HuffmanSpec { counts: *counts, symbols: symbols.to_vec() });
            data = &rest[16 + total..];
        }
        Ok(())
    }

    /// DRI (T.81, B.2.4.4).
    pub(crate) fn read_restart_interval(&mut self, data: &[u8]) -> Result<(), JpegError> {
        let interval: [u8; 2] = data.try_into().map_err(|_| JpegError::damaged("bad restart interval"))?;
        self.restart_interval = u16::from_be_bytes(interval).into();
        Ok(())
    }

    /// Puts the tables of T.81 annex K where none are defined: frames of Motion JPEG leave them out.
    pub(crate) fn add_standard_huffman(&mut self) {
        let standard = |counts: &[u8; 16], symbols: &[u8]| HuffmanSpec { counts: *counts, symbols: symbols.to_vec() };
        self.dc[0].get_or_insert_with(|| standard(&DC_LUMA, &DC_SYMBOLS));
        self.dc[1].get_or_insert_with(|| standard(&DC_CHROMA, &DC_SYMBOLS));
        self.ac[0].get_or_insert_with(|| standard(&AC_LUMA, &AC_LUMA_SYMBOLS));
        self.ac[1].get_or_insert_with(|| standard(&AC_CHROMA, &AC_CHROMA_SYMBOLS));
    }

    /// The table of a class and a slot, ready for decoding.
    pub(crate) fn huffman(&self, class: TableClass, slot: u8) -> Result<HuffmanTable, JpegError> {
        let slots = if class == TableClass::Dc { &self.dc } else { &self.ac };
        let spec = slots.get(usize::from(slot)).and_then(Option::as_ref);
        HuffmanTable::new(spec.ok_or(JpegError::damaged("missing Huffman table"))?, class)
    }
}

// T.81, tables K.3 to K.6.
const DC_LUMA: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const DC_CHROMA: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const AC_LUMA: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D];
const AC_CHROMA: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77];
#[rustfmt::skip]
const AC_LUMA_SYMBOLS: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7,
    0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5,
    0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];
#[rustfmt::skip]
const AC_CHROMA_SYMBOLS: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0,
    0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
    0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_visits_every_position_once() {
        let mut seen = [false; 64];
        ZIGZAG[..64].iter().for_each(|&p| seen[usize::from(p)] = true);
        assert!(seen.iter().all(|&s| s) && ZIGZAG[64..].iter().all(|&p| p == 63));
    }

    #[test]
    fn standard_tables_are_complete() {
        let mut tables = Tables::default();
        assert!(tables.huffman(TableClass::Dc, 0).is_err());
        tables.add_standard_huffman();
        for slot in 0..2 {
            assert!(tables.huffman(TableClass::Dc, slot).is_ok() && tables.huffman(TableClass::Ac, slot).is_ok());
        }
        let mut luma = AC_LUMA_SYMBOLS;
        let mut chroma = AC_CHROMA_SYMBOLS;
        luma.sort_unstable();
        chroma.sort_unstable();
        assert_eq!(luma, chroma);
        assert!(luma.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn segments_of_wrong_length_are_refused() {
        let mut tables = Tables::default();
        assert!(tables.read_quant(&[0; 64]).is_err() && tables.read_quant(&[4; 65]).is_err());
        assert!(tables.read_quant(&[0; 130]).is_ok());
        assert!(tables.read_huffman(&[0; 16]).is_err() && tables.read_huffman(&[4; 17]).is_err());
        assert!(tables.read_restart_interval(&[0; 3]).is_err());
    }
}
