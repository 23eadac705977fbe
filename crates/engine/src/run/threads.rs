//! Thread pools of the engine. They treat denormal numbers as zero; a thread of the caller does so during a run.

use std::cell::Cell;
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::config;
use crate::run::denormals::FlushDenormals;
use crate::run::team::{USES_GLOBAL_POOL, run_with_team};

/// Threads for inference.
static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
/// Threads for the preparation of plans.
static PREPARING: OnceLock<Option<ThreadPool>> = OnceLock::new();
/// Number of threads from [`set_threads`].
static REQUESTED: OnceLock<usize> = OnceLock::new();

thread_local! {
    /// Whether this thread runs networks without the engine's pool.
    static CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// Sets the number of threads that one inference may use, for the whole process. Returns false, without any effect, if
/// it was set before or if a network has run.
pub fn set_threads(count: usize) -> bool {
    POOL.get().is_none() && REQUESTED.set(count.max(1)).is_ok()
}

/// The pool for inference. Its number of threads comes from [`set_threads`], from [`config::threads`] or from the
/// number of cores, in this order. `None` for one thread, and with [`USES_GLOBAL_POOL`].
fn pool() -> Option<&'static ThreadPool> {
    POOL.get_or_init(|| build("engine")).as_ref()
}

/// A pool whose threads have this name.
fn build(name: &'static str) -> Option<ThreadPool> {
    let count = REQUESTED.get().copied().or_else(config::threads).unwrap_or_else(cores);
    if count == 1 || USES_GLOBAL_POOL {
        return None;
    }
    let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(move |i| format!("{name}-{i}"));
    // The guard is never dropped: these threads only run networks.
    builder.start_handler(|_| std::mem::forget(FlushDenormals::new())).build().ok()
}

/// Number of threads that one inference may use: the size of the engine's pool.
pub fn threads() -> usize {
    match pool() {
        Some(pool) => pool.current_num_threads(),
        None if USES_GLOBAL_POOL => rayon::current_num_threads(),
        None => 1,
    }
}

/// Runs `work` on the engine's threads. Its parallel work, networks and other rayon tasks, runs on them, too.
pub fn run_on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// Runs `work` with networks confined to the calling thread. For callers that run one inference on each core: this is
/// faster than inferences that wait for the threads of each other.
pub fn run_on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    struct RestoreConfinement(bool);
    impl Drop for RestoreConfinement {
        fn drop(&mut self) {
            CONFINED.set(self.0);
        }
    }
    let _restore = RestoreConfinement(CONFINED.replace(true));
    work()
}

/// Number of inferences that run at the same time in normal operation: one for each core, or for each of the engine's
/// threads.
pub(crate) fn max_concurrent_runs() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    threads().max(*CORES.get_or_init(cores))
}

/// Number of cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Number of threads that pack weights.
pub(crate) fn packers() -> usize {
    rayon::current_num_threads()
}

/// Runs `work` on this thread with denormals flushed. Its layers also use the engine's other threads, except inside
/// [`run_on_this_thread`].
pub(crate) fn run<R>(work: impl FnOnce() -> R) -> R {
    let _guard = FlushDenormals::new();
    match pool().filter(|_| !CONFINED.get()) {
        Some(pool) => run_with_team(Some(pool), work),
        None if USES_GLOBAL_POOL && !CONFINED.get() => run_with_team(None, work),
        None => work(),
    }
}

/// Runs `work`, which prepares a plan, with denormals flushed and on a separate pool. On the pool for inference, a
/// running inference could take over a task of `work` and pack weights for seconds.
pub(crate) fn prepare<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match pool().and_then(|_| PREPARING.get_or_init(|| build("prepare")).as_ref()) {
        Some(threads) => threads.install(work),
        None => {
            let _guard = FlushDenormals::new();
            work()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::team;

    #[test]
    fn run_uses_one_thread_when_confined() {
        assert_eq!(run(team::threads), threads());
        assert_eq!(run_on_this_thread(|| run(team::threads)), 1);
        // The confinement ends with a panic, too.
        let _ = std::panic::catch_unwind(|| run_on_this_thread(|| panic!("in an inference")));
        assert_eq!(run(team::threads), threads());
        let here = std::thread::current().id();
        assert_eq!(run_on_pool(|| std::thread::current().id()) == here, threads() == 1);
    }
}
