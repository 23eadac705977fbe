//! Counters, gauges and histograms of the service, for `GET /metrics`.
//!
//! Each service has its own registry, not the global one of the process: tests run several services side by side.

mod process;

use crate::schedule::{DropReason, FailureKind};
use crate::server::telemetry::access_log::RequestStats;
use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The Content-Type of the page: the text format of Prometheus.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of durations in seconds: from the time of a small network to the time limit of a request.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of batch sizes.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// A step of a request whose time is measured.
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
    /// A pass of the detector over a batch of images.
    Detect,
    /// The faces of an image are aligned.
    Align,
    /// A pass of the recognizer and the attribute networks over a batch of faces.
    Recognize,
    /// Crops, drawing and answer of a request are encoded.
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

/// A kind of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Images in a pass of the detector.
    Detect,
    /// Faces in a pass of the recognizer.
    Recognize,
}

impl Batch {
    const ALL: [(Batch, &str); 2] = [(Batch::Detect, "detect"), (Batch::Recognize, "recognise")];
}

/// The state of the scheduler and the models at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Number of images that wait.
    pub waiting: usize,
    /// Maximum number of images that wait.
    pub capacity: usize,
    /// Maximum number of inferences that run at the same time.
    pub workers: usize,
    /// Running inferences.
    pub busy: usize,
    /// Number of pixels of decoded images in memory.
    pub pixels: u64,
    /// Number of networks in memory.
    pub models: usize,
    /// Whether the service accepts requests.
    pub ready: bool,
}

/// All metrics of one service.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    images: IntCounter,
    faces: IntCounter,
    refused: IntCounter,
    in_flight: IntGauge,
    started_requests: AtomicU64,
    failures: [IntCounter; FAILURE_KINDS.len()],
    dropped: [IntCounter; DROP_REASONS.len()],
    stages: [Histogram; Stage::ALL.len()],
    batches: [Histogram; Batch::ALL.len()],
    at_scrape: ScrapeGauges,
}

/// Metrics that are set at each scrape.
struct ScrapeGauges {
    ready: IntGauge,
    waiting: IntGauge,
    capacity: IntGauge,
    workers: IntGauge,
    busy: IntGauge,
    pixels: IntGauge,
    models: IntGauge,
    process: Option<ProcessGauges>,
}

/// Metrics of the process, where the system has them.
struct ProcessGauges {
    resident: IntGauge,
    cpu: Counter,
    threads: IntGauge,
    files: IntGauge,
}

/// Adds a metric to the registry.
///
/// # Panics
/// If the name is invalid or used twice: names are constants of this file.
fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let metric = metric.and_then(|metric| registry.register(Box::new(metric.clone())).map(|()| metric));
    metric.unwrap_or_else(|error| panic!("a metric cannot be registered: {error}"))
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let gauge = |name, help| register(&registry, IntGauge::new(name, help));
        let counter = |name, help| register(&registry, IntCounter::new(name, help));
        let counters = |name, help, labels| register(&registry, IntCounterVec::new(Opts::new(name, help), labels));
        let histograms = |name, help, bounds: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            register(&registry, HistogramVec::new(options, &["stage"]))
        };
        let version = Opts::new("ifr_build_info", "Constant 1, with the version as a label.");
        let version = version.const_label("version", env!("CARGO_PKG_VERSION"));
        register(&registry, IntGauge::with_opts(version)).set(1);
        let started = Gauge::new("process_start_time_seconds", "Start time of the service, in Unix time.");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        register(&registry, started).set(now.as_secs_f64());
        let failures = counters("ifr_image_failures_total", "Failed images by kind of failure.", &["kind"]);
        let dropped = "Images dropped from the queue before decoding, by reason.";
        let dropped = counters("ifr_images_dropped_total", dropped, &["reason"]);
        let stages = histograms("ifr_stage_seconds", "Time of each stage of requests and images.", SECONDS);
        let batches = "Images per pass of the detector, faces per pass of the recognizer.";
        let batches = histograms("ifr_batch_size", batches, SIZES);
        let process = process::usage().map(|_| ProcessGauges {
            resident: gauge("process_resident_memory_bytes", "Resident memory."),
            cpu: register(&registry, Counter::new("process_cpu_seconds_total", "Processor time, user and system.")),
            threads: gauge("process_threads", "Number of threads."),
            files: gauge("process_open_fds", "Number of open files and sockets."),
        });
        Metrics {
            requests: counters("ifr_requests_total", "Answered requests by route and status.", &["route", "status"]),
            images: counter("ifr_images_total", "Images of requests answered with 200."),
            faces: counter("ifr_faces_total", "Faces in the answers."),
            refused: counter("ifr_images_refused_total", "Images of requests answered with 429."),
            in_flight: gauge("ifr_requests_in_flight", "Requests in progress, including this one."),
            started_requests: AtomicU64::default(),
            failures: FAILURE_KINDS.map(|(_, kind)| failures.with_label_values(&[kind])),
            dropped: DROP_REASONS.map(|(_, reason)| dropped.with_label_values(&[reason])),
            stages: Stage::ALL.map(|(_, stage)| stages.with_label_values(&[stage])),
            batches: Batch::ALL.map(|(_, stage)| batches.with_label_values(&[stage])),
            at_scrape: ScrapeGauges {
                ready: gauge("ifr_ready", "1 if the service accepts requests, otherwise 0."),
                waiting: gauge("ifr_queue_images", "Images that wait in the queue."),
                capacity: gauge("ifr_queue_capacity", "Maximum number of waiting images (QUEUE_SIZE)."),
                workers: gauge("ifr_workers", "Maximum number of concurrent inferences."),
                busy: gauge("ifr_workers_busy", "Running inferences."),
                pixels: gauge("ifr_decoded_pixels", "Pixels of decoded images in memory."),
                models: gauge("ifr_models_loaded", "Networks in memory."),
                process,
            },
            registry,
        }
    }
}

/// Counts a request as in flight until it is dropped.
pub struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl Metrics {
    /// Counts the beginning of a request.
    pub fn begin(&self) -> InFlight<'_> {
        self.in_flight.inc();
        self.started_requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Number of requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.get().unsigned_abs()
    }

    /// Number of requests since the start.
    pub fn requests_so_far(&self) -> u64 {
        self.started_requests.load(Ordering::Relaxed)
    }

    /// Counts an answer. `route` is a label of the route table, never a path of a client.
    pub fn answered(&self, route: &'static str, status: u16, stats: RequestStats, took: Duration) {
        self.requests.with_label_values(&[route, &status.to_string()]).inc();
        self.images.inc_by(stats.images as u64);
        self.faces.inc_by(stats.faces as u64);
        if stats.images > 0 {
            self.time(Stage::Total, took);
        }
    }

    /// Adds the time of a step.
    pub fn time(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].observe(took.as_secs_f64());
    }

    /// Adds the size of a batch.
    pub fn batch(&self, kind: Batch, size: usize) {
        self.batches[kind as usize].observe(size as f64);
    }

    /// Counts an image that failed.
    pub fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].inc();
    }

    /// Counts images that were dropped.
    pub fn dropped(&self, reason: DropReason, images: usize) {
        self.dropped[reason as usize].inc_by(images as u64);
    }

    /// Counts images of a request that was answered 429.
    pub fn refused(&self, images: usize) {
        self.refused.inc_by(images as u64);
    }

    /// The page for Prometheus. Errs if a metric has no valid name, which the tests exclude.
    pub fn page(&self, now: Snapshot) -> prometheus::Result<String> {
        let gauges = &self.at_scrape;
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&gauges.ready, u64::from(now.ready));
        set(&gauges.waiting, now.waiting as u64);
        set(&gauges.capacity, now.capacity as u64);
        set(&gauges.workers, now.workers as u64);
        set(&gauges.busy, now.busy as u64);
        set(&gauges.pixels, now.pixels);
        set(&gauges.models, now.models as u64);
        if let Some((gauges, usage)) = gauges.process.as_ref().zip(process::usage()) {
            set(&gauges.resident, usage.resident);
            set(&gauges.threads, usage.threads);
            set(&gauges.files, usage.files);
            gauges.cpu.inc_by((usage.cpu - gauges.cpu.get()).max(0.0));
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
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
        metrics.answered("/extract", 200, RequestStats { images: 2, failed: 1, faces: 5 }, Duration::from_secs(1));
        let in_flight = metrics.begin();
        let page = metrics.page(Snapshot { waiting: 7, ready: true, ..Snapshot::default() }).unwrap();
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
        assert!(metrics.page(Snapshot::default()).unwrap().contains("\nifr_requests_in_flight 0\n"));
    }
}
