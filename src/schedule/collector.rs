//! Where the outcomes of a request's images come together.

use super::Frame;
use crate::analyzer::{Description, ImageFaces};
use crate::server::telemetry::metrics::FailureKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why an image failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// For the metrics.
    pub kind: FailureKind,
    /// One sentence, for the client.
    pub reason: String,
}

impl Failure {
    pub(crate) fn read(reason: String) -> Self {
        Failure { kind: FailureKind::Read, reason }
    }
}

/// Runs what may hit a defect of this program: a panic becomes a sentence, and only the image that caused it fails.
pub(crate) fn guarded<T>(kind: FailureKind, work: impl FnOnce() -> Result<T, String>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|reason| Failure { kind, reason }),
        Err(_) => Err(Failure { kind: FailureKind::Panic, reason: "an internal error on this image".into() }),
    }
}

/// What the networks say of one image.
pub enum Product {
    /// The faces of a photo, and the photo itself if it was to be kept.
    Faces(ImageFaces, Option<Arc<Frame>>),
    /// What an aligned face is like.
    Crop(Description),
}

/// What all images of a request gave.
#[derive(Debug)]
pub struct Outcomes<T> {
    /// In the order of the request; one sentence for an image that failed.
    pub images: Vec<Result<T, String>>,
    /// From the request's entry to its first decoded image; the others are decoded meanwhile.
    pub decoding: Duration,
    /// From then to the end.
    pub analyzing: Duration,
    /// What `finish` took, all images together.
    pub finishing: Duration,
}

/// Takes outcomes in, in any order.
pub(crate) trait Collect: Send + Sync {
    /// Notes that an image has been decoded, or could not be.
    fn decoded(&self);
    /// The outcome of image `index`; returns its failure, if it is or becomes one. An image counts once, the first time.
    fn put(&self, index: usize, outcome: Result<Product, Failure>) -> Option<FailureKind>;
    /// Images whose outcome is not in yet.
    fn missing(&self) -> usize;
}

type Finish<T> = Box<dyn Fn(Product) -> Result<T, String> + Send + Sync>;

/// Collects outcomes made into what the request's handler wants; sends them off when they are complete.
pub(crate) struct Collector<T> {
    finish: Finish<T>,
    started: Instant,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    images: Vec<Option<Result<T, String>>>,
    missing: usize,
    first_decoded: Option<Instant>,
    finishing: Duration,
    done: Option<oneshot::Sender<Outcomes<T>>>,
}

impl<T: Send + 'static> Collector<T> {
    /// For so many images.
    pub fn new(
        images: usize,
        finish: impl Fn(Product) -> Result<T, String> + Send + Sync + 'static,
    ) -> (Self, oneshot::Receiver<Outcomes<T>>) {
        let (done, outcomes) = oneshot::channel();
        let inner = Inner {
            images: (0..images).map(|_| None).collect(),
            missing: images,
            first_decoded: None,
            finishing: Duration::ZERO,
            done: Some(done),
        };
        let collector = Collector { finish: Box::new(finish), started: Instant::now(), inner: Mutex::new(inner) };
        if images == 0 {
            collector.send(&mut collector.lock());
        }
        (collector, outcomes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, inner: &mut Inner<T>) {
        let Some(done) = inner.done.take() else { return };
        let now = Instant::now();
        let decoded = inner.first_decoded.unwrap_or(now);
        let images = std::mem::take(&mut inner.images).into_iter();
        let outcomes = Outcomes {
            images: images.map(|image| image.unwrap_or_else(|| Err("no result".into()))).collect(),
            decoding: decoded - self.started,
            analyzing: now - decoded,
            finishing: inner.finishing,
        };
        // Nobody may be waiting any more.
        let _ = done.send(outcomes);
    }
}

impl<T: Send + 'static> Collect for Collector<T> {
    fn decoded(&self) {
        self.lock().first_decoded.get_or_insert_with(Instant::now);
    }

    fn put(&self, index: usize, outcome: Result<Product, Failure>) -> Option<FailureKind> {
        let began = Instant::now();
        let finished = outcome.and_then(|product| guarded(FailureKind::Inference, || (self.finish)(product)));
        let took = began.elapsed();
        let kind = finished.as_ref().err().map(|failure| failure.kind);
        let mut inner = self.lock();
        inner.finishing += took;
        match inner.images.get_mut(index) {
            Some(slot @ None) => *slot = Some(finished.map_err(|failure| failure.reason)),
            _ => return None,
        }
        inner.missing -= 1;
        if inner.missing == 0 {
            self.send(&mut inner);
        }
        kind
    }

    fn missing(&self) -> usize {
        self.lock().missing
    }
}
