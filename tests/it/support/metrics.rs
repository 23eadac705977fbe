//! Values on the page of metrics.

use std::time::{Duration, Instant};

/// A service with a page of metrics.
pub trait Measured {
    fn metrics(&self) -> String;
}

/// The value of a metric, named with its labels as on the page. `None` before the first count.
fn metric_if_any(service: &impl Measured, name: &str) -> Option<f64> {
    let page = service.metrics();
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(|value| value.parse().unwrap())
}

/// The value of a metric that is on the page.
pub fn metric(service: &impl Measured, name: &str) -> f64 {
    metric_if_any(service, name).unwrap_or_else(|| panic!("{name} is not on the page"))
}

/// Waits until the value of a metric passes `is_right`; returns it. Fails after 60 s.
pub fn until(service: &impl Measured, name: &str, is_right: impl Fn(f64) -> bool) -> f64 {
    let started = Instant::now();
    loop {
        let value = metric_if_any(service, name);
        if let Some(value) = value.filter(|value| is_right(*value)) {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{name} stays {value:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
