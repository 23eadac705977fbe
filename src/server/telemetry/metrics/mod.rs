//! Counters and histograms of the service, for `GET /metrics`.
//!
//! There is one instance per service instead of a registry of the process, because tests run several services at once.

mod histogram;
mod process;
mod text;

pub use histogram::{Counts, Histogram};
pub use text::CONTENT_TYPE;

use crate::schedule::{DropReason, FailureKind};
use crate::server::telemetry::access_log::Work;
use histogram::{SECONDS, SIZES};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use text::Page;

/// Stages of requests and images whose times are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An image waits for its turn, before decoding and before detection.
    Queue,
    /// A face of a photo waits between detection and recognition.
    FaceQueue,
    /// The images of a request are read from URLs and paths.
    Read,
    /// An image is decoded.
    Decode,
    /// One pass of the detector over a batch of images.
    Detect,
    /// The faces of an image are cut out.
    Align,
    /// One pass of the recognizer and the attribute networks over a batch of faces.
    Recognize,
    /// The crops, the drawing and the answer of a request are encoded.
    Encode,
    /// A whole request with images.
    Total,
}

impl Stage {
    /// All stages with their labels. The spelling of labels is fixed: dashboards select by them.
    const ALL: [(Stage, &str); 9] = [
        (Stage::Queue, "queue"),
        (Stage::FaceQueue, "face_queue"),
        (Stage::Read, "read"),
        (Stage::Decode, "decode"),
        (Stage::Detect, "detect"),
        (Stage::Align, "align"),
        (Stage::Recognize, "recognise"),
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

/// Kinds of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Images in one pass of the detector.
    Detect,
    /// Faces in one pass of the recognizer.
    Recognize,
}

impl Batch {
    const ALL: [(Batch, &str); 2] = [(Batch::Detect, "detect"), (Batch::Recognize, "recognise")];
}

/// State of the scheduler and the models at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
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
    /// Number of networks in memory.
    pub models: usize,
    /// True if requests are accepted.
    pub ready: bool,
}

/// All counters and histograms of a service.
pub struct Metrics {
    started: SystemTime,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    images: AtomicU64,
    faces: AtomicU64,
    refused: AtomicU64,
    in_flight: AtomicU64,
    started_requests: AtomicU64,
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
            started_requests: AtomicU64::default(),
            failures: Default::default(),
            dropped: Default::default(),
            stages: std::array::from_fn(|_| Histogram::new(SECONDS)),
            batches: std::array::from_fn(|_| Histogram::new(SIZES)),
        }
    }
}

/// Counts a request as in flight until it is dropped.
pub struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts the start of a request.
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.started_requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Number of requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Number of requests since the start.
    pub fn requests_so_far(&self) -> u64 {
        self.started_requests.load(Ordering::Relaxed)
    }

    /// Counts an answer. `route` is a label of the route table, never text of a client, so that the number of labels is
    /// limited.
    pub fn answered(&self, route: &'static str, status: u16, work: Work, took: Duration) {
        let mut requests = self.requests.lock();
        *requests.entry((route, status)).or_default() += 1;
        drop(requests);
        self.images.fetch_add(work.images as u64, Ordering::Relaxed);
        self.faces.fetch_add(work.faces as u64, Ordering::Relaxed);
        if work.images > 0 {
            self.time(Stage::Total, took);
        }
    }

    /// Records the time of a stage.
    pub fn time(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].observe_time(took);
    }

    /// Records the size of a batch.
    pub fn batch(&self, kind: Batch, size: usize) {
        self.batches[kind as usize].observe(size as f64);
    }

    /// Counts a failed image.
    pub fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts images that were dropped before a network ran on them.
    pub fn dropped(&self, reason: DropReason, images: usize) {
        self.dropped[reason as usize].fetch_add(images as u64, Ordering::Relaxed);
    }

    /// Counts the images of a request that was answered 429.
    pub fn refused(&self, images: usize) {
        self.refused.fetch_add(images as u64, Ordering::Relaxed);
    }

    /// Number of images that were dropped for `reason`.
    pub fn dropped_so_far(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// Sizes of the batches of a kind.
    pub fn batches_so_far(&self, kind: Batch) -> Counts {
        self.batches[kind as usize].read()
    }

    /// The page for Prometheus, with the gauges of `now`.
    pub fn page(&self, now: Snapshot) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut page = Page::default();
        page.family("ifr_build_info", "gauge", "Always 1; the version is a label.");
        page.value("ifr_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.single("ifr_ready", "gauge", "1 if requests are accepted.", u8::from(now.ready));

        page.family("ifr_requests_total", "counter", "Answered requests by route and status.");
        for ((route, status), count) in self.requests.lock().iter() {
            page.value("ifr_requests_total", &[("route", route), ("status", &status.to_string())], count);
        }
        page.single(
            "ifr_requests_in_flight",
            "gauge",
            "Requests in flight, including this one.",
            read(&self.in_flight),
        );
        page.single("ifr_images_total", "counter", "Images of requests that were answered 200.", read(&self.images));
        page.single("ifr_faces_total", "counter", "Faces in answers.", read(&self.faces));
        page.family("ifr_image_failures_total", "counter", "Failed images by kind.");
        for ((_, kind), count) in FAILURE_KINDS.iter().zip(&self.failures) {
            page.value("ifr_image_failures_total", &[("kind", kind)], read(count));
        }
        page.family("ifr_images_dropped_total", "counter", "Images that left the queue before a network ran on them.");
        for ((_, reason), count) in DROP_REASONS.iter().zip(&self.dropped) {
            page.value("ifr_images_dropped_total", &[("reason", reason)], read(count));
        }
        page.single(
            "ifr_images_refused_total",
            "counter",
            "Images of requests that were answered 429.",
            read(&self.refused),
        );

        page.single("ifr_queue_images", "gauge", "Images that wait.", now.waiting);
        page.single("ifr_queue_capacity", "gauge", "Maximum number of images that wait (QUEUE_SIZE).", now.capacity);
        page.single("ifr_workers", "gauge", "Maximum number of inferences at once.", now.workers);
        page.single("ifr_workers_busy", "gauge", "Running inferences.", now.busy);
        page.single("ifr_decoded_pixels", "gauge", "Pixels of decoded images in memory.", now.pixels);
        page.single("ifr_models_loaded", "gauge", "Networks in memory.", now.models);

        page.family(
            "ifr_batch_size",
            "histogram",
            "Images per pass of the detector, faces per pass of the recognizer.",
        );
        for ((_, stage), sizes) in Batch::ALL.iter().zip(&self.batches) {
            page.histogram("ifr_batch_size", ("stage", stage), sizes);
        }
        page.family("ifr_stage_seconds", "histogram", "Seconds per stage.");
        for ((_, stage), times) in Stage::ALL.iter().zip(&self.stages) {
            page.histogram("ifr_stage_seconds", ("stage", stage), times);
        }

        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        page.single("process_start_time_seconds", "gauge", "Start of the service in Unix time.", started);
        if let Some(usage) = process::usage() {
            page.single("process_resident_memory_bytes", "gauge", "Resident memory.", usage.resident);
            page.single(
                "process_cpu_seconds_total",
                "counter",
                "Processor time, user and system, in seconds.",
                usage.cpu,
            );
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
        metrics.batch(Batch::Recognize, 4);
        metrics.time(Stage::Align, Duration::from_millis(3));
        metrics.answered("/extract", 200, Work { images: 2, failed: 1, faces: 5 }, Duration::from_secs(1));
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
