//! Scans into coefficients: progressive Huffman coding (T.81, annex G), and sequential scans of some of the components.

use crate::coefficients::Coefficients;
use crate::error::JpegError;
use crate::huffman::{HuffmanTable, LOOKUP_BITS, TableClass, extend};
use crate::idct::Block;
use crate::scan::{ScanHeader, ScanLayout};
use crate::sequential::{Entropy, MAX_SYMBOL_BITS, decode_block, decode_dc};
use crate::simd::vectorized;
use crate::tables::{Tables, ZIGZAG};

/// Decodes a scan into `coefficients`. The tables of `scan` are taken from `tables`.
///
/// Errs on missing or bad tables; damaged data is noted in `entropy`.
pub(crate) fn decode_scan(
    coefficients: &mut Coefficients,
    scan: &ScanHeader,
    layout: &ScanLayout,
    tables: &Tables,
    progressive: bool,
    entropy: &mut Entropy<'_>,
) -> Result<(), JpegError> {
    let dc = || -> Result<Vec<HuffmanTable>, JpegError> {
        scan.components.iter().map(|c| tables.huffman(TableClass::Dc, c.dc_slot)).collect()
    };
    let ac = || -> Result<Vec<HuffmanTable>, JpegError> {
        scan.components.iter().map(|c| tables.huffman(TableClass::Ac, c.ac_slot)).collect()
    };
    match (progressive, scan.first, scan.high) {
        (false, ..) => sequential(coefficients, scan, layout, entropy, &dc()?, &ac()?),
        (true, 0, 0) => dc_first(coefficients, scan, layout, entropy, &dc()?),
        (true, 0, _) => dc_refine(coefficients, scan, layout, entropy),
        (true, _, 0) => ac_first(coefficients, scan, layout, entropy, &ac()?[0]),
        (true, ..) => ac_refine(coefficients, scan, layout, entropy, &ac()?[0]),
    }
    Ok(())
}

vectorized! {
    fn sequential(
        coefficients: &mut Coefficients, scan: &ScanHeader, layout: &ScanLayout, entropy: &mut Entropy<'_>,
        dc: &[HuffmanTable], ac: &[HuffmanTable],
    ) {
        coefficients.decode_scan(scan, layout, entropy, |entropy, i, block| {
            decode_block(&mut entropy.reader, &dc[i], &ac[i], &mut entropy.last_dc[i & 3], block);
        });
    }
}

vectorized! {
    fn dc_first(
        coefficients: &mut Coefficients, scan: &ScanHeader, layout: &ScanLayout, entropy: &mut Entropy<'_>,
        dc: &[HuffmanTable],
    ) {
        coefficients.decode_scan(scan, layout, entropy, |entropy, i, block| {
            let difference = decode_dc(&mut entropy.reader, &dc[i]);
            let value = &mut entropy.last_dc[i & 3];
            *value = value.wrapping_add(difference);
            block[0] = (*value << scan.low) as i16;
        });
    }
}

vectorized! {
    fn dc_refine(coefficients: &mut Coefficients, scan: &ScanHeader, layout: &ScanLayout, entropy: &mut Entropy<'_>) {
        coefficients.decode_scan(scan, layout, entropy, |entropy, _, block| {
            let window = &mut entropy.reader.window;
            if window.count == 0 {
                window.refill(&mut entropy.reader.source);
            }
            block[0] |= (window.take(1) << scan.low) as i16;
        });
    }
}

vectorized! {
    fn ac_first(
        coefficients: &mut Coefficients, scan: &ScanHeader, layout: &ScanLayout, entropy: &mut Entropy<'_>,
        table: &HuffmanTable,
    ) {
        coefficients.decode_scan(scan, layout, entropy, |entropy, _, block| {
            if entropy.end_of_band_run > 0 {
                entropy.end_of_band_run -= 1;
            } else {
                ac_first_block(entropy, scan, table, block);
            }
        });
    }
}

#[inline(always)]
fn ac_first_block(entropy: &mut Entropy<'_>, scan: &ScanHeader, table: &HuffmanTable, block: &mut Block) {
    let reader = &mut entropy.reader;
    let mut window = reader.window;
    let (mut k, last) = (usize::from(scan.first), usize::from(scan.last));
    while k <= last {
        if window.count < MAX_SYMBOL_BITS {
            window.refill(&mut reader.source);
        }
        let entry = table.lookup[(window.buffer >> (64 - LOOKUP_BITS)) as usize];
        let value = entry as i32 >> 16;
        if value != 0 {
            window.drop(entry & 0xFF);
            k += (entry >> 12 & 15) as usize;
            block[usize::from(ZIGZAG[k & 127] & 63)] = (value << scan.low) as i16;
            k += 1;
            continue;
        }
        let (bits, symbol) = table.find(window.window());
        reader.source.corrupt |= HuffmanTable::is_bad_code(bits);
        window.drop(bits);
        let (run, size) = (symbol >> 4, u32::from(symbol & 15));
        if size > 0 {
            k += usize::from(run);
            block[usize::from(ZIGZAG[k & 127] & 63)] = (extend(window.take(size), size) << scan.low) as i16;
            k += 1;
        } else if run == 15 {
            k += 16;
        } else {
            entropy.end_of_band_run = (1 << run) + window.take(run.into()) - 1;
            break;
        }
    }
    reader.window = window;
}

vectorized! {
    fn ac_refine(
        coefficients: &mut Coefficients, scan: &ScanHeader, layout: &ScanLayout, entropy: &mut Entropy<'_>,
        table: &HuffmanTable,
    ) {
        coefficients.decode_scan(scan, layout, entropy, |entropy, _, block| {
            ac_refine_block(entropy, scan, table, block);
        });
    }
}

/// Adds one bit to the coefficients that are not 0, and new coefficients (T.81, G.1.2.3).
#[inline(always)]
fn ac_refine_block(entropy: &mut Entropy<'_>, scan: &ScanHeader, table: &HuffmanTable, block: &mut Block) {
    let reader = &mut entropy.reader;
    let mut window = reader.window;
    let (mut k, last) = (usize::from(scan.first), usize::from(scan.last));
    let bit = 1i16 << scan.low;
    if entropy.end_of_band_run == 0 {
        while k <= last {
            if window.count < MAX_SYMBOL_BITS {
                window.refill(&mut reader.source);
            }
            let (bits, symbol) = table.find(window.window());
            window.drop(bits);
            let (mut run, size) = (symbol >> 4, symbol & 15);
            // Only a size of 1 is allowed.
            reader.source.corrupt |= HuffmanTable::is_bad_code(bits) | (size > 1);
            let mut new = 0;
            if size > 0 {
                new = if window.take(1) == 1 { bit } else { bit.wrapping_neg() };
            } else if run < 15 {
                entropy.end_of_band_run = (1 << run) + window.take(run.into());
                break;
            }
            // Passes `run` coefficients that are 0, up to the place of the new one.
            while k <= last {
                let coefficient = &mut block[usize::from(ZIGZAG[k & 127] & 63)];
                if *coefficient != 0 {
                    if window.count == 0 {
                        window.refill(&mut reader.source);
                    }
                    correct(coefficient, window.take(1), bit);
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if new != 0 {
                block[usize::from(ZIGZAG[k & 127] & 63)] = new;
            }
            k += 1;
        }
    }
    if entropy.end_of_band_run > 0 {
        for &position in &ZIGZAG[k.min(64)..last + 1] {
            let coefficient = &mut block[usize::from(position & 63)];
            if *coefficient != 0 {
                if window.count == 0 {
                    window.refill(&mut reader.source);
                }
                correct(coefficient, window.take(1), bit);
            }
        }
        entropy.end_of_band_run -= 1;
    }
    reader.window = window;
}

#[inline(always)]
fn correct(coefficient: &mut i16, correction: u32, bit: i16) {
    if correction == 1 && *coefficient & bit == 0 {
        let change = if *coefficient >= 0 { bit } else { bit.wrapping_neg() };
        *coefficient = coefficient.wrapping_add(change);
    }
}
