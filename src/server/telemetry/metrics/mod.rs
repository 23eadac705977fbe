//! What the service counts, for `GET /metrics`.
//!
//! One instance a service, not a registry of the whole process: tests run several services side by side.

mod histogram;
mod process;
mod text;

pub use histogram::{Counts, Histogram};
pub use text::CONTENT_TYPE;

use crate::schedule::{DropReason, FailureKind};
use crate::server::telemetry::access_log::RequestStats;
use histogram::{SECONDS, SIZES};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use text::Page;

/// Where the time of a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An image waits for its turn, before it is decoded and before it is looked at.
    Queue,
    /// A face of a photo waits between detection and recognition.
    FaceQueue,
    /// A request's images are fetched from URLs and paths.
    Read,
    /// An image is decoded.
    Decode,
    /// A detector's pass over a batch of images.
    Detect,
    /// The faces of an image are cut out.
    Align,
    /// A recogniser's pass over a batch of faces, with those of attribute networks.
    Recognise,
    /// A request's crops, drawing and answer are written.
    Encode,
    /// A whole request that asked for images.
    Total,
}

impl Stage {
    const ALL: [(Stage, &str); 9] = [
        (Stage::Queue, "queue"),
        (Stage::FaceQueue, "face_queue"),
        (Stage::Read, "read"),
        (Stage::Decode, "decode"),
        (Stage::Detect, "detect"),
        (Stage::Align, "align"),
        (Stage::Recognise, "recognise"),
        (Stage::Encode, "encode"),
        (Stage::Total, "total"),
    ];
}

/// Labels of the kinds of failures.
const FAILURE_KINDS: [(FailureKind, &str); 5] = [
    (FailureKind::Read, "read"),
    (FailureKind::Decode, "decode"),
    (FailureKind::Crop, "crop"),
    (FailureKind::Inference, "inference"),
    (FailureKind::Panic, "panic"),
];

/// Labels of the reasons for which images leave the queue.
const DROP_REASONS: [(DropReason, &str); 2] =
    [(DropReason::ClientGone, "client_gone"), (DropReason::Deadline, "deadline")];

/// What batches are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Images in a detector's pass.
    Detect,
    /// Faces in a recogniser's pass.
    Recognise,
}

impl Batch {
    const ALL: [(Batch, &str); 2] = [(Batch::Detect, "detect"), (Batch::Recognise, "recognise")];
}

/// What the scheduler and the models are like at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
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
    /// Networks in memory.
    pub models: usize,
    /// Whether requests are taken.
    pub ready: bool,
}

/// Everything that is counted.
pub struct Metrics {
    started: SystemTime,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    images: AtomicU64,
    faces: AtomicU64,
    refused: AtomicU64,
    in_flight: AtomicU64,
    begun: AtomicU64,
    failures: [AtomicU64; FAILURE_KINDS.len()],
    dropped: [AtomicU64; DROP_REASONS.len()],
    stages: [Histogram; Stage::ALL.len()],
    batches: [Histogram; Batch::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            started: SystemTime::now(),
            requests: Mutex::default(),
            images: AtomicU64::default(),
            faces: AtomicU64::default(),
            refused: AtomicU64::default(),
            in_flight: AtomicU64::default(),
            begun: AtomicU64::default(),
            failures: Default::default(),
            dropped: Default::default(),
            stages: std::array::from_fn(|_| Histogram::new(SECONDS)),
            batches: std::array::from_fn(|_| Histogram::new(SIZES)),
        }
    }
}

/// Counts a request as in flight as long as it lives.
pub struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Notes that a request has begun.
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Requests that are being answered.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that have begun so far.
    pub fn requests_so_far(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Notes an answer: `route` is one of the service's addresses, never what a client made up.
    pub fn answered(&self, route: &'static str, status: u16, stats: RequestStats, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_default() += 1;
        drop(requests);
        self.images.fetch_add(stats.images as u64, Ordering::Relaxed);
        self.faces.fetch_add(stats.faces as u64, Ordering::Relaxed);
        if stats.images > 0 {
            self.time(Stage::Total, took);
        }
    }

    /// Notes time spent.
    pub fn time(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].observe_time(took);
    }

    /// Notes the size of a batch.
    pub fn batch(&self, of: Batch, size: usize) {
        self.batches[of as usize].observe(size as f64);
    }

    /// Notes an image that failed.
    pub fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes images that were dropped.
    pub fn dropped(&self, reason: DropReason, images: usize) {
        self.dropped[reason as usize].fetch_add(images as u64, Ordering::Relaxed);
    }

    /// Notes images of a request that was answered 429.
    pub fn refused(&self, images: usize) {
        self.refused.fetch_add(images as u64, Ordering::Relaxed);
    }

    /// How many images were dropped for `reason`.
    pub fn dropped_so_far(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// The sizes of batches so far.
    pub fn batches_so_far(&self, of: Batch) -> Counts {
        self.batches[of as usize].read()
    }

    /// The page for Prometheus.
    pub fn page(&self, now: Snapshot) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut page = Page::default();
        page.family("ifr_build_info", "gauge", "Always 1; the version is a label.");
        page.value("ifr_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.single("ifr_ready", "gauge", "1 while requests are taken.", u8::from(now.ready));

        page.family("ifr_requests_total", "counter", "Requests answered, by address and status.");
        for ((route, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            page.value("ifr_requests_total", &[("route", route), ("status", &status.to_string())], count);
        }
        page.single(
            "ifr_requests_in_flight",
            "gauge",
            "Requests that are being answered, this one included.",
            read(&self.in_flight),
        );
        page.single(
            "ifr_images_total",
            "counter",
            "Images in requests that were answered with 200.",
            read(&self.images),
        );
        page.single("ifr_faces_total", "counter", "Faces in answers.", read(&self.faces));
        page.family("ifr_image_failures_total", "counter", "Images that failed, by kind.");
        for ((_, kind), count) in FAILURE_KINDS.iter().zip(&self.failures) {
            page.value("ifr_image_failures_total", &[("kind", kind)], read(count));
        }
        page.family("ifr_images_dropped_total", "counter", "Images taken out of the queue without being looked at.");
        for ((_, reason), count) in DROP_REASONS.iter().zip(&self.dropped) {
            page.value("ifr_images_dropped_total", &[("reason", reason)], read(count));
        }
        page.single("ifr_images_refused_total", "counter", "Images of requests answered 429.", read(&self.refused));

        page.single("ifr_queue_images", "gauge", "Images that wait for their turn.", now.waiting);
        page.single("ifr_queue_capacity", "gauge", "QUEUE_SIZE.", now.capacity);
        page.single("ifr_workers", "gauge", "Inferences that may run at once.", now.workers);
        page.single("ifr_workers_busy", "gauge", "Inferences that run.", now.busy);
        page.single("ifr_decoded_pixels", "gauge", "Pixels of decoded images in memory.", now.pixels);
        page.single("ifr_models_loaded", "gauge", "Networks in memory.", now.models);

        page.family("ifr_batch_size", "histogram", "Images in a detector's pass, faces in a recogniser's.");
        for ((_, stage), sizes) in Batch::ALL.iter().zip(&self.batches) {
            page.histogram("ifr_batch_size", ("stage", stage), sizes);
        }
        page.family("ifr_stage_seconds", "histogram", "Where time goes.");
        for ((_, stage), times) in Stage::ALL.iter().zip(&self.stages) {
            page.histogram("ifr_stage_seconds", ("stage", stage), times);
        }

        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        page.single("process_start_time_seconds", "gauge", "When the service started, in Unix time.", started);
        if let Some(usage) = process::usage() {
            page.single("process_resident_memory_bytes", "gauge", "Memory in RAM.", usage.resident);
            page.single("process_cpu_seconds_total", "counter", "Processor time, user and system.", usage.cpu);
            page.single("process_threads", "gauge", "Threads.", usage.threads);
            page.single("process_open_fds", "gauge", "Open files and sockets.", usage.files);
        }
        page.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_under_their_names() {
        let metrics = Metrics::default();
        for (index, (stage, _)) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
        metrics.failed(FailureKind::Crop);
        metrics.dropped(DropReason::Deadline, 3);
        metrics.batch(Batch::Recognise, 4);
        metrics.time(Stage::Align, Duration::from_millis(3));
        metrics.answered("/extract", 200, RequestStats { images: 2, failed: 1, faces: 5 }, Duration::from_secs(1));
        let in_flight = metrics.begin();
        let page = metrics.page(Snapshot { waiting: 7, ready: true, ..Snapshot::default() });
        for line in [
            "ifr_image_failures_total{kind=\"crop\"} 1",
            "ifr_image_failures_total{kind=\"panic\"} 0",
            "ifr_images_dropped_total{reason=\"deadline\"} 3",
            "ifr_images_dropped_total{reason=\"client_gone\"} 0",
            "ifr_batch_size_bucket{stage=\"recognise\",le=\"2\"} 0",
            "ifr_batch_size_bucket{stage=\"recognise\",le=\"4\"} 1",
            "ifr_stage_seconds_bucket{stage=\"align\",le=\"0.005\"} 1",
            "ifr_stage_seconds_count{stage=\"total\"} 1",
            "ifr_requests_total{route=\"/extract\",status=\"200\"} 1",
            "ifr_images_total 2",
            "ifr_faces_total 5",
            "ifr_requests_in_flight 1",
            "ifr_queue_images 7",
            "ifr_ready 1",
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
        }
        drop(in_flight);
        assert!(metrics.page(Snapshot::default()).contains("\nifr_requests_in_flight 0\n"));
    }
}
