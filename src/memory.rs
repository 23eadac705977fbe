//! Memory of the process: configures the C library's allocator, and returns free pages to the operating system after a
//! burst.
//!
//! glibc maps each large block separately. But the first freed block raises the threshold for such blocks, up to 32 MB:
//! from then on, pictures are allocated among small blocks, in one arena per thread, and leave holes that only grow. A
//! fixed threshold and few arenas keep the resident set of a service constant (`benches/soak.py`).

use std::time::{Duration, Instant};

/// Blocks of this size and larger are mapped, and unmapped when freed. A picture of 600x600 pixels is as large.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 1 << 20;
/// Maximum number of malloc arenas. Inference and decoding have about one thread per core each, and few threads hold
/// requests.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAX_ARENAS: libc::c_int = 4;

/// Time between two checks of the trim schedule.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time without work after which memory is trimmed. Pauses within a burst are shorter.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// Maximum time between two trims under constant load.
const MAX_TRIM_INTERVAL: Duration = Duration::from_secs(60);

/// Configures malloc of glibc; does nothing with other C libraries. Call it before threads are started.
pub fn configure_malloc() {
    // Variables that tune malloc have precedence.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::vars_os().all(|(name, _)| name != "GLIBC_TUNABLES" && !name.to_string_lossy().starts_with("MALLOC_")) {
        // SAFETY: sets two numbers of the allocator, which accepts any value; no other thread runs yet. A refused value
        // changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
            libc::mallopt(libc::M_ARENA_MAX, MAX_ARENAS);
        }
    }
}

/// Load of the process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// No request runs or waits.
    pub idle: bool,
    /// Number of requests since the start.
    pub requests: u64,
}

/// Returns free heap pages to the OS after 5 s without work, and once a minute under constant load. Never ends.
pub async fn trim_periodically(activity: impl Fn() -> Activity) {
    let mut schedule = TrimSchedule::new(Instant::now());
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Activity { idle, requests } = activity();
        if schedule.is_due(Instant::now(), idle, requests) {
            let started = Instant::now();
            let trimmed = tokio::task::spawn_blocking(trim).await;
            tracing::debug!(ms = started.elapsed().as_secs_f64() * 1e3, ok = trimmed.is_ok(), "trimmed memory");
        }
    }
}

/// Returns the free pages between used blocks to the operating system. Takes some milliseconds, in which other threads
/// may wait for a block. Does nothing without glibc.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes the allocator's own locks, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Decides when to trim.
struct TrimSchedule {
    last_trim: Instant,
    /// Number of requests at the last trim.
    requests: u64,
    last_busy: Instant,
}

impl TrimSchedule {
    fn new(now: Instant) -> Self {
        TrimSchedule { last_trim: now, requests: 0, last_busy: now }
    }

    /// True if memory is to be trimmed now. `idle`: no request runs or waits. `requests`: number of requests since the
    /// start.
    fn is_due(&mut self, now: Instant, idle: bool, requests: u64) -> bool {
        if !idle {
            self.last_busy = now;
        }
        let is_due = requests != self.requests
            && (now - self.last_busy >= IDLE_TIME || now - self.last_trim >= MAX_TRIM_INTERVAL)
            && now - self.last_trim >= IDLE_TIME;
        if is_due {
            (self.last_trim, self.requests) = (now, requests);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn pages_between_used_blocks_are_returned() {
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        // Other tests of this process allocate in the meantime.
        let returned = (0..20).any(|_| {
            let mut blocks: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 32 << 10]).collect();
            let mut number = 0;
            blocks.retain(|_| {
                number += 1;
                number % 8 == 0
            });
            let before = resident();
            trim();
            resident() + (64 << 20) < before
        });
        assert!(returned);
    }

    #[test]
    fn memory_is_trimmed_in_a_pause_or_after_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = TrimSchedule::new(start);
        let due = |schedule: &mut TrimSchedule, from: u64, to: u64, idle, requests: u64| {
            (from..to).filter(|second| schedule.is_due(at(*second), idle, requests)).collect::<Vec<_>>()
        };
        assert!(due(&mut schedule, 0, 100, true, 0).is_empty(), "nothing has happened");
        assert_eq!(due(&mut schedule, 100, 102, false, 10), [100]);
        assert!(due(&mut schedule, 102, 110, false, 50).is_empty(), "a burst");
        assert_eq!(due(&mut schedule, 110, 200, true, 60), [114], "once");
        let busy: Vec<u64> = (200..400).filter(|second| schedule.is_due(at(*second), false, *second)).collect();
        assert_eq!(busy, [200, 260, 320, 380], "under constant load");
    }
}
