//! Progress of a run on standard error: a bar on a terminal, a line every 30 s elsewhere.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::inputs::Inputs;
use super::record::{PictureStatus, Record};

/// Time between two lines if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub pictures: usize,
    pub faces: usize,
    /// Number of pictures that failed.
    pub failed: usize,
}

impl Totals {
    /// Adds a picture with `faces` faces.
    pub fn add(&mut self, faces: usize, status: PictureStatus) {
        self.pictures += 1;
        self.faces += faces;
        self.failed += usize::from(status == PictureStatus::Failed);
    }
}

/// Counts pictures and faces, and shows the counts on standard error.
pub(super) struct RunProgress {
    bar: ProgressBar,
    lines: bool,
    started: Instant,
    last_line: Instant,
    /// Number of pictures of the whole run; 0 while they are being counted.
    total: Arc<AtomicUsize>,
    /// Number of pictures of earlier runs.
    before: usize,
    /// Counts of earlier runs and this one.
    totals: Totals,
}

impl RunProgress {
    /// Counts the pictures of `named` in the background; `before` has the counts of earlier runs. `lines` enables lines
    /// without a terminal.
    pub fn start(named: &[PathBuf], before: Totals, lines: bool) -> RunProgress {
        let many = named.len() > 1 || named.iter().any(|p| p.is_dir());
        let bar = ProgressBar::with_draw_target(
            None,
            if many { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let template = "{bar:32} {pos}/{len} pictures, {per_sec}, {eta} left, {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let total = Arc::new(AtomicUsize::new(0));
        let lines = lines && many && !std::io::stderr().is_terminal();
        if lines || !bar.is_hidden() {
            let (named, total, bar) = (named.to_vec(), total.clone(), bar.clone());
            // Detached: a run may end before the walk of a slow disk does.
            std::thread::spawn(move || {
                let count = Inputs::new(named).count();
                total.store(count, Ordering::Relaxed);
                bar.set_length(count.saturating_sub(before.pictures) as u64);
            });
        }
        let now = Instant::now();
        RunProgress { bar, lines, started: now, last_line: now, total, before: before.pictures, totals: before }
    }

    pub fn add(&mut self, record: &Record) {
        self.totals.add(record.faces.len(), record.status);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} faces, {} failed", self.totals.faces, self.totals.failed));
            self.bar.inc(1);
        }
        if self.lines && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            eprintln!("ifr: {}", self.line());
        }
    }

    /// Counts of earlier runs and this one.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// One line with the counts, the rate of this run and the remaining time.
    pub fn line(&self) -> String {
        let Totals { pictures, faces, failed } = self.totals;
        let rate = (pictures - self.before) as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        let total = self.total.load(Ordering::Relaxed);
        let (of, left) = match total.saturating_sub(pictures) {
            0 => (String::new(), String::new()),
            left => (format!(" of {total}"), format!(", {} left", readable(left as f64 / rate.max(1e-6)))),
        };
        format!("{pictures}{of} pictures, {rate:.1}/s{left}, {faces} faces, {failed} failed")
    }
}

/// Seconds in the unit that is easiest to read.
fn readable(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_counts_and_the_remaining_time() {
        let mut progress = RunProgress::start(&["one.jpg".into()], Totals { pictures: 50, faces: 7, failed: 2 }, false);
        progress.started = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        for _ in 0..200 {
            progress.add(&Record::failed("x".into(), 1.0, "no".into()));
        }
        assert_eq!(progress.line(), "250 pictures, 2.0/s, 7 faces, 202 failed");
        progress.total.store(1_000, Ordering::Relaxed);
        assert_eq!(progress.line(), "250 of 1000 pictures, 2.0/s, 6 min left, 7 faces, 202 failed");
        assert_eq!([10.0, 100.0, 9_000.0].map(readable), ["10 s", "2 min", "2.5 h"]);
    }
}
