//! The state that the scheduler's threads share, and how they wait for each other.

use super::backlog::{Backlog, Pass};
use super::error::{ImageFailure, ScheduleError};
use super::observer::Observer;
use super::pace::Pace;
use super::picture_memory::PictureMemory;
use super::queue::FairQueue;
use super::request::{CroppedFace, DecodedImage, EncodedImage, ImageAnalysis, QueuedRequest};
use crate::cores::cores;
use crate::engine;
use crate::image::DecodeLimits;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of pixels of all decoded pictures with one or two workers. It has room for a phone picture of 12
/// megapixels in each running inference, one that is ready for each worker, and some in between.
const MAX_PIXELS: u64 = 64_000_000;
/// Pixels that each worker after the second adds to [`MAX_PIXELS`].
const MAX_PIXELS_PER_FURTHER_WORKER: u64 = 32_000_000;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerConfig {
    /// Number of inferences that run at once; 0 for the number of cores that this process may use.
    pub workers: usize,
    /// Maximum number of images that wait.
    pub queue: usize,
    /// Largest configured batch, of images or faces. The same number of images is decoded ahead for each worker.
    pub batch: usize,
    /// How long an item may wait for a batch to fill; zero starts every pass at once.
    pub delay: Duration,
    /// Limits of a single image.
    pub limits: DecodeLimits,
}

/// The load of the scheduler at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// Number of images that wait.
    pub waiting: usize,
    /// Maximum number of images that wait.
    pub capacity: usize,
    /// Maximum number of inferences at once.
    pub workers: usize,
    /// Number of running inferences.
    pub busy: usize,
    /// Number of pixels of decoded images in memory.
    pub pixels: u64,
}

/// The state that all threads of a scheduler share.
pub(crate) struct Shared {
    pub workers: usize,
    queue_size: usize,
    pub limits: DecodeLimits,
    pub memory: PictureMemory,
    pub observer: Arc<dyn Observer>,
    /// Number of threads that one inference can use.
    engine_threads: usize,
    queues: Mutex<Queues>,
    /// Signals an image to decode.
    encoded: Condvar,
    /// Signals a pass to run.
    ready: Condvar,
}

/// All items that wait, and the state of the workers.
pub(crate) struct Queues {
    encoded: FairQueue<EncodedImage>,
    backlog: Backlog<DecodedImage, CroppedFace>,
    queue_size: usize,
    pace: Pace,
    /// Number of workers that run a pass.
    busy: usize,
    /// Number of workers that wait for a pass.
    idle: usize,
    closed: bool,
}

impl Queues {
    /// Number of images that wait, decoded or not.
    fn waiting(&self) -> usize {
        self.encoded.len() + self.backlog.images()
    }

    /// Checks that `images` more may wait: the queue has room or is empty, and at the present pace they would be done
    /// before `deadline`. Errs with [`ScheduleError::Full`].
    pub fn check_room(&self, images: usize, deadline: Instant) -> Result<(), ScheduleError> {
        let waiting = self.waiting();
        if waiting > 0 && waiting + images > self.queue_size {
            let retry_after = self.pace.time_for((waiting + images).saturating_sub(self.queue_size));
            return Err(ScheduleError::Full { retry_after });
        }
        let turns = self.encoded.ahead_of(images);
        let needed = self.pace.time_for(turns + images);
        let left = deadline.saturating_duration_since(Instant::now());
        // Without other requests the queue is not the reason for being late: the images are tried.
        if turns > 0 && needed > left { Err(ScheduleError::Full { retry_after: needed - left }) } else { Ok(()) }
    }
}

impl Shared {
    pub fn new(config: SchedulerConfig, observer: Arc<dyn Observer>) -> Self {
        let workers = if config.workers == 0 { cores() } else { config.workers };
        // One picture for each decoder, each inference, and the next batch of each worker.
        let frames = workers * (2 + config.batch.max(1));
        let pixels = MAX_PIXELS + MAX_PIXELS_PER_FURTHER_WORKER * workers.saturating_sub(2) as u64;
        let queues = Queues {
            encoded: FairQueue::default(),
            backlog: Backlog::new(config.delay),
            queue_size: config.queue,
            pace: Pace::default(),
            busy: 0,
            idle: 0,
            closed: false,
        };
        Shared {
            workers,
            queue_size: config.queue,
            limits: config.limits,
            memory: PictureMemory::new(frames, pixels),
            observer,
            engine_threads: engine::threads(),
            queues: Mutex::new(queues),
            encoded: Condvar::new(),
            ready: Condvar::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock()
    }

    /// The present load.
    pub fn status(&self) -> QueueStatus {
        let queues = self.lock();
        QueueStatus {
            waiting: queues.waiting(),
            capacity: self.queue_size,
            workers: self.workers,
            busy: queues.busy,
            pixels: self.memory.pixels(),
        }
    }

    /// Puts a request's images into the queue. Errs when it has no room for all of them.
    pub fn enter(
        &self,
        request: &Arc<QueuedRequest>,
        images: Vec<(usize, Bytes)>,
        deadline: Instant,
    ) -> Result<(), ScheduleError> {
        if images.is_empty() {
            return Ok(());
        }
        let since = Instant::now();
        let urgent = request.analysis.urgent;
        let mut queues = self.lock();
        if !urgent {
            queues.check_room(images.len(), deadline)?;
        }
        let images =
            images.into_iter().map(|(index, bytes)| EncodedImage { request: request.clone(), index, bytes, since });
        queues.encoded.extend(request.id, images);
        if urgent {
            queues.encoded.move_to_front(request.id);
        }
        drop(queues);
        self.encoded.notify_all();
        Ok(())
    }

    /// Removes a request's images wherever they wait, and counts them.
    pub fn leave(&self, request: &QueuedRequest) {
        let mut queues = self.lock();
        let encoded = queues.encoded.remove(request.id);
        let (pictures, faces) = queues.backlog.remove(request.id);
        drop(queues);
        self.memory.wake();
        let images = faces.iter().filter(|face| face.image.drop_once()).count();
        if let Some(reason) = request.abandoned() {
            self.observer.images_dropped(reason, encoded.len() + pictures.len() + images);
        }
    }

    /// Stores the result of an image, and counts a failure.
    pub fn deliver(&self, request: &QueuedRequest, index: usize, result: Result<ImageAnalysis, ImageFailure>) {
        if let Some(kind) = request.deliver(index, result) {
            self.observer.image_failed(kind);
        }
    }

    /// Waits for an image to decode. `None` when the scheduler is closed.
    pub fn next_encoded(&self) -> Option<EncodedImage> {
        let mut queues = self.lock();
        loop {
            if queues.closed {
                return None;
            }
            if let Some(image) = queues.encoded.pop() {
                return Some(image);
            }
            self.encoded.wait(&mut queues);
        }
    }

    /// Queues a decoded picture for a worker, unless its request has been dropped.
    pub fn push_picture(&self, picture: DecodedImage) {
        let mut queues = self.lock();
        // A request is marked as abandoned before `leave` takes the lock. So `leave` finds all items that were added
        // before, and this check prevents additions after it.
        if let Some(reason) = picture.request.abandoned() {
            drop(queues);
            self.observer.images_dropped(reason, 1);
            return;
        }
        queues.backlog.push_picture(picture.request.id, picture);
        drop(queues);
        self.ready.notify_one();
    }

    /// Queues cropped faces of one request for a worker, unless the request has been dropped. `continued`: they come
    /// from a picture whose detection has just ended on the calling worker, which takes its next pass right after.
    pub fn push_faces(&self, faces: Vec<CroppedFace>, continued: bool) {
        let Some(request) = faces.first().map(|face| face.image.request.clone()) else { return };
        let count = faces.len();
        let mut queues = self.lock();
        // As in `push_picture`.
        if let Some(reason) = request.abandoned() {
            drop(queues);
            self.observer.images_dropped(reason, faces.iter().filter(|face| face.image.drop_once()).count());
            return;
        }
        queues.backlog.push_faces(request.id, faces, continued);
        drop(queues);
        for _ in usize::from(continued)..count.min(self.workers) {
            self.ready.notify_one();
        }
    }

    /// Waits for a pass. `None` when the scheduler is closed. The worker counts as busy until [`Shared::pass_done`].
    ///
    /// The flag is true if the pass should use all threads of the engine, because the other workers leave cores idle.
    pub fn next_pass(&self) -> Option<(Pass<DecodedImage, CroppedFace>, bool)> {
        let mut queues = self.lock();
        loop {
            if queues.closed {
                return None;
            }
            let free = queues.idle + 1;
            let now = Instant::now();
            let due = match queues.backlog.take(free, now) {
                Ok(pass) => {
                    queues.busy += 1;
                    let about_to_run = queues.idle.min(queues.backlog.len());
                    let all_threads = queues.busy + about_to_run < self.engine_threads.max(2);
                    return Some((pass, all_threads));
                }
                Err(due) => due,
            };
            queues.idle += 1;
            match due {
                Some(due) => {
                    self.ready.wait_until(&mut queues, due);
                }
                None => self.ready.wait(&mut queues),
            }
            queues.idle -= 1;
        }
    }

    /// Records the end of a pass that finished `images` images.
    pub fn pass_done(&self, images: usize) {
        let mut queues = self.lock();
        queues.busy -= 1;
        let others_wait = queues.waiting() > 0;
        for _ in 0..images {
            queues.pace.image_done(Instant::now(), others_wait);
        }
    }

    /// Ends all threads, each after its present image or pass.
    pub fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        // Waiting items hold the senders of the results: dropping them tells the callers of the end.
        let waiting = (std::mem::take(&mut queues.encoded), std::mem::take(&mut queues.backlog));
        drop(queues);
        drop(waiting);
        self.memory.close();
        self.encoded.notify_all();
        self.ready.notify_all();
    }
}
