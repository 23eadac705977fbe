//! Where requests meet the CPU: images wait here, are decoded, and are looked at by as many workers as there are cores.
//!
//! ```text
//! request ─ queue (images, in turns) ─ decoders ─ backlog (decoded images and cut faces, in turns) ─ workers ─ collector ─ request
//!             └ full: 429                └ memory                                                    └ batches
//! ```
//!
//! Turns are by image: a request of one image waits for one image of each other request, however many those have. What waits
//! anyway is batched; an idle worker takes what there is, unless a delay is configured. Images whose request is gone leave the queue at once.

mod backlog;
mod collector;
mod decoder;
mod job;
mod memory;
mod networks;
mod pace;
mod queue;
mod shared;
#[cfg(test)]
mod tests;
mod worker;

pub use collector::{Failure, Outcomes, Product};
pub use memory::Frame;
pub use networks::{Group, Networks};

use crate::analyzer::AnalyzeOptions;
use crate::image::DecodeLimits;
use crate::server::api::schema::request::ImageData;
use crate::server::http::error::ApiError;
use crate::server::telemetry::metrics::{DropReason, Metrics};
use collector::Collector;
use job::Job;
use shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// When a request has to be answered, and how long it had.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The whole time allowed.
    pub allowed: Duration,
}

/// How much runs and waits.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Inferences at once; 0 for one each core that this process may use.
    pub workers: usize,
    /// Images that may wait.
    pub queue: usize,
    /// Largest batch that is configured, of images or faces: so many images are decoded ahead for each worker.
    pub batch: usize,
    /// How long what does not fill a batch may be kept waiting for more; zero holds nothing back.
    pub delay: Duration,
    /// Bounds of a single image.
    pub limits: DecodeLimits,
}

/// What a request's images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Photos to find faces in.
    Pictures,
    /// Aligned faces.
    Crops,
}

/// What is asked about the images of one request.
pub struct Question {
    /// Who answers.
    pub networks: Arc<dyn Networks>,
    /// What to look for.
    pub options: AnalyzeOptions,
    /// What the images are.
    pub kind: Kind,
    /// Whether the decoded picture is handed back with its faces.
    pub keep_picture: bool,
}

/// What goes on at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Images waiting.
    pub waiting: usize,
    /// Images that may wait.
    pub capacity: usize,
    /// Inferences that may run at once.
    pub workers: usize,
    /// Inferences that run.
    pub busy: usize,
    /// Pixels of decoded images in memory.
    pub pixels: u64,
}

/// The queue, and the threads that empty it. They end when it is dropped.
pub struct Scheduler {
    shared: Arc<Shared>,
}

impl Scheduler {
    /// Starts the threads. Errs when the system gives none.
    pub fn start(capacity: Capacity, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(capacity, metrics));
        // From here on an error ends the threads that run already.
        let scheduler = Scheduler { shared };
        for number in 0..scheduler.shared.workers {
            let shared = scheduler.shared.clone();
            spawn(format!("decode-{number}"), move || decoder::run(&shared))?;
            let shared = scheduler.shared.clone();
            spawn(format!("worker-{number}"), move || worker::run(&shared))?;
        }
        Ok(scheduler)
    }

    /// Errs with 429 when `images` more could not wait now, or could not be done before `deadline`.
    pub fn check_room(&self, images: usize, deadline: Deadline) -> Result<(), ApiError> {
        let room = self.shared.lock().check_room(images, deadline.at.into_std());
        room.map_err(|refusal| self.refuse(images, refusal))
    }

    /// What the networks say of all images, each made into what the caller wants by `finish`, on a worker.
    ///
    /// Errs with 429 when the queue is full, with 503 when no image had its turn before the deadline, and with 504 when not all
    /// were done by then. Dropping the future takes the images that are left out of the queue.
    pub async fn run<T: Send + 'static>(
        &self,
        question: Question,
        images: Vec<ImageData>,
        deadline: Deadline,
        finish: impl Fn(Product) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Outcomes<T>, ApiError> {
        let (collector, outcomes) = Collector::new(images.len(), finish);
        let job = Arc::new(Job::new(question, Box::new(collector)));
        let mut readable = Vec::with_capacity(images.len());
        let mut unreadable = Vec::new();
        for (index, image) in images.into_iter().enumerate() {
            match image {
                Ok(bytes) => readable.push((index, bytes)),
                Err(reason) => unreadable.push((index, Failure::read(reason))),
            }
        }
        let count = readable.len();
        let ticket = match self.shared.enter(&job, readable, deadline.at.into_std()) {
            Ok(()) => Ticket { shared: &self.shared, job: &job, deadline },
            Err(refusal) => return Err(self.refuse(count, refusal)),
        };
        for (index, failure) in unreadable {
            self.shared.metrics.failed(failure.kind);
            job.deliver(index, Err(failure));
        }
        let outcome = timeout_at(deadline.at, outcomes).await;
        drop(ticket);
        match outcome {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(_)) => Err(ApiError::Overloaded("the service is stopping; try again later".into())),
            Err(_) if job.has_started() => Err(ApiError::Timeout(deadline.allowed.as_secs())),
            Err(_) => {
                let waited = deadline.allowed.as_secs();
                Err(ApiError::Overloaded(format!("no worker was free within {waited} seconds; try again later")))
            }
        }
    }

    /// What goes on now.
    pub fn load(&self) -> Load {
        let state = self.shared.lock();
        Load {
            waiting: state.waiting(),
            capacity: self.shared.queue_size,
            workers: self.shared.workers,
            busy: state.busy,
            pixels: self.shared.memory.pixels(),
        }
    }

    fn refuse(&self, images: usize, refusal: shared::Refusal) -> ApiError {
        self.shared.metrics.refused(images);
        ApiError::Busy { retry_after: refusal.retry_after.as_secs().clamp(1, 60) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A request's place in the queue. When it is dropped, by whatever ends the request, the images that are left go with it.
struct Ticket<'a> {
    shared: &'a Shared,
    job: &'a Arc<Job>,
    deadline: Deadline,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.job.is_complete() {
            return;
        }
        let late = Instant::now() >= self.deadline.at;
        self.job.abandon(if late { DropReason::Deadline } else { DropReason::ClientGone });
        self.shared.leave(self.job);
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}
