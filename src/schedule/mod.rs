//! The scheduler: decides which image is decoded next and which network runs next, on a fixed number of threads.
//!
//! ```text
//! request ─ FairQueue (images) ─ decoders ─ Backlog (decoded images, cropped faces) ─ workers ─ Collector ─ request
//!             └ full: refused       └ PictureMemory                                      └ batches
//! ```
//!
//! Requests take turns image by image: a request with one image waits for one image of each other request, whatever
//! their sizes. Images that wait for the same networks are batched. An idle worker does not wait for a fuller batch,
//! unless a delay is configured. The images of a dropped request leave the queue at once.
//!
//! The scheduler knows networks and pictures. It knows neither HTTP nor the metrics of the service: errors are
//! [`ScheduleError`] and [`ImageFailure`], counts go to an [`Observer`].

mod backlog;
mod collector;
mod decoder;
mod error;
mod networks;
mod observer;
mod pace;
mod picture_memory;
mod queue;
mod request;
mod shared;
#[cfg(test)]
mod tests;
mod worker;

pub use collector::RequestOutcome;
pub use error::{FailureKind, ImageFailure, ScheduleError};
pub use networks::Networks;
pub use observer::{DropReason, Observer, PassKind, ScheduleStep};
pub use picture_memory::Frame;
pub use request::{AnalysisRequest, ImageAnalysis, ImageKind};
pub use shared::{QueueStatus, SchedulerConfig};

use bytes::Bytes;
use collector::Collector;
use request::QueuedRequest;
use shared::Shared;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// The queue and the threads that serve it. Dropping it ends the threads.
pub struct Scheduler {
    shared: Arc<Shared>,
}

impl Scheduler {
    /// Starts the threads. Errs when the operating system refuses one.
    pub fn start(config: SchedulerConfig, observer: Arc<dyn Observer>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(config, observer));
        // Created first: if a later thread fails to start, dropping the scheduler ends those that run.
        let scheduler = Scheduler { shared };
        for number in 0..scheduler.shared.workers {
            let shared = scheduler.shared.clone();
            spawn(format!("decode-{number}"), move || decoder::run(&shared))?;
            let shared = scheduler.shared.clone();
            spawn(format!("worker-{number}"), move || worker::run(&shared))?;
        }
        Ok(scheduler)
    }

    /// Errs with [`ScheduleError::Full`] when `images` more would be refused now.
    pub fn check_room(&self, images: usize, deadline: Instant) -> Result<(), ScheduleError> {
        let room = self.shared.lock().check_room(images, deadline.into_std());
        room.map_err(|refusal| self.refuse(images, refusal))
    }

    /// Runs the networks of `request` on all `images`, and `finish` on each result, on a worker thread. An image that
    /// the caller could not read keeps its place as a failure.
    ///
    /// Errs if the queue is full, or if not all images are done before `deadline`. Dropping the future removes the
    /// remaining images from the queue.
    pub async fn run<T: Send + 'static>(
        &self,
        request: AnalysisRequest,
        images: Vec<Result<Bytes, ImageFailure>>,
        deadline: Instant,
        finish: impl Fn(ImageAnalysis) -> Result<T, ImageFailure> + Send + Sync + 'static,
    ) -> Result<RequestOutcome<T>, ScheduleError> {
        let (collector, outcome) = Collector::new(images.len(), finish);
        let request = Arc::new(QueuedRequest::new(request, Box::new(collector)));
        let mut readable = Vec::with_capacity(images.len());
        let mut unreadable = Vec::new();
        for (index, image) in images.into_iter().enumerate() {
            match image {
                Ok(bytes) => readable.push((index, bytes)),
                Err(failure) => unreadable.push((index, failure)),
            }
        }
        let count = readable.len();
        let ticket = match self.shared.enter(&request, readable, deadline.into_std()) {
            Ok(()) => Ticket { shared: &self.shared, request: &request, deadline },
            Err(refusal) => return Err(self.refuse(count, refusal)),
        };
        for (index, failure) in unreadable {
            self.shared.deliver(&request, index, Err(failure));
        }
        let outcome = timeout_at(deadline, outcome).await;
        drop(ticket);
        match outcome {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(ScheduleError::Stopping),
            Err(_) => Err(ScheduleError::DeadlinePassed { started: request.has_started() }),
        }
    }

    /// The present load.
    pub fn status(&self) -> QueueStatus {
        self.shared.status()
    }

    fn refuse(&self, images: usize, refusal: ScheduleError) -> ScheduleError {
        self.shared.observer.images_refused(images);
        refusal
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The place of a request in the queue. Dropping it, for any reason, removes the remaining images.
struct Ticket<'a> {
    shared: &'a Shared,
    request: &'a Arc<QueuedRequest>,
    deadline: Instant,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.request.is_complete() {
            return;
        }
        let late = Instant::now() >= self.deadline;
        self.request.abandon(if late { DropReason::Deadline } else { DropReason::ClientGone });
        self.shared.leave(self.request);
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}
