//! Coefficients to samples.

use crate::coefficients::Coefficients;
use crate::idct::{Block, flat, put};
use crate::planes::{GRAY, Plane};
use crate::scan::ScanLayout;
use crate::simd::vectorized;
use crate::smoothing::Smoothing;
use crate::tables::QuantTable;
use crate::transform::transform_pair;

/// Transforms MCU row `row` into the planes.
pub(crate) fn transform_row(
    coefficients: &Coefficients,
    row: usize,
    layout: &ScanLayout,
    smoothing: Option<&Smoothing>,
    planes: &mut [Plane],
) {
    for (index, (component, plane)) in coefficients.components.iter().zip(planes).enumerate() {
        let v = layout.components[index].v;
        let stride = plane.stride();
        for y in row * v..(row + 1) * v {
            let out = plane.rows_mut(y * 8, 8);
            let Some(quant) = &component.quant else {
                out.fill(GRAY);
                continue;
            };
            match smoothing {
                Some(smoothing) if y < layout.components[index].blocks_down => {
                    smoothing.transform_row(coefficients, layout, index, y, out, stride);
                }
                _ => {
                    let blocks = &component.blocks[y * component.stride..][..component.stride];
                    transform_blocks(blocks, quant, out, stride);
                }
            }
        }
    }
}

vectorized! {
    /// A row of blocks to 8 rows of samples.
    fn transform_blocks(blocks: &[Block], quant: &QuantTable, out: &mut [u8], stride: usize) {
        let transform = transform_pair();
        let mut waiting = None;
        for (x, block) in blocks.iter().enumerate() {
            if block[1..].iter().fold(0, |any, &v| any | v) == 0 {
                put(&flat(block[0], quant[0]), &mut out[8 * x..], stride);
                continue;
            }
            match waiting.take() {
                None => waiting = Some(x),
                Some(before) => {
                    let [a, b] = transform([&blocks[before], block], [quant; 2]);
                    put(&a, &mut out[8 * before..], stride);
                    put(&b, &mut out[8 * x..], stride);
                }
            }
        }
        if let Some(x) = waiting {
            put(&transform([&blocks[x]; 2], [quant; 2])[0], &mut out[8 * x..], stride);
        }
    }
}
