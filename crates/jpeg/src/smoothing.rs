//! Block smoothing: estimates of low frequencies that no scan has brought, from the means of 5x5 blocks.
//!
//! libjpeg does this for progressive files of which only the first scans are present. T.81, K.8 describes the idea;
//! the weights and the treatment of edges are those of libjpeg-turbo 2.1.

use crate::coefficients::{Coefficients, MissingBits};
use crate::idct::put;
use crate::scan::ScanLayout;
use crate::tables::QuantTable;
use crate::transform::transform_pair;

/// Weights of the means of 5x5 blocks, row by row.
type Kernel = [[i32; 5]; 5];

/// How a coefficient is estimated.
struct Estimate {
    /// Position in the block.
    position: usize,
    /// Weights where no AC coefficient is known at all.
    from_means: Kernel,
    /// Weights where some are; `None` where there is no estimate then.
    with_others: Option<Kernel>,
}

const ZERO: [i32; 5] = [0; 5];

/// The coefficients 1 to 9 in zigzag order, in the order in which `missing_bits` counts them.
const ESTIMATES: [Estimate; 9] = [
    Estimate {
        position: 1,
        from_means: [
            [-1, -1, 0, 1, 1],
            [-3, 13, 0, -13, 3],
            [-3, 38, 0, -38, 3],
            [-3, 13, 0, -13, 3],
            [-1, -1, 0, 1, 1],
        ],
        with_others: Some([ZERO, ZERO, [-7, 50, 0, -50, 7], ZERO, ZERO]),
    },
    Estimate {
        position: 8,
        from_means: [[-1, -3, -3, -3, -1], [-1, 13, 38, 13, -1], ZERO, [1, -13, -38, -13, 1], [1, 3, 3, 3, 1]],
        with_others: Some([[0, 0, -7, 0, 0], [0, 0, 50, 0, 0], ZERO, [0, 0, -50, 0, 0], [0, 0, 7, 0, 0]]),
    },
    Estimate {
        position: 16,
        from_means: [[0, 0, 1, 0, 0], [0, 2, 7, 2, 0], [0, -5, -14, -5, 0], [0, 2, 7, 2, 0], [0, 0, 1, 0, 0]],
        with_others: Some([[0, 0, -1, 0, 0], [0, 0, 13, 0, 0], [0, 0, -24, 0, 0], [0, 0, 13, 0, 0], [0, 0, -1, 0, 0]]),
    },
    Estimate {
        position: 9,
        from_means: [[-1, 0, 0, 0, 1], [0, 9, 0, -9, 0], ZERO, [0, -9, 0, 9, 0], [1, 0, 0, 0, -1]],
        with_others: Some([[0, -1, 0, 1, 0], [-1, 10, 0, -10, 1], ZERO, [1, -10, 0, 10, -1], [0, 1, 0, -1, 0]]),
    },
    Estimate {
        position: 2,
        from_means: [ZERO, [0, 2, -5, 2, 0], [1, 7, -14, 7, 1], [0, 2, -5, 2, 0], ZERO],
        with_others: Some([ZERO, ZERO, [-1, 13, -24, 13, -1], ZERO, ZERO]),
    },
    Estimate {
        position: 3,
        from_means: [ZERO, [0, 1, 0, -1, 0], [0, 2, 0, -2, 0], [0, 1, 0, -1, 0], ZERO],
        with_others: None,
    },
    Estimate { position: 10, from_means: [ZERO, [0, 1, -3, 1, 0], ZERO, [0, -1, 3, -1, 0], ZERO], with_others: None },
    Estimate {
        position: 17,
        from_means: [ZERO, [0, 1, 0, -1, 0], [0, -3, 0, 3, 0], [0, 1, 0, -1, 0], ZERO],
        with_others: None,
    },
    Estimate { position: 24, from_means: [ZERO, [0, 1, 2, 1, 0], ZERO, [0, -1, -2, -1, 0], ZERO], with_others: None },
];

/// Weights of the mean itself where no AC coefficient is known; their sum is 256.
const MEAN: Kernel =
    [[-2, -6, -8, -6, -2], [-6, 6, 42, 6, -6], [-8, 42, 152, 42, -8], [-6, 6, 42, 6, -6], [-2, -6, -8, -6, -2]];

/// A picture of which some bits are missing.
#[derive(Clone, Debug)]
pub(crate) struct Smoothing {
    /// The first 10 of each component, after its last scan and before.
    missing: Vec<MissingBits>,
    missing_before: Vec<MissingBits>,
}

impl Smoothing {
    /// `None` when all low frequencies are known, or a component has no mean.
    pub(crate) fn of(coefficients: &Coefficients) -> Option<Smoothing> {
        let mut useful = false;
        for (component, missing) in coefficients.components.iter().zip(&coefficients.missing_bits) {
            let quant = component.quant.as_ref()?;
            if missing[0] < 0 || quant[0] == 0 || ESTIMATES.iter().any(|e| quant[e.position] == 0) {
                return None;
            }
            useful |= missing[1..10].iter().any(|&bits| bits != 0);
        }
        let before = match coefficients.scans > 1 {
            true => coefficients.missing_bits_before.clone(),
            false => vec![[-1; 64]; coefficients.components.len()],
        };
        useful.then(|| Smoothing { missing: coefficients.missing_bits.clone(), missing_before: before })
    }

    /// Transforms the row of blocks `y` of component `index`.
    pub(crate) fn transform_row(
        &self,
        coefficients: &Coefficients,
        layout: &ScanLayout,
        index: usize,
        y: usize,
        out: &mut [u8],
        stride: usize,
    ) {
        let component = &coefficients.components[index];
        let Some(quant) = &component.quant else { return };
        let at = &layout.components[index];
        let together = at.rows_together;
        let (row, in_mcu) = (y / together, y % together);
        let last_mcu_row = (at.blocks_down - 1) / together;
        let missing = match row > coefficients.last_good_row {
            true => &self.missing_before[index],
            false => &self.missing[index],
        };
        let from_means = missing[1..10].iter().all(|&bits| bits == -1);
        // Rows at the edges stand in for those outside; near the edges, the same is done for some that are inside.
        let rows_in_mcu = if row == last_mcu_row { at.blocks_down - row * together } else { together };
        let above = if y > 0 { y - 1 } else { y };
        let above_2 = if in_mcu > 1 || row > 1 { y - 2 } else { above };
        let below = if in_mcu + 1 < rows_in_mcu || row < last_mcu_row { y + 1 } else { y };
        let below_2 = if in_mcu + 2 < rows_in_mcu || row + 1 < last_mcu_row { y + 2 } else { below };
        let rows =
            [above_2, above, y, below, below_2].map(|y| &component.blocks[y * component.stride..][..at.blocks_across]);

        let last = at.blocks_across - 1;
        let transform = transform_pair();
        let mut means = rows.map(|row| [i32::from(row[0][0]); 5]);
        for x in 0..=last {
            for (means, row) in means.iter_mut().zip(rows) {
                if x == 0 && x < last {
                    means[3] = row[1][0].into();
                }
                if x + 1 < last {
                    means[4] = row[x + 2][0].into();
                }
            }
            let mut block = rows[2][x];
            estimate(&mut block, quant, missing, from_means, &means);
            put(&transform([&block; 2], [quant; 2])[0], &mut out[8 * x..], stride);
            for means in &mut means {
                means.copy_within(1.., 0);
            }
        }
    }
}

/// Puts estimates where coefficients are 0 and not known to be.
fn estimate(block: &mut [i16; 64], quant: &QuantTable, missing: &MissingBits, from_means: bool, means: &[[i32; 5]; 5]) {
    let factor = |position: usize| i64::from(quant[position] as u16);
    let weighted = |kernel: &Kernel| {
        let products = kernel.iter().flatten().zip(means.iter().flatten()).map(|(&w, &m)| i64::from(w) * i64::from(m));
        products.sum::<i64>() * factor(0)
    };
    // Division by 256 times the factor, rounded, halves away from 0.
    let divided = |sum: i64, position: usize| {
        let factor = factor(position);
        let magnitude = ((factor << 7) + sum.abs()) / (factor << 8);
        (magnitude, sum < 0)
    };
    let mean = weighted(&MEAN);
    for (e, &bits) in ESTIMATES.iter().zip(&missing[1..10]) {
        let kernel = if from_means { Some(&e.from_means) } else { e.with_others.as_ref() };
        let Some(kernel) = kernel.filter(|_| bits != 0 && block[e.position] == 0) else { continue };
        let (mut magnitude, negative) = divided(weighted(kernel), e.position);
        if bits > 0 {
            magnitude = magnitude.min((1 << bits) - 1);
        }
        block[e.position] = if negative { -magnitude } else { magnitude } as i16;
    }
    if from_means {
        let (magnitude, negative) = divided(mean, 0);
        block[0] = if negative { -magnitude } else { magnitude } as i16;
    }
}
