//! Inverse DCT with the arithmetic of libjpeg's `islow`: Loeffler, Ligtenberg and Moschytz, 13-bit constants, 2 more bits
//! between the passes.
//!
//! libjpeg-turbo computes it in vectors of 16 bits. Valid files give the same values either way; for coefficients that no encoder
//! writes, sums wrap and saturate in 16 bits. Both forms here do the same.

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

/// Transforms a block (not dequantized) into 8 rows of 8 samples that are as many bytes apart as the last argument says.
pub(crate) type Transform = fn(&Block, &QuantTable, &mut [u8], usize);

/// The fastest form for this CPU.
pub(crate) fn transform() -> Transform {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::has_avx2() {
        // SAFETY: the CPU has AVX2.
        return |block, quant, out, stride| unsafe { crate::idct_avx2::idct(block, quant, out, stride) };
    }
    plain
}

/// The transform of a block that has only a mean.
#[inline(always)]
pub(crate) fn flat(dc: i16, quant: i16, out: &mut [u8], stride: usize) {
    let scaled = i32::from(dc.wrapping_mul(quant) << PASS1_BITS);
    let sample = ((scaled + (1 << (PASS1_BITS + 2))) >> (PASS1_BITS + 3)).clamp(-128, 127) + 128;
    for row in out.chunks_mut(stride).take(8) {
        row[..8].fill(sample as u8);
    }
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
fn plain(block: &Block, quant: &QuantTable, out: &mut [u8], stride: usize) {
    let rows: [[i16; 8]; 8] =
        std::array::from_fn(|k| std::array::from_fn(|c| block[8 * k + c].wrapping_mul(quant[8 * k + c])));
    let between = if block[8..].iter().all(|&v| v == 0) {
        [rows[0].map(|v| v << PASS1_BITS); 8]
    } else {
        pass(&rows, PASS1_SHIFT)
    };
    let transposed = std::array::from_fn(|k| std::array::from_fn(|c| between[c][k]));
    let columns = pass(&transposed, PASS2_SHIFT);
    for (y, row) in out.chunks_mut(stride).take(8).enumerate() {
        for (x, sample) in row[..8].iter_mut().enumerate() {
            *sample = (columns[x][y].clamp(-128, 127) + 128) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition in T.81, A.3.3, in f64.
    fn exact(block: &Block) -> [f64; 64] {
        let c = |k: usize| if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        let cosine = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|i| {
            let (y, x) = (i / 8, i % 8);
            let mut sum = 0.0;
            for v in 0..8 {
                for u in 0..8 {
                    sum += c(u) * c(v) * f64::from(block[8 * v + u]) * cosine(x, u) * cosine(y, v);
                }
            }
            (sum / 4.0 + 128.0).clamp(0.0, 255.0)
        })
    }

    fn run(f: impl Fn(&mut [u8])) -> [u8; 64] {
        let mut out = [0; 64];
        f(&mut out);
        out
    }

    proptest! {
        #[test]
        fn close_to_the_definition(values in prop::collection::vec((0usize..64, -200i16..200), 1..12)) {
            let mut block = [0; 64];
            values.iter().for_each(|&(at, v)| block[at] = v);
            let samples = run(|out| transform()(&block, &[1; 64], out, 8));
            for (s, e) in samples.iter().zip(exact(&block)) {
                prop_assert!((f64::from(*s) - e).abs() <= 1.0, "{s} {e}");
            }
        }

        #[test]
        fn vectors_and_plain_code_agree(
            values in prop::collection::vec((0usize..64, any::<i16>()), 0..64),
            quant in prop::collection::vec(any::<i16>(), 64),
            small: bool,
        ) {
            let mut block = [0; 64];
            values.iter().for_each(|&(at, v)| block[at] = if small { v >> 10 } else { v });
            let quant: QuantTable = std::array::from_fn(|i| if small { quant[i] & 31 } else { quant[i] });
            prop_assert_eq!(run(|out| transform()(&block, &quant, out, 8)), run(|out| plain(&block, &quant, out, 8)));
        }

        #[test]
        fn a_mean_alone_is_flat(dc: i16, quant: i16) {
            let mut block = [0; 64];
            block[0] = dc;
            let quant = [quant; 64];
            prop_assert_eq!(run(|out| flat(block[0], quant[0], out, 8)), run(|out| plain(&block, &quant, out, 8)));
        }
    }
}
