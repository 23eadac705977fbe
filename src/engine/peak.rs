//! What the processor could do at best: the yardstick of the layer reports.

use web_time::Instant;

use super::kernels::Isa;
use super::ops::vectorized;

/// Independent chains of multiply-adds: enough to hide their latency on two units.
const CHAINS: usize = 12;
const STEPS: usize = 2000;

vectorized! {
    fn multiply_add<L>(state: &mut [f32]) {
        let mut chains = [[0.0f32; L]; CHAINS];
        for (chain, values) in chains.iter_mut().zip(state.chunks_exact(L)) {
            chain.copy_from_slice(&values[..L]);
        }
        for _ in 0..STEPS {
            for chain in &mut chains {
                for v in chain {
                    *v = if L > 4 { v.mul_add(0.999, 1e-3) } else { *v * 0.999 + 1e-3 };
                }
            }
        }
        for (chain, values) in chains.iter().zip(state.chunks_exact_mut(L)) {
            values.copy_from_slice(chain);
        }
    }
}

/// Billions of f32 multiplications and additions a second on one thread, measured on registers alone.
pub(super) fn gflops(isa: Isa) -> f64 {
    let mut state = vec![0.5f32; CHAINS * isa.lanes()];
    let flops = (2 * STEPS * state.len()) as f64;
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let start = Instant::now();
        multiply_add(isa, &mut state);
        std::hint::black_box(&mut state);
        best = best.min(start.elapsed().as_secs_f64());
    }
    flops / best / 1e9
}
