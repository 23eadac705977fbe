//! What the processor could do at best: the yardstick of the layer reports.

use web_time::Instant;

use crate::kernels::isa::Isa;

/// Independent chains of multiply-adds: enough to hide their latency on two units.
const CHAINS: usize = 12;
const STEPS: usize = 4000;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(start: f32) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let factor = _mm512_set1_ps(start);
    let mut chains = [factor; CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = _mm512_fmadd_ps(*chain, factor, factor);
        }
    }
    chains.into_iter().map(|c| _mm512_reduce_add_ps(c)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(start: f32) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let factor = _mm256_set1_ps(start);
    let mut chains = [factor; CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = _mm256_fmadd_ps(*chain, factor, factor);
        }
    }
    chains.into_iter().map(|c| _mm256_cvtss_f32(c)).sum()
}

/// As the compiler makes it of plain code.
fn plain(start: f32) -> f32 {
    let mut chains = [[start; 4]; CHAINS];
    for _ in 0..STEPS {
        for value in chains.as_flattened_mut() {
            *value = *value * start + start;
        }
    }
    chains.as_flattened().iter().sum()
}

fn run(isa: Isa, start: f32) -> f32 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` names only instructions this processor has.
        Isa::Avx512 => unsafe { avx512(start) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2(start) },
        _ => plain(start),
    }
}

/// Billions of f32 multiplications and additions a second on one thread, measured on registers alone.
pub(crate) fn gflops(isa: Isa) -> f64 {
    let flops = (2 * STEPS * CHAINS * isa.lanes()) as f64;
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let start = Instant::now();
        std::hint::black_box(run(isa, std::hint::black_box(0.5)));
        best = best.min(start.elapsed().as_secs_f64());
    }
    flops / best / 1e9
}
