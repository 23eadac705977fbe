//! How fast images are done while there is enough to do.

use std::time::{Duration, Instant};

/// Weight of the newest interval: some twenty images are remembered.
const NEWEST: f64 = 0.1;

/// Time between images that are done, while others wait.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    /// In seconds.
    interval: Option<f64>,
}

impl Pace {
    /// Notes that an image is done; `more` says whether others wait. Idle times tell nothing about speed and do not count.
    pub fn done(&mut self, now: Instant, more: bool) {
        if let Some(last) = self.last {
            let seconds = now.saturating_duration_since(last).as_secs_f64();
            self.interval = Some(self.interval.map_or(seconds, |known| known + NEWEST * (seconds - known)));
        }
        self.last = more.then_some(now);
    }

    /// What `images` will take; nothing when that is not known.
    pub fn time_for(&self, images: usize) -> Duration {
        Duration::from_secs_f64((self.interval.unwrap_or(0.0) * images as f64).min(86400.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_busy_times_count() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.time_for(1000), Duration::ZERO);
        pace.done(at(0), true);
        pace.done(at(100), true);
        pace.done(at(200), false);
        // A pause.
        pace.done(at(9000), true);
        assert_eq!(pace.time_for(10), Duration::from_secs(1));
        for n in 0..100 {
            pace.done(at(9000 + n * 50), true);
        }
        assert!((pace.time_for(20).as_secs_f64() - 1.0).abs() < 0.01);
    }
}
