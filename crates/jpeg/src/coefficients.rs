//! The coefficients of a whole picture, which progressive files and files of several scans are collected in.

use crate::error::JpegError;
use crate::header::Header;
use crate::idct::Block;
use crate::scan::{ScanHeader, ScanLayout};
use crate::sequential::Entropy;
use crate::tables::{QuantTable, Tables};

/// Coefficients of one component: blocks in rows that are padded to whole MCUs.
#[derive(Clone, Debug)]
pub(crate) struct ComponentBlocks {
    pub(crate) blocks: Vec<Block>,
    /// Blocks from row to row.
    pub(crate) stride: usize,
    /// The quantization table at the time of the component's first scan; without a scan all samples are gray.
    pub(crate) quant: Option<Box<QuantTable>>,
}

/// Bits of each coefficient that no scan has brought yet; -1 where no scan has brought any.
pub(crate) type MissingBits = [i8; 64];

/// All coefficients, and what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Coefficients {
    pub(crate) components: Vec<ComponentBlocks>,
    pub(crate) missing_bits: Vec<MissingBits>,
    /// The same before the last scan of each component.
    pub(crate) missing_bits_before: Vec<MissingBits>,
    /// MCU row (of `rows_together` rows of blocks) up to which the last scan had data.
    pub(crate) last_good_row: usize,
    pub(crate) scans: usize,
}

impl Coefficients {
    pub(crate) fn new(layout: &ScanLayout) -> Coefficients {
        let component = |c: &crate::scan::ComponentLayout| {
            let stride = layout.mcus_across * c.h;
            ComponentBlocks { blocks: vec![[0; 64]; stride * layout.mcus_down * c.v], stride, quant: None }
        };
        Coefficients {
            components: layout.components.iter().map(component).collect(),
            missing_bits: vec![[-1; 64]; layout.components.len()],
            missing_bits_before: vec![[-1; 64]; layout.components.len()],
            last_good_row: 0,
            scans: 0,
        }
    }

    /// Keeps the quantization tables of components whose first scan this is.
    pub(crate) fn latch_quant(&mut self, scan: &ScanHeader, header: &Header, tables: &Tables) -> Result<(), JpegError> {
        for c in &scan.components {
            let slot = usize::from(header.components[c.index].quant_slot);
            let quant = &mut self.components[c.index].quant;
            if quant.is_none() {
                let table = tables.quant.get(slot).and_then(Option::as_ref);
                *quant = Some(table.ok_or(JpegError::damaged("missing quantization table"))?.clone());
            }
        }
        Ok(())
    }

    /// Notes which bits a scan brings. Whether it follows the order of T.81, G.1.1.1.
    pub(crate) fn note_scan(&mut self, scan: &ScanHeader) -> bool {
        let band = usize::from(scan.first)..=usize::from(scan.last);
        let mut in_order = true;
        for c in &scan.components {
            let (bits, before) = (&mut self.missing_bits[c.index], &mut self.missing_bits_before[c.index]);
            in_order &= scan.first == 0 || bits[0] >= 0;
            *before = if self.scans > 0 { *bits } else { [0; 64] };
            for bits in &mut bits[band.clone()] {
                in_order &= i32::from(scan.high) == i32::from((*bits).max(0));
                *bits = scan.low as i8;
            }
        }
        self.scans += 1;
        in_order
    }

    /// Whether all bits of all coefficients were brought.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing_bits.iter().flatten().all(|&bits| bits == 0)
    }

    /// Goes over the blocks of a scan in their order; `decode` gets the index of the component in the scan and the
    /// block.
    #[inline(always)]
    pub(crate) fn decode_scan(
        &mut self,
        scan: &ScanHeader,
        layout: &ScanLayout,
        entropy: &mut Entropy<'_>,
        mut decode: impl FnMut(&mut Entropy<'_>, usize, &mut Block),
    ) {
        if let [only] = scan.components.as_slice() {
            let at = &layout.components[only.index];
            let component = &mut self.components[only.index];
            for y in 0..at.blocks_down {
                if entropy.is_over() {
                    return;
                }
                for block in &mut component.blocks[y * component.stride..][..at.blocks_across] {
                    if !entropy.exhausted {
                        self.last_good_row = y / at.rows_together;
                    }
                    if entropy.start_mcu() {
                        decode(entropy, 0, block);
                        entropy.finish_mcu();
                    }
                }
            }
            return;
        }
        for row in 0..layout.mcus_down {
            if entropy.is_over() {
                return;
            }
            for mcu in 0..layout.mcus_across {
                if !entropy.exhausted {
                    self.last_good_row = row;
                }
                if !entropy.start_mcu() {
                    continue;
                }
                for (i, c) in scan.components.iter().enumerate() {
                    let at = &layout.components[c.index];
                    let component = &mut self.components[c.index];
                    for y in row * at.v..(row + 1) * at.v {
                        let first = y * component.stride + mcu * at.h;
                        for block in &mut component.blocks[first..][..at.h] {
                            decode(entropy, i, block);
                        }
                    }
                }
                entropy.finish_mcu();
            }
        }
    }
}
