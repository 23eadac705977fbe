//! Sequential Huffman coding (T.81, F.2): blocks of an MCU row from bits to samples or coefficients.

use crate::bits::{BitReader, BitWindow, Source};
use crate::error::JpegError;
use crate::header::Header;
use crate::huffman::{Entry, HuffmanTable, LOOKUP_BITS, TableClass, extend};
use crate::idct::{Block, Samples, put};
use crate::planes::GRAY;
use crate::scan::{ScanHeader, ScanLayout};
use crate::simd::vectorized;
use crate::tables::{QuantTable, Tables, ZIGZAG};
use crate::transform::Queue;

/// Bits that one symbol takes at most: a code of 17 bits (an unknown one) and 15 extra bits.
pub(crate) const MAX_SYMBOL_BITS: u32 = 32;

/// The state of decoding between MCUs.
#[derive(Clone, Debug)]
pub(crate) struct Entropy<'a> {
    pub(crate) reader: BitReader<'a>,
    /// DC coefficient of the last block of each component of the scan.
    pub(crate) last_dc: [i32; 4],
    /// Blocks that the last end-of-band run still covers (progressive scans).
    pub(crate) end_of_band_run: u32,
    restart_interval: usize,
    mcus_to_restart: usize,
    /// The data of this interval is used up; the remaining MCUs are left as they are.
    pub(crate) exhausted: bool,
    /// Whether some interval had too little data.
    pub(crate) truncated: bool,
}

impl<'a> Entropy<'a> {
    pub(crate) fn new(reader: BitReader<'a>, restart_interval: usize) -> Self {
        Entropy {
            reader,
            last_dc: [0; 4],
            end_of_band_run: 0,
            restart_interval,
            mcus_to_restart: restart_interval,
            exhausted: false,
            truncated: false,
        }
    }

    /// Called before each MCU: passes a restart marker where one is due. Whether the MCU has data.
    #[inline(always)]
    pub(crate) fn start_mcu(&mut self) -> bool {
        if self.restart_interval > 0 {
            if self.mcus_to_restart == 0 {
                self.restart();
            }
            self.mcus_to_restart -= 1;
        }
        !self.exhausted
    }

    #[cold]
    #[inline(never)]
    fn restart(&mut self) {
        let found = self.reader.restart();
        self.last_dc = [0; 4];
        self.end_of_band_run = 0;
        self.mcus_to_restart = self.restart_interval;
        // A marker that is kept for later leaves this as it is: the first MCU is then decoded from zero bits, as in
        // libjpeg.
        self.exhausted &= !found;
    }

    /// Called after each MCU that had data.
    #[inline(always)]
    pub(crate) fn finish_mcu(&mut self) {
        if self.reader.is_exhausted() {
            self.exhausted = true;
            self.truncated = true;
        }
    }

    /// Whether all further MCUs of the scan are without data.
    pub(crate) fn is_over(&self) -> bool {
        self.exhausted && self.reader.is_at_end_of_scan()
    }
}

/// The next difference of DC coefficients.
#[inline(always)]
pub(crate) fn decode_dc(reader: &mut BitReader<'_>, table: &HuffmanTable) -> i32 {
    let window = &mut reader.window;
    if window.count < MAX_SYMBOL_BITS {
        window.refill(&mut reader.source);
    }
    let entry = table.lookup[(window.buffer >> (64 - LOOKUP_BITS)) as usize];
    let value = entry as i32 >> 16;
    if value != 0 {
        window.drop(entry & 0xFF);
        return value;
    }
    let (bits, size) = table.find(window.window());
    reader.source.corrupt |= HuffmanTable::is_bad_code(bits);
    window.drop(bits);
    let size = u32::from(size);
    extend(window.take(size), size)
}

/// Decodes one block, whose coefficients must be 0 before. Returns the last zigzag index that may have a coefficient.
#[inline(always)]
pub(crate) fn decode_block(
    reader: &mut BitReader<'_>,
    dc: &HuffmanTable,
    ac: &HuffmanTable,
    last_dc: &mut i32,
    block: &mut Block,
) -> usize {
    *last_dc = last_dc.wrapping_add(decode_dc(reader, dc));
    block[0] = *last_dc as i16;
    let mut window = reader.window;
    let mut k = 1;
    'block: while k < 64 {
        window.refill(&mut reader.source);
        // There are bits for 5 entries of the lookup table now, or for one symbol of any length.
        for _ in 0..5 {
            let entry = ac.lookup[(window.buffer >> (64 - LOOKUP_BITS)) as usize];
            let value = entry as i32 >> 16;
            if value == 0 {
                if entry & 0xFF00 == 0 && entry != 0 {
                    // End of block: run and size are 0.
                    window.drop(entry);
                    break 'block;
                }
                window.refill(&mut reader.source);
                match decode_long(&mut window, &mut reader.source, ac, entry, block, k) {
                    Some(next) => k = next,
                    None => break 'block,
                }
                break;
            }
            window.drop(entry & 0xFF);
            k += (entry >> 12 & 15) as usize;
            block[usize::from(ZIGZAG[k & 127] & 63)] = value as i16;
            k += 1;
            if k > 63 {
                break;
            }
        }
    }
    reader.window = window;
    k - 1
}

/// A symbol whose `entry` in the lookup table has no value. Returns the index of the next coefficient; `None` at the
/// end of the block.
#[inline(always)]
fn decode_long(
    window: &mut BitWindow,
    source: &mut Source<'_>,
    ac: &HuffmanTable,
    entry: Entry,
    block: &mut Block,
    mut k: usize,
) -> Option<usize> {
    let (bits, symbol) = match entry {
        0 => {
            let found = ac.find_long(window.window());
            source.corrupt |= HuffmanTable::is_bad_code(found.0);
            found
        }
        _ => (entry & 0xFF, (entry >> 8) as u8),
    };
    window.drop(bits);
    let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
    if size > 0 {
        k += run;
        block[usize::from(ZIGZAG[k & 127] & 63)] = extend(window.take(size), size) as i16;
        return Some(k + 1);
    }
    (run == 15).then_some(k + 16)
}

/// One component of a scan that holds all components.
#[derive(Clone, Debug)]
struct ScanComponent {
    h: usize,
    v: usize,
    /// Bytes from row to row of the plane.
    stride: usize,
    quant: QuantTable,
    dc: HuffmanTable,
    ac: HuffmanTable,
}

/// A sequential scan of all components, decoded straight to samples.
#[derive(Clone, Debug)]
pub(crate) struct SequentialScan {
    components: Vec<ScanComponent>,
    mcus_across: usize,
}

impl SequentialScan {
    pub(crate) fn new(
        scan: &ScanHeader,
        header: &Header,
        tables: &Tables,
        layout: &ScanLayout,
    ) -> Result<SequentialScan, JpegError> {
        let component = |(c, at): (&crate::scan::ScanComponent, &crate::scan::ComponentLayout)| {
            let slot = usize::from(header.components[c.index].quant_slot);
            let quant = tables.quant.get(slot).and_then(Option::as_ref);
            Ok(ScanComponent {
                h: at.h,
                v: at.v,
                stride: layout.mcus_across * at.h * 8,
                quant: **quant.ok_or(JpegError::damaged("missing quantization table"))?,
                dc: tables.huffman(TableClass::Dc, c.dc_slot)?,
                ac: tables.huffman(TableClass::Ac, c.ac_slot)?,
            })
        };
        let components = scan.components.iter().zip(&layout.components).map(component).collect::<Result<_, _>>()?;
        Ok(SequentialScan { components, mcus_across: layout.mcus_across })
    }

    /// Decodes a row of MCUs into `bands`: for each component the rows of its plane that this row of MCUs covers.
    pub(crate) fn decode_row(&self, entropy: &mut Entropy<'_>, bands: &mut [&mut [u8]]) {
        decode_row(self, entropy, bands);
    }
}

vectorized! {
    fn decode_row(scan: &SequentialScan, entropy: &mut Entropy<'_>, bands: &mut [&mut [u8]]) {
        let mut queue = Queue::new();
        for mcu in 0..scan.mcus_across {
            if !entropy.start_mcu() {
                fill_gray(scan, mcu, bands);
                continue;
            }
            for (c, component) in scan.components.iter().enumerate() {
                for y in 0..component.v {
                    for x in 0..component.h {
                        let last_dc = &mut entropy.last_dc[c & 3];
                        let last = decode_block(&mut entropy.reader, &component.dc, &component.ac, last_dc, queue.next());
                        let at = y * 8 * component.stride + (mcu * component.h + x) * 8;
                        let place = |(c, at): (usize, usize), samples: &Samples| {
                            put(samples, &mut bands[c][at..], scan.components[c].stride);
                        };
                        queue.push(last, &component.quant, (c, at), place);
                    }
                }
            }
            entropy.finish_mcu();
        }
        queue.flush(|(c, at): (usize, usize), samples| put(samples, &mut bands[c][at..], scan.components[c].stride));
    }
}

/// An MCU without data.
#[cold]
fn fill_gray(scan: &SequentialScan, mcu: usize, bands: &mut [&mut [u8]]) {
    for (component, band) in scan.components.iter().zip(bands) {
        for row in band.chunks_mut(component.stride) {
            row[mcu * component.h * 8..][..component.h * 8].fill(GRAY);
        }
    }
}
