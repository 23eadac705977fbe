//! Inverse DCT with the arithmetic of libjpeg's `islow`: Loeffler, Ligtenberg and Moschytz, 13-bit constants, 2 more
//! bits between the passes.
//!
//! libjpeg-turbo computes it in vectors of 16 bits. Valid files give the same values either way. For coefficients that
//! no encoder writes, sums wrap and saturate in 16 bits. Both forms here do the same.

use crate::tables::QuantTable;

/// Coefficients of an 8x8 block, in the order of rows.
pub(crate) type Block = [i16; 64];

/// Fraction bits of the constants.
pub(crate) const CONST_BITS: i32 = 13;
/// Bits by which values between the passes are larger.
pub(crate) const PASS1_BITS: i32 = 2;
pub(crate) const PASS1_SHIFT: i32 = CONST_BITS - PASS1_BITS;
pub(crate) const PASS2_SHIFT: i32 = CONST_BITS + PASS1_BITS + 3;

// The constants of jidctint, times 2^13, rounded.
pub(crate) const F_0_298: i16 = 2446;
pub(crate) const F_0_390: i16 = 3196;
pub(crate) const F_0_541: i16 = 4433;
pub(crate) const F_0_765: i16 = 6270;
pub(crate) const F_0_899: i16 = 7373;
pub(crate) const F_1_175: i16 = 9633;
pub(crate) const F_1_501: i16 = 12299;
pub(crate) const F_1_847: i16 = 15137;
pub(crate) const F_1_961: i16 = 16069;
pub(crate) const F_2_053: i16 = 16819;
pub(crate) const F_2_562: i16 = 20995;
pub(crate) const F_3_072: i16 = 25172;

/// Rows of samples.
pub(crate) type Samples = [[u8; 8]; 8];

/// Writes samples to rows that are `stride` bytes apart.
#[inline(always)]
pub(crate) fn put(samples: &Samples, out: &mut [u8], stride: usize) {
    for (y, row) in samples.iter().enumerate() {
        out[y * stride..][..8].copy_from_slice(row);
    }
}

/// The transform of a block that has only a mean.
#[inline(always)]
pub(crate) fn flat(dc: i16, quant: i16) -> Samples {
    let scaled = i32::from(dc.wrapping_mul(quant) << PASS1_BITS);
    let sample = ((scaled + (1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3)).clamp(-128, 127) + 128;
    [[sample as u8; 8]; 8]
}

/// One dimension on 8 columns at once: `rows[k][column]`, results before the shift.
#[inline(always)]
fn pass(rows: &[[i16; 8]; 8], shift: i32) -> [[i16; 8]; 8] {
    let mut out = [[0; 8]; 8];
    let times = |a: i16, b: i16| i32::from(a) * i32::from(b);
    for c in 0..8 {
        let x: [i16; 8] = std::array::from_fn(|k| rows[k][c]);
        let even2 = times(x[2], F_0_541) + times(x[6], F_0_541 - F_1_847);
        let even3 = times(x[2], F_0_541 + F_0_765) + times(x[6], F_0_541);
        let even0 = i32::from(x[0].wrapping_add(x[4])) << CONST_BITS;
        let even1 = i32::from(x[0].wrapping_sub(x[4])) << CONST_BITS;
        let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];

        let z3 = x[7].wrapping_add(x[3]);
        let z4 = x[5].wrapping_add(x[1]);
        let odd3 = times(z3, F_1_175 - F_1_961) + times(z4, F_1_175);
        let odd4 = times(z3, F_1_175) + times(z4, F_1_175 - F_0_390);
        let odd = [
            times(x[7], -F_0_899) + times(x[1], F_1_501 - F_0_899) + odd4,
            times(x[5], -F_2_562) + times(x[3], F_3_072 - F_2_562) + odd3,
            times(x[5], F_2_053 - F_2_562) + times(x[3], -F_2_562) + odd4,
            times(x[7], F_0_298 - F_0_899) + times(x[1], -F_0_899) + odd3,
        ];
        let round = 1 << (shift - 1);
        let saturated = |v: i32| ((v + round) >> shift).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        for k in 0..4 {
            out[k][c] = saturated(even[k] + odd[k]);
            out[7 - k][c] = saturated(even[k] - odd[k]);
        }
    }
    out
}

/// The transform in plain Rust.
pub(crate) fn plain(block: &Block, quant: &QuantTable) -> Samples {
    let rows: [[i16; 8]; 8] =
        std::array::from_fn(|k| std::array::from_fn(|c| block[8 * k + c].wrapping_mul(quant[8 * k + c])));
    let between = if block[8..].iter().all(|&v| v == 0) {
        [rows[0].map(|v| v << PASS1_BITS); 8]
    } else {
        pass(&rows, PASS1_SHIFT)
    };
    let transposed = std::array::from_fn(|k| std::array::from_fn(|c| between[c][k]));
    let columns = pass(&transposed, PASS2_SHIFT);
    std::array::from_fn(|y| std::array::from_fn(|x| (columns[x][y].clamp(-128, 127) + 128) as u8))
}
