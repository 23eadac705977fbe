//! When a burst is over: memory that it has left to the allocator goes back to the system.

use crate::allocator;
use crate::server::State;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two looks at what goes on.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Nothing has gone on for so long: a pause within a burst is shorter.
const PAUSE: Duration = Duration::from_secs(5);
/// Where there is never a pause.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Gives memory back whenever it is worth it, for ever.
pub async fn give_back(state: Arc<State>) {
    let mut rest = Rest::new(Instant::now());
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let load = state.inference.status();
        let idle = load.busy + load.waiting == 0 && state.metrics.in_flight() == 0;
        if rest.is_due(Instant::now(), idle, state.metrics.requests_so_far()) {
            let started = Instant::now();
            let given_back = tokio::task::spawn_blocking(allocator::give_back).await;
            tracing::debug!(ms = started.elapsed().as_secs_f64() * 1e3, ok = given_back.is_ok(), "gave memory back");
        }
    }
}

/// Tells when memory is to be given back.
struct Rest {
    given_back: Instant,
    /// Requests until then.
    requests: u64,
    busy: Instant,
}

impl Rest {
    fn new(now: Instant) -> Self {
        Rest { given_back: now, requests: 0, busy: now }
    }

    /// Whether it is now, after so many requests, when something goes on or nothing does.
    fn is_due(&mut self, now: Instant, idle: bool, requests: u64) -> bool {
        if !idle {
            self.busy = now;
        }
        let is_due = requests != self.requests
            && (now - self.busy >= PAUSE || now - self.given_back >= AT_LEAST_EVERY)
            && now - self.given_back >= PAUSE;
        if is_due {
            (self.given_back, self.requests) = (now, requests);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_in_a_pause_or_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rest = Rest::new(start);
        let due = |rest: &mut Rest, from: u64, to: u64, idle, requests: u64| {
            (from..to).filter(|second| rest.is_due(at(*second), idle, requests)).collect::<Vec<_>>()
        };
        assert!(due(&mut rest, 0, 100, true, 0).is_empty(), "nothing has happened");
        assert_eq!(due(&mut rest, 100, 102, false, 10), [100]);
        assert!(due(&mut rest, 102, 110, false, 50).is_empty(), "a burst");
        assert_eq!(due(&mut rest, 110, 200, true, 60), [114], "once");
        let busy: Vec<u64> = (200..400).filter(|second| rest.is_due(at(*second), false, *second)).collect();
        assert_eq!(busy, [200, 260, 320, 380], "in a load without end");
    }
}
