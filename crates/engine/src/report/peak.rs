//! Peak floating-point rate of the CPU, to which reports compare layers.

use web_time::Instant;

use crate::simd::Isa;
use crate::simd::vector::{Simd, SimdFn};

/// Number of independent chains of multiply-adds, which hides their latency on two units.
const CHAINS: usize = 12;
/// Multiply-adds of a chain.
const STEPS: usize = 4000;

/// Multiply-adds on registers only: `STEPS` for each lane of `CHAINS` vectors.
struct MultiplyAdds;

impl SimdFn for MultiplyAdds {
    type Args<'a> = f32;
    type Output = f32;

    /// # Safety
    /// The CPU has `S`.
    #[inline(always)]
    unsafe fn run<S: Simd>(start: f32) -> f32 {
        // SAFETY: arithmetic on registers, and a store to an array with room for the longest vectors.
        unsafe {
            let factor = S::splat(start);
            let mut chains = [factor; CHAINS];
            for _ in 0..STEPS {
                for chain in &mut chains {
                    *chain = S::fma(*chain, factor, factor);
                }
            }
            let mut lanes = [0.0; 16];
            S::store(lanes.as_mut_ptr(), chains.into_iter().fold(S::zero(), |sum, chain| S::add(sum, chain)));
            lanes.iter().sum()
        }
    }
}

/// Billions of f32 multiplications and additions per second of one thread, without memory access.
pub(crate) fn gflops(isa: Isa) -> f64 {
    let flops = (2 * STEPS * CHAINS * isa.lanes()) as f64;
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let start = Instant::now();
        // SAFETY: the CPU has `isa`.
        std::hint::black_box(unsafe { isa.call::<MultiplyAdds>(std::hint::black_box(0.5)) });
        best = best.min(start.elapsed().as_secs_f64());
    }
    flops / best / 1e9
}
