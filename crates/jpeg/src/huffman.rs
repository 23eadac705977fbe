//! Huffman tables: ITU T.81 annex C and F.2.2.3, with a lookup table for short codes.

use crate::error::JpegError;

/// Bits of a code that the lookup table covers.
pub(crate) const LOOKUP_BITS: u32 = 10;
/// Length that the decoder reports for a code that no table entry has: libjpeg reads 17 bits before it gives up.
const BAD_CODE_BITS: u32 = 17;

/// A table as a DHT segment has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HuffmanSpec {
    /// Number of codes of 1 to 16 bits.
    pub(crate) counts: [u8; 16],
    /// Symbols in the order of their codes.
    pub(crate) symbols: Vec<u8>,
}

/// The use of a table: DC tables have sizes of differences, AC tables pairs of run and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableClass {
    Dc,
    Ac,
}

/// One entry of the lookup table, packed into 32 bits:
/// bits 0 to 7 the length of the code, with its extra bits where the value is known, and 0 for codes that are longer;
/// bits 8 to 15 the symbol; bits 16 to 31 the value (coefficient or difference) where code and extra bits fit into
/// [`LOOKUP_BITS`], else 0.
pub(crate) type Entry = u32;

/// A table ready for decoding.
#[derive(Clone, Debug)]
pub(crate) struct HuffmanTable {
    pub(crate) lookup: [Entry; 1 << LOOKUP_BITS],
    /// For each length the largest code of up to this length plus 1, aligned to 16 bits; 0 where there is no code.
    limits: [u32; 18],
    /// For each length what is added to a code to give its index in `symbols`.
    offsets: [i32; 17],
    symbols: [u8; 256],
}

/// The value that `size` extra bits stand for (figure F.12).
#[inline(always)]
pub(crate) fn extend(bits: u32, size: u32) -> i32 {
    // The first bit tells the sign: 0 for negative values.
    let bits = bits as i32;
    let negative = (bits - (1 << size >> 1)) >> 31;
    bits + (negative & ((-1 << size) + 1))
}

impl HuffmanTable {
    /// Errs on codes that do not fit into their lengths, and on sizes of DC differences above 15.
    pub(crate) fn new(spec: &HuffmanSpec, class: TableClass) -> Result<HuffmanTable, JpegError> {
        const BAD: JpegError = JpegError::Damaged { problem: "bad Huffman table" };
        let mut table =
            HuffmanTable { lookup: [0; 1 << LOOKUP_BITS], limits: [0; 18], offsets: [0; 17], symbols: [0; 256] };
        table.symbols[..spec.symbols.len()].copy_from_slice(&spec.symbols);
        if class == TableClass::Dc && spec.symbols.iter().any(|&s| s > 15) {
            return Err(BAD);
        }
        let mut code = 0u32;
        let mut index = 0usize;
        for length in 1..=16u32 {
            let count = usize::from(spec.counts[length as usize - 1]);
            let index_before = index;
            table.offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOKUP_BITS && code < 1 << length {
                    table.fill(code, length, table.symbols[index]);
                }
                code += 1;
                index += 1;
            }
            // The code of ones alone is reserved. libjpeg checks this up to the longest code in use.
            if index_before < spec.symbols.len() && code >= 1 << length {
                return Err(BAD);
            }
            if count > 0 {
                table.limits[length as usize] = code << (16 - length);
            }
            code <<= 1;
        }
        Ok(table)
    }

    fn fill(&mut self, code: u32, length: u32, symbol: u8) {
        let spare = LOOKUP_BITS - length;
        let size = u32::from(symbol & 15);
        let first = (code << spare) as usize;
        for (rest, entry) in self.lookup[first..first + (1 << spare)].iter_mut().enumerate() {
            *entry = length | u32::from(symbol) << 8;
            if size > 0 && size <= spare {
                let value = extend(rest as u32 >> (spare - size), size);
                *entry = (length + size) | u32::from(symbol) << 8 | (value as u32) << 16;
            }
        }
    }

    /// Number of bits and symbol of the code at the start of `window` (32 bits, the first at the top).
    /// Unknown codes give 17 bits and the symbol 0, as in libjpeg. The extra bits are left to the caller.
    #[inline(always)]
    pub(crate) fn find(&self, window: u32) -> (u32, u8) {
        let entry = self.lookup[(window >> (32 - LOOKUP_BITS)) as usize];
        match entry {
            0 => self.find_long(window),
            _ => {
                let extra = if entry >> 16 == 0 { 0 } else { entry >> 8 & 15 };
                ((entry & 0xFF) - extra, (entry >> 8) as u8)
            }
        }
    }

    /// As [`find`](Self::find), for codes of more than [`LOOKUP_BITS`] bits.
    #[cold]
    #[inline(never)]
    pub(crate) fn find_long(&self, window: u32) -> (u32, u8) {
        let code = window >> 16;
        for length in LOOKUP_BITS + 1..=16 {
            if code < self.limits[length as usize] {
                let index = (code >> (16 - length)) as i32 + self.offsets[length as usize];
                return (length, self.symbols[(index & 0xFF) as usize]);
            }
        }
        (BAD_CODE_BITS, 0)
    }

    pub(crate) fn is_bad_code(bits: u32) -> bool {
        bits == BAD_CODE_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(counts: &[(usize, u8)], symbols: Vec<u8>) -> HuffmanSpec {
        let mut spec = HuffmanSpec { counts: [0; 16], symbols };
        for &(length, count) in counts {
            spec.counts[length - 1] = count;
        }
        spec
    }

    #[test]
    fn extra_bits_are_signed() {
        assert_eq!([extend(0, 1), extend(1, 1), extend(0, 3), extend(3, 3), extend(4, 3)], [-1, 1, -7, -4, 4]);
        assert_eq!(extend(0, 0), 0);
    }

    #[test]
    fn short_and_long_codes_are_found() {
        // 0 -> 0x01, 10 -> 0x00, 110 -> 0xF0, then a code of 12 bits: 1110 0000 0000 -> 0x23.
        let table = spec(&[(1, 1), (2, 1), (3, 1), (12, 1)], vec![1, 0, 0xF0, 0x23]);
        let table = HuffmanTable::new(&table, TableClass::Ac).unwrap();
        assert_eq!(table.find(0x0000_0000), (1, 1));
        assert_eq!(table.find(0x8000_0000), (2, 0));
        assert_eq!(table.find(0xC000_0000), (3, 0xF0));
        assert_eq!(table.find(0xE000_0000), (12, 0x23));
        assert_eq!(table.find(0xE010_0000), (17, 0));
        // Code 0 and extra bit 1: two bits, symbol 1, value 1.
        assert_eq!(table.lookup[0b01 << 8], 2 | 1 << 8 | 1 << 16);
    }

    #[test]
    fn codes_that_do_not_fit_are_refused() {
        assert!(HuffmanTable::new(&spec(&[(1, 2)], vec![0, 1]), TableClass::Ac).is_err());
        assert!(HuffmanTable::new(&spec(&[(1, 1), (2, 1), (3, 2)], vec![0, 1, 2, 3]), TableClass::Ac).is_err());
        assert!(HuffmanTable::new(&spec(&[(3, 1)], vec![16]), TableClass::Dc).is_err());
        assert!(HuffmanTable::new(&spec(&[], vec![]), TableClass::Dc).is_ok());
    }
}
