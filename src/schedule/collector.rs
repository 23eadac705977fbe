//! Collects the results of a request's images and sends them off when they are complete.

use super::error::{FailureKind, ImageFailure};
use super::request::{ImageAnalysis, OutcomeSink};
use parking_lot::{Mutex, MutexGuard};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Runs code that may hit a defect of this program. A panic fails one image, and its message goes into the log.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> Result<T, ImageFailure>) -> Result<T, ImageFailure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        tracing::error!(panic = panic_message(&*payload), "a panic on an image; it fails alone");
        Err(ImageFailure::Panic)
    })
}

/// The text of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The results of all images of a request.
#[derive(Debug)]
pub struct RequestOutcome<T> {
    /// One result per image, in the order of the request.
    pub images: Vec<Result<T, ImageFailure>>,
    /// Time from the entry of the request to its first decoded image; the others are decoded during analysis.
    pub decoding: Duration,
    /// Time from the first decoded image to the last result.
    pub analyzing: Duration,
    /// Time inside `finish`, summed over all images.
    pub finishing: Duration,
}

type Finish<T> = Box<dyn Fn(ImageAnalysis) -> Result<T, ImageFailure> + Send + Sync>;

/// The sink of one request: runs `finish` on each result, and sends all of them when the last has arrived.
pub(crate) struct Collector<T> {
    finish: Finish<T>,
    started: Instant,
    collected: Mutex<Collected<T>>,
}

struct Collected<T> {
    images: Vec<Option<Result<T, ImageFailure>>>,
    missing: usize,
    first_decoded: Option<Instant>,
    finishing: Duration,
    sender: Option<oneshot::Sender<RequestOutcome<T>>>,
}

impl<T: Send + 'static> Collector<T> {
    /// For a request of `images` images.
    pub fn new(
        images: usize,
        finish: impl Fn(ImageAnalysis) -> Result<T, ImageFailure> + Send + Sync + 'static,
    ) -> (Self, oneshot::Receiver<RequestOutcome<T>>) {
        let (sender, outcome) = oneshot::channel();
        let collected = Collected {
            images: (0..images).map(|_| None).collect(),
            missing: images,
            first_decoded: None,
            finishing: Duration::ZERO,
            sender: Some(sender),
        };
        let collected = Mutex::new(collected);
        let collector = Collector { finish: Box::new(finish), started: Instant::now(), collected };
        if images == 0 {
            collector.send(&mut collector.lock());
        }
        (collector, outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Collected<T>> {
        self.collected.lock()
    }

    fn send(&self, collected: &mut Collected<T>) {
        let Some(sender) = collected.sender.take() else { return };
        let now = Instant::now();
        let decoded = collected.first_decoded.unwrap_or(now);
        let outcome = RequestOutcome {
            images: std::mem::take(&mut collected.images).into_iter().flatten().collect(),
            decoding: decoded - self.started,
            analyzing: now - decoded,
            finishing: collected.finishing,
        };
        // Fails when the caller is gone, and then the result is not needed.
        let _ = sender.send(outcome);
    }
}

impl<T: Send + 'static> OutcomeSink for Collector<T> {
    fn decoded(&self) {
        self.lock().first_decoded.get_or_insert_with(Instant::now);
    }

    fn put(&self, index: usize, result: Result<ImageAnalysis, ImageFailure>) -> Option<FailureKind> {
        let began = Instant::now();
        let finished = result.and_then(|analysis| catch_panic(|| (self.finish)(analysis)));
        let took = began.elapsed();
        let kind = finished.as_ref().err().map(ImageFailure::kind);
        let mut collected = self.lock();
        collected.finishing += took;
        match collected.images.get_mut(index) {
            Some(slot @ None) => *slot = Some(finished),
            _ => return None,
        }
        collected.missing -= 1;
        if collected.missing == 0 {
            self.send(&mut collected);
        }
        kind
    }

    fn missing(&self) -> usize {
        self.lock().missing
    }
}
