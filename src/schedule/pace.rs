//! Measures how fast images are finished under load.

use std::time::{Duration, Instant};

/// Weight of the newest interval in the moving average: the average covers about twenty images.
const NEWEST_WEIGHT: f64 = 0.1;

/// Average time between finished images while others wait.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    /// In seconds.
    interval: Option<f64>,
}

impl Pace {
    /// Records a finished image. `others_wait`: other images wait; the idle time after an image without followers is no
    /// measure of speed and does not count.
    pub fn image_done(&mut self, now: Instant, others_wait: bool) {
        if let Some(last) = self.last {
            let seconds = now.saturating_duration_since(last).as_secs_f64();
            self.interval = Some(self.interval.map_or(seconds, |known| known + NEWEST_WEIGHT * (seconds - known)));
        }
        self.last = others_wait.then_some(now);
    }

    /// Estimated time for `images`; zero before anything was measured.
    pub fn time_for(&self, images: usize) -> Duration {
        Duration::from_secs_f64((self.interval.unwrap_or(0.0) * images as f64).min(86400.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_does_not_count() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.time_for(1000), Duration::ZERO);
        pace.image_done(at(0), true);
        pace.image_done(at(100), true);
        pace.image_done(at(200), false);
        // A pause.
        pace.image_done(at(9000), true);
        assert_eq!(pace.time_for(10), Duration::from_secs(1));
        for n in 0..100 {
            pace.image_done(at(9000 + n * 50), true);
        }
        assert!((pace.time_for(20).as_secs_f64() - 1.0).abs() < 0.01);
    }
}
