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

/// Rows of samples.
pub(crate) type Samples = [[u8; 8]; 8];

/// Transforms two blocks, not dequantized, of any components.
pub(crate) type TransformPair = fn([&Block; 2], [&QuantTable; 2]) -> [Samples; 2];

/// The fastest form for this CPU.
pub(crate) fn transform_pair() -> TransformPair {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::has_avx2() {
        // SAFETY: the CPU has AVX2.
        return |blocks, quant| unsafe { crate::idct_avx2::idct_pair(blocks, quant) };
    }
    |blocks, quant| [plain(blocks[0], quant[0]), plain(blocks[1], quant[1])]
}

/// Blocks in a [`Queue`].
const QUEUE: usize = 16;

/// Blocks that were decoded and wait for their transform. Reading a block right after its coefficients were written, in vectors, would
/// wait for the writes.
pub(crate) struct Queue<'a, T> {
    transform: TransformPair,
    /// Those that are not in use are 0.
    blocks: [Block; QUEUE],
    quant: [Option<&'a QuantTable>; QUEUE],
    places: [T; QUEUE],
    used: usize,
}

impl<'a, T: Copy + Default> Queue<'a, T> {
    pub(crate) fn new() -> Self {
        Queue {
            transform: transform_pair(),
            blocks: [[0; 64]; QUEUE],
            quant: [None; QUEUE],
            places: [T::default(); QUEUE],
            used: 0,
        }
    }

    /// The next block, all 0, to be filled before [`push`](Self::push).
    #[inline(always)]
    pub(crate) fn next(&mut self) -> &mut Block {
        &mut self.blocks[self.used % QUEUE]
    }

    /// Takes the block of [`next`](Self::next); `last` is the largest zigzag index with a coefficient other than 0, or larger.
    /// `put` gets samples and the place that came with their block, now or later.
    #[inline(always)]
    pub(crate) fn push(&mut self, last: usize, quant: &'a QuantTable, place: T, mut put: impl FnMut(T, &Samples)) {
        let at = self.used % QUEUE;
        if last == 0 {
            let dc = std::mem::take(&mut self.blocks[at][0]);
            return put(place, &flat(dc, quant[0]));
        }
        self.quant[at] = Some(quant);
        self.places[at] = place;
        self.used += 1;
        if self.used == QUEUE {
            self.flush(put);
        }
    }

    /// Transforms the blocks that wait.
    #[inline(always)]
    pub(crate) fn flush(&mut self, mut put: impl FnMut(T, &Samples)) {
        for first in (0..self.used.min(QUEUE)).step_by(2) {
            let second = if first + 1 < self.used { first + 1 } else { first };
            let (Some(quant), Some(second_quant)) = (self.quant[first], self.quant[second]) else { continue };
            let samples = (self.transform)([&self.blocks[first], &self.blocks[second]], [quant, second_quant]);
            put(self.places[first], &samples[0]);
            put(self.places[second], &samples[1]);
            self.blocks[first] = [0; 64];
            self.blocks[second] = [0; 64];
        }
        self.used = 0;
    }
}

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
fn plain(block: &Block, quant: &QuantTable) -> Samples {
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

    proptest! {
        #[test]
        fn close_to_the_definition(values in prop::collection::vec((0usize..64, -200i16..200), 1..12)) {
            let mut block = [0; 64];
            values.iter().for_each(|&(at, v)| block[at] = v);
            let samples = transform_pair()([&block, &[0; 64]], [&[1; 64]; 2])[0];
            for (s, e) in samples.iter().flatten().zip(exact(&block)) {
                prop_assert!((f64::from(*s) - e).abs() <= 1.0, "{s} {e}");
            }
        }

        #[test]
        fn vectors_and_plain_code_agree(
            values in prop::collection::vec((0usize..64, any::<i16>()), 0..64),
            others in prop::collection::vec((0usize..64, any::<i16>()), 0..3),
            quant in prop::collection::vec(any::<i16>(), 64),
            small: bool,
            swap: bool,
        ) {
            let block = |values: &[(usize, i16)]| {
                let mut block = [0; 64];
                values.iter().for_each(|&(at, v)| block[at] = if small { v >> 10 } else { v });
                block
            };
            let mut blocks = [block(&values), block(&others)];
            if swap {
                blocks.swap(0, 1);
            }
            let quant: QuantTable = std::array::from_fn(|i| if small { quant[i] & 31 } else { quant[i] });
            let pair = transform_pair()([&blocks[0], &blocks[1]], [&quant; 2]);
            prop_assert_eq!(pair, [plain(&blocks[0], &quant), plain(&blocks[1], &quant)]);
        }

        #[test]
        fn a_mean_alone_is_flat(dc: i16, quant: i16) {
            let mut block = [0; 64];
            block[0] = dc;
            prop_assert_eq!(flat(dc, quant), plain(&block, &[quant; 64]));
        }
    }

    #[test]
    fn every_block_of_a_queue_comes_out() {
        let mut queue = Queue::new();
        let mut seen = vec![];
        let quant = [1; 64];
        for place in 0..41 {
            queue.next()[0] = 8 * place as i16;
            let last = if place % 5 == 1 { 0 } else { 7 };
            queue.push(last, &quant, place, |place, samples: &Samples| seen.push((place, samples[0][0])));
        }
        queue.flush(|place, samples: &Samples| seen.push((place, samples[0][0])));
        seen.sort_unstable();
        let expected: Vec<(usize, u8)> = (0..41).map(|place| (place, 128 + place as u8)).collect();
        assert_eq!(seen, expected);
    }
}
