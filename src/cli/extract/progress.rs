//! How far a run is: a bar on a terminal, else a line now and then.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::inputs::Inputs;
use super::record::{Record, Status};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// What has been done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub pictures: usize,
    pub faces: usize,
    /// Those of the pictures that failed.
    pub failed: usize,
}

impl Totals {
    /// Adds a picture with so many faces.
    pub fn add(&mut self, faces: usize, status: Status) {
        self.pictures += 1;
        self.faces += faces;
        self.failed += usize::from(status == Status::Failed);
    }
}

/// Counts what is done and shows it on standard error.
pub(super) struct Progress {
    bar: ProgressBar,
    lines: bool,
    started: Instant,
    last_line: Instant,
    /// Pictures of the whole run; 0 while they are being counted.
    total: Arc<AtomicUsize>,
    /// Pictures that earlier runs did.
    before: usize,
    /// What they and this run did.
    totals: Totals,
}

impl Progress {
    /// Counts the pictures of `named` in the background; `before` is what earlier runs did. `lines` asks for lines where there is no terminal.
    pub fn start(named: &[PathBuf], before: Totals, lines: bool) -> Progress {
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
            // Not waited for: a run may be over, or given up, before a slow disk has been walked.
            std::thread::spawn(move || {
                let count = Inputs::new(named).count();
                total.store(count, Ordering::Relaxed);
                bar.set_length(count.saturating_sub(before.pictures) as u64);
            });
        }
        let now = Instant::now();
        Progress { bar, lines, started: now, last_line: now, total, before: before.pictures, totals: before }
    }

    pub fn add(&mut self, record: &Record) {
        self.totals.add(record.faces.len(), record.status);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} faces, {} failed", self.totals.faces, self.totals.failed));
            self.bar.inc(1);
        }
        if self.lines && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("ifr: {}", self.line());
        }
    }

    /// What this run and those before it did.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// One line on what was done by this run and those before it, how fast this one is, and how long it takes yet.
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

/// Seconds as a person says them.
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
    fn a_line_says_how_far_and_how_long() {
        let mut progress = Progress::start(&["one.jpg".into()], Totals { pictures: 50, faces: 7, failed: 2 }, false);
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
