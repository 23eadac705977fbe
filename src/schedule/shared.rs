//! What all threads of the scheduler share, and how they wait for each other.

use super::Capacity;
use super::backlog::{Backlog, Task};
use super::job::{CutFace, Decoded, Encoded, Job};
use super::memory::Memory;
use super::pace::Pace;
use super::queue::FairQueue;
use crate::engine;
use crate::image::DecodeLimits;
use crate::server::telemetry::metrics::Metrics;
use bytes::Bytes;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pixels that decoded pictures may have together, for the first two workers and for each one more: a dozen megapixels, which is
/// what phones make, for each inference that runs, each picture that is ready for it, and some in between.
const PIXELS: u64 = 64_000_000;
const PIXELS_A_WORKER: u64 = 32_000_000;

/// Why a request cannot enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// When it may be worth another attempt.
    pub retry_after: Duration,
}

/// What the threads share.
pub(crate) struct Shared {
    pub workers: usize,
    pub queue_size: usize,
    pub limits: DecodeLimits,
    pub memory: Memory,
    pub metrics: Arc<Metrics>,
    /// Threads that one inference can use.
    threads: usize,
    state: Mutex<State>,
    /// Something to decode.
    encoded: Condvar,
    /// Something to look at.
    ready: Condvar,
}

/// What waits and runs.
pub(crate) struct State {
    queue: FairQueue<Encoded>,
    backlog: Backlog<Decoded, CutFace>,
    queue_size: usize,
    pace: Pace,
    /// Workers that run an inference.
    pub busy: usize,
    /// Workers that wait for one.
    idle: usize,
    closed: bool,
}

impl State {
    /// Images that wait, decoded or not.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.backlog.images()
    }

    /// Whether `images` more may wait: there is room, or nobody waits at all; and at the present pace they would be done in time.
    pub fn check_room(&self, images: usize, deadline: Instant) -> Result<(), Refusal> {
        let waiting = self.waiting();
        if waiting > 0 && waiting + images > self.queue_size {
            return Err(Refusal {
                retry_after: self.pace.time_for((waiting + images).saturating_sub(self.queue_size)),
            });
        }
        let turns = self.queue.ahead_of(images);
        let needed = self.pace.time_for(turns + images);
        let left = deadline.saturating_duration_since(Instant::now());
        // Without others it is no matter of load: as much as can be is done.
        if turns > 0 && needed > left { Err(Refusal { retry_after: needed - left }) } else { Ok(()) }
    }
}

impl Shared {
    pub fn new(capacity: Capacity, metrics: Arc<Metrics>) -> Self {
        // The system's answer heeds affinity and the quota of the control group, of both versions.
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if capacity.workers == 0 { cores() } else { capacity.workers };
        // One picture for each decoder, each inference, and the next batch of each worker.
        let frames = workers * (2 + capacity.batch.max(1));
        let pixels = PIXELS + PIXELS_A_WORKER * workers.saturating_sub(2) as u64;
        let state = State {
            queue: FairQueue::default(),
            backlog: Backlog::new(capacity.delay),
            queue_size: capacity.queue,
            pace: Pace::default(),
            busy: 0,
            idle: 0,
            closed: false,
        };
        Shared {
            workers,
            queue_size: capacity.queue,
            limits: capacity.limits,
            memory: Memory::new(frames, pixels),
            metrics,
            threads: engine::threads(),
            state: Mutex::new(state),
            encoded: Condvar::new(),
            ready: Condvar::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request's images into the queue. Errs when there is no room for all of them.
    pub fn enter(&self, job: &Arc<Job>, images: Vec<(usize, Bytes)>, deadline: Instant) -> Result<(), Refusal> {
        if images.is_empty() {
            return Ok(());
        }
        let since = Instant::now();
        let mut state = self.lock();
        state.check_room(images.len(), deadline)?;
        let images = images.into_iter().map(|(index, bytes)| Encoded { job: job.clone(), index, bytes, since });
        state.queue.extend(job.id, images);
        drop(state);
        self.encoded.notify_all();
        Ok(())
    }

    /// Takes a request's images out wherever they wait, and counts them.
    pub fn leave(&self, job: &Job) {
        let mut state = self.lock();
        let encoded = state.queue.remove(job.id);
        let (pictures, faces) = state.backlog.remove(job.id);
        drop(state);
        self.memory.wake();
        let images = faces.iter().filter(|face| face.image.drop_once()).count();
        if let Some(reason) = job.abandoned() {
            self.metrics.dropped(reason, encoded.len() + pictures.len() + images);
        }
    }

    /// Waits for an image to decode; None when closed.
    pub fn next_encoded(&self) -> Option<Encoded> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(image) = state.queue.pop() {
                return Some(image);
            }
            state = self.encoded.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands a decoded picture on, unless its request has left meanwhile.
    pub fn push_picture(&self, picture: Decoded) {
        let mut state = self.lock();
        // Requests are abandoned before `leave` takes the lock: it finds what is put in before, and nothing is put in after.
        if let Some(reason) = picture.job.abandoned() {
            drop(state);
            self.metrics.dropped(reason, 1);
            return;
        }
        state.backlog.push_picture(picture.job.id, picture);
        drop(state);
        self.ready.notify_one();
    }

    /// Hands cut faces of one request on, unless it has left meanwhile. `continued` says that they are of a picture that a worker just
    /// looked at; it will look for work next.
    pub fn push_faces(&self, faces: Vec<CutFace>, continued: bool) {
        let Some(job) = faces.first().map(|face| face.image.job.clone()) else { return };
        let count = faces.len();
        let mut state = self.lock();
        // As for pictures.
        if let Some(reason) = job.abandoned() {
            drop(state);
            self.metrics.dropped(reason, faces.iter().filter(|face| face.image.drop_once()).count());
            return;
        }
        state.backlog.push_faces(job.id, faces, continued);
        drop(state);
        for _ in usize::from(continued)..count.min(self.workers) {
            self.ready.notify_one();
        }
    }

    /// Waits for something to look at; None when closed. The worker is busy until [`Shared::done`].
    ///
    /// Also says whether the inference shall use all threads of the engine: not if there is something to do on each core already.
    pub fn next_task(&self) -> Option<(Task<Decoded, CutFace>, bool)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let free = state.idle + 1;
            let now = Instant::now();
            let due = match state.backlog.take(free, now) {
                Ok(task) => {
                    state.busy += 1;
                    let soon = state.idle.min(state.backlog.len());
                    let spread = state.busy + soon < self.threads.max(2);
                    return Some((task, spread));
                }
                Err(due) => due,
            };
            state.idle += 1;
            state = match due.map(|due| due.saturating_duration_since(now)) {
                Some(left) => self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.idle -= 1;
        }
    }

    /// The task of a worker is done, and with it so many images.
    pub fn done(&self, images: usize) {
        let mut state = self.lock();
        state.busy -= 1;
        let more = state.waiting() > 0;
        for _ in 0..images {
            state.pace.done(Instant::now(), more);
        }
    }

    /// Ends all threads, each when it has done what it does.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // Whoever waits for them learns that nobody will answer.
        let waiting = (std::mem::take(&mut state.queue), std::mem::take(&mut state.backlog));
        drop(state);
        drop(waiting);
        self.memory.close();
        self.encoded.notify_all();
        self.ready.notify_all();
    }
}
