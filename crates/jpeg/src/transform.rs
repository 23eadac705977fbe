//! The transform of blocks to samples: the form for this CPU, and a queue that feeds it.

use crate::idct::{Block, Samples, flat, plain};
use crate::tables::QuantTable;

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

/// Decoded blocks that wait for their transform. Reading a block in vectors right after its coefficients were written
/// would wait for the writes.
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

    /// Takes the block of [`next`](Self::next). `last` is at least the largest zigzag index with a coefficient other
    /// than 0. `put` gets the samples and `place` of each block, now or in a later call.
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
            if second != first {
                put(self.places[second], &samples[1]);
            }
            self.blocks[first] = [0; 64];
            self.blocks[second] = [0; 64];
        }
        self.used = 0;
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
