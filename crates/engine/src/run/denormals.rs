//! Treatment of denormal numbers as zero.
//!
//! The weights of some published networks contain many numbers below 1e-38, with which CPUs are five to ten times
//! slower.

/// Guard: until it is dropped, this thread treats denormal operands and results as zero. Has no effect on architectures
/// without such a mode.
pub(crate) struct FlushDenormals {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    before: u64,
}

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    /// Flush to zero (bit 15) and denormals are zero (bit 6) of MXCSR.
    pub const FLUSH: u64 = 1 << 15 | 1 << 6;

    pub fn read() -> u64 {
        let mut value = 0u32;
        // SAFETY: stores the SSE control register, which every x86-64 CPU has, to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack, preserves_flags)) };
        u64::from(value)
    }

    pub fn write(value: u64) {
        let value = value as u32;
        // SAFETY: loads a value from `read` in which only two documented bits were changed.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, preserves_flags, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    /// Flush to zero (bit 24) of FPCR.
    pub const FLUSH: u64 = 1 << 24;

    pub fn read() -> u64 {
        let value: u64;
        // SAFETY: reads the floating-point control register, which is accessible to user programs.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    pub fn write(value: u64) {
        // SAFETY: writes a value from `read` in which only one documented bit was changed.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}

impl FlushDenormals {
    pub fn new() -> FlushDenormals {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let before = control::read();
            control::write(before | control::FLUSH);
            FlushDenormals { before }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        FlushDenormals {}
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        control::write(self.before);
    }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;
    use crate::run::parallel::parallel_chunks;
    use crate::run::threads;

    fn half_of_smallest_normal() -> f32 {
        std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5)
    }

    #[test]
    fn denormals_are_zero_during_the_guard() {
        assert!(half_of_smallest_normal() > 0.0);
        let guard = FlushDenormals::new();
        assert_eq!(half_of_smallest_normal(), 0.0);
        drop(guard);
        assert!(half_of_smallest_normal() > 0.0);
    }

    #[test]
    fn denormals_are_zero_on_all_threads_of_a_run() {
        let mut halves = vec![1.0; 64];
        threads::run(|| {
            parallel_chunks(&mut halves, 1, |_, half| {
                half[0] = half_of_smallest_normal();
                std::thread::yield_now();
            })
        });
        assert_eq!(halves, vec![0.0; 64]);
        assert!(half_of_smallest_normal() > 0.0);
    }
}
