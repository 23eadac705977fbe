//! Threads that run networks, and their treatment of denormal numbers.
//!
//! Some published weights are full of numbers below 1e-38, on which processors are five to ten times slower. The
//! engine's own threads flush them to zero for good; a caller's thread does so for the length of a run.

use std::cell::Cell;
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::config;
use crate::run::team::{GLOBAL, run_with_team};

static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
static PREPARING: OnceLock<Option<ThreadPool>> = OnceLock::new();
static REQUESTED: OnceLock<usize> = OnceLock::new();

thread_local! {
    /// Whether this thread runs networks without the engine's pool.
    static CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// Sets the number of threads one inference may use, for the whole process. Returns false, and changes nothing, if it
/// was set before or a network has run.
pub fn set_threads(count: usize) -> bool {
    POOL.get().is_none() && REQUESTED.set(count.max(1)).is_ok()
}

/// The engine's threads: number from [`set_threads`], else from [`config::threads`], else one for each core. `None` for
/// one thread, and in a browser, where they are rayon's [`GLOBAL`] pool.
fn pool() -> Option<&'static ThreadPool> {
    POOL.get_or_init(|| build("engine")).as_ref()
}

fn build(name: &'static str) -> Option<ThreadPool> {
    let count = REQUESTED.get().copied().or_else(config::threads).unwrap_or_else(cores);
    if count == 1 || GLOBAL {
        return None;
    }
    let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(move |i| format!("{name}-{i}"));
    // The guard is never dropped: these threads do nothing else.
    builder.start_handler(|_| std::mem::forget(FlushDenormals::new())).build().ok()
}

/// Number of threads that one inference may use: the size of the engine's pool.
pub fn threads() -> usize {
    match pool() {
        Some(pool) => pool.current_num_threads(),
        None if GLOBAL => rayon::current_num_threads(),
        None => 1,
    }
}

/// Runs `work` on the engine's threads. All its parallel work, networks and other tasks, stays on them.
pub fn run_on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// Runs `work` with networks confined to the calling thread. For callers that run one inference on each core at the
/// same time: they finish earlier when none waits for the threads of another.
pub fn run_on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            CONFINED.set(self.0);
        }
    }
    let _before = Before(CONFINED.replace(true));
    work()
}

/// Number of inferences that run at the same time in normal operation: one for each core, or for each of the engine's
/// threads.
pub(crate) fn max_concurrent_runs() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    threads().max(*CORES.get_or_init(cores))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Number of threads to pack weights on.
pub(crate) fn packers() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` on this thread with denormals flushed. Its layers use the engine's other threads, too, except within
/// [`run_on_this_thread`].
pub(crate) fn run<R>(work: impl FnOnce() -> R) -> R {
    let _guard = FlushDenormals::new();
    match pool().filter(|_| !CONFINED.get()) {
        Some(pool) => run_with_team(Some(pool), work),
        None if GLOBAL && !CONFINED.get() => run_with_team(None, work),
        None => work(),
    }
}

/// Runs `work`, which prepares a plan, with denormals flushed and on a separate pool. On the engine's pool, an
/// inference that waits for the rest of a layer would take up tasks of `work`, and pack weights for seconds.
pub(crate) fn prepare<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match pool().and_then(|_| PREPARING.get_or_init(|| build("prepare")).as_ref()) {
        Some(threads) => threads.install(work),
        None => {
            let _guard = FlushDenormals::new();
            work()
        }
    }
}

/// While it lives, this thread treats denormal operands and results as zero.
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
        // SAFETY: stores the SSE control register, which every x86-64 has, to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack, preserves_flags)) };
        u64::from(value)
    }

    pub fn write(value: u64) {
        let value = value as u32;
        // SAFETY: loads a value that came from `read`, changed in two documented bits only.
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
        // SAFETY: writes a value that came from `read`, changed in one documented bit only.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::parallel::each_part;

    fn halve_the_smallest() -> f32 {
        std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5)
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn denormals_vanish_while_the_guard_lives() {
        assert!(halve_the_smallest() > 0.0);
        let guard = FlushDenormals::new();
        assert_eq!(halve_the_smallest(), 0.0);
        drop(guard);
        assert!(halve_the_smallest() > 0.0);
    }

    #[test]
    fn networks_run_on_this_thread_when_confined() {
        assert_eq!(run(crate::run::team::threads), threads());
        assert_eq!(run_on_this_thread(|| run(crate::run::team::threads)), 1);
        // The confinement ends with a panic, too.
        let _ = std::panic::catch_unwind(|| run_on_this_thread(|| panic!("in an inference")));
        assert_eq!(run(crate::run::team::threads), threads());
        let here = std::thread::current().id();
        assert_eq!(run_on_pool(|| std::thread::current().id()) == here, threads() == 1);
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn workers_flush_denormals_too() {
        let mut halves = vec![1.0; 64];
        run(|| {
            each_part(&mut halves, 1, |_, half| {
                half[0] = halve_the_smallest();
                std::thread::yield_now();
            })
        });
        assert_eq!(halves, vec![0.0; 64]);
        assert!(halve_the_smallest() > 0.0);
    }
}
