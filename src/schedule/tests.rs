//! The whole scheduler, with scripted networks.

use super::networks::BatchKey;
use super::*;
use crate::analyzer::{AnalyzeError, AnalyzeOptions, Attributes, Description};
use crate::attributes::FaceView;
use crate::detect::{Detection, ImageDetections};
use crate::image::{DecodeLimits, RgbImage};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// A log of passes, and a gate that blocks passes until it is opened.
#[derive(Default)]
struct Script {
    log: Mutex<Vec<String>>,
    open: Mutex<Option<usize>>,
    opened: Condvar,
}

impl Script {
    /// Opens the gate for `passes` passes.
    fn allow(&self, passes: usize) {
        *self.open.lock().unwrap() = Some(passes);
        self.opened.notify_all();
    }

    fn pass(&self, what: String) {
        self.log.lock().unwrap().push(what);
        let mut open = self.open.lock().unwrap();
        while *open == Some(0) {
            open = self.opened.wait(open).unwrap();
        }
        if let Some(passes) = &mut *open {
            *passes -= 1;
        }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// Networks that identify pictures by their width. The detector panics at width 13, fails at 14, and finds one face for
/// each pixel of height over 10. The recognizer panics at faces of the picture of width 15.
struct ScriptedNetworks {
    script: Arc<Script>,
    batch: usize,
    face_batch: usize,
}

impl Networks for ScriptedNetworks {
    fn detect(&self, pictures: &[&RgbImage], _: f32) -> Result<Vec<ImageDetections>, AnalyzeError> {
        let widths: Vec<u32> = pictures.iter().map(|picture| picture.width()).collect();
        self.script.pass(format!("detect {widths:?}"));
        assert!(!widths.contains(&13), "a defect");
        if widths.contains(&14) {
            return Err(AnalyzeError::NoDetector);
        }
        let found = pictures.iter().map(|picture| {
            let face = |n: u32| Detection {
                bbox: [n as f32, 0.0, n as f32 + 10.0, 10.0],
                landmarks: [[1.0, 1.0], [2.0, 1.0], [1.5, 1.5], [1.0, 2.0], [2.0, 2.0]],
                score: 0.9,
                mask: None,
            };
            let faces = picture.height().saturating_sub(10);
            ImageDetections { detections: (0..faces).map(face).collect(), scale: f64::from(picture.width()) }
        });
        Ok(found.collect())
    }

    fn describe(&self, faces: &[FaceView], _: &AnalyzeOptions) -> Result<Vec<Description>, AnalyzeError> {
        let widths: Vec<u32> = faces.iter().map(|face| face.image.width()).collect();
        self.script.pass(format!("describe {widths:?}"));
        assert!(!widths.contains(&15), "a defect");
        // The age is the face's position in its picture.
        let age = |face: &FaceView| Attributes { age: Some(face.bbox[0] as u32), ..Attributes::default() };
        Ok(faces.iter().map(|face| Description { embedding: None, attributes: age(face) }).collect())
    }

    fn detection_batch_key(&self, options: &AnalyzeOptions) -> BatchKey {
        BatchKey { networks: [0; 5], options: options.threshold.to_bits(), max_batch: self.batch }
    }

    fn description_batch_key(&self, options: &AnalyzeOptions) -> Option<BatchKey> {
        options.gender_age.then_some(BatchKey { networks: [1; 5], options: 0, max_batch: self.face_batch })
    }

    fn needs_crops(&self, options: &AnalyzeOptions) -> bool {
        options.gender_age
    }

    fn needs_picture(&self, options: &AnalyzeOptions) -> bool {
        options.gender_age
    }
}

/// An observer that counts the events that tests check.
#[derive(Default)]
struct CountingObserver {
    detect_batches: Mutex<Vec<usize>>,
    face_waits: AtomicUsize,
    client_gone: AtomicUsize,
    deadline: AtomicUsize,
}

impl CountingObserver {
    fn dropped(&self, reason: DropReason) -> usize {
        match reason {
            DropReason::ClientGone => self.client_gone.load(Ordering::Relaxed),
            DropReason::Deadline => self.deadline.load(Ordering::Relaxed),
        }
    }
}

impl Observer for CountingObserver {
    fn step_took(&self, step: ScheduleStep, _: Duration) {
        self.face_waits.fetch_add(usize::from(step == ScheduleStep::FaceQueue), Ordering::Relaxed);
    }

    fn batch_ran(&self, kind: PassKind, size: usize) {
        if kind == PassKind::Detect {
            self.detect_batches.lock().unwrap().push(size);
        }
    }

    fn image_failed(&self, _: FailureKind) {}

    fn images_dropped(&self, reason: DropReason, images: usize) {
        let count = match reason {
            DropReason::ClientGone => &self.client_gone,
            DropReason::Deadline => &self.deadline,
        };
        count.fetch_add(images, Ordering::Relaxed);
    }

    fn images_refused(&self, _: usize) {}
}

/// A scheduler with scripted networks and an observer.
struct TestScheduler {
    scheduler: Arc<Scheduler>,
    counts: Arc<CountingObserver>,
    script: Arc<Script>,
    batch: usize,
    face_batch: usize,
}

/// A time limit in milliseconds that is long enough on slow machines.
const LONG: u64 = 60_000;

/// The checked part of a result: the scale and the ages of an image's faces, or the message of its failure.
type Seen = Result<(f64, Vec<u32>), String>;

impl TestScheduler {
    fn new(workers: usize, queue: usize, batch: usize) -> TestScheduler {
        TestScheduler::with_delay(workers, queue, batch, Duration::ZERO)
    }

    fn with_delay(workers: usize, queue: usize, batch: usize, delay: Duration) -> TestScheduler {
        let counts = Arc::new(CountingObserver::default());
        let config = SchedulerConfig { workers, queue, batch, delay, limits: DecodeLimits::default() };
        let scheduler = Arc::new(Scheduler::start(config, counts.clone()).unwrap());
        TestScheduler { scheduler, counts, script: Arc::default(), batch, face_batch: batch }
    }

    fn ask_within(
        &self,
        ms: u64,
        gender_age: bool,
        images: Vec<Picture>,
    ) -> tokio::task::JoinHandle<Result<Vec<Seen>, ScheduleError>> {
        self.ask_as(ms, gender_age, false, images)
    }

    fn ask_as(
        &self,
        ms: u64,
        gender_age: bool,
        urgent: bool,
        images: Vec<Picture>,
    ) -> tokio::task::JoinHandle<Result<Vec<Seen>, ScheduleError>> {
        let networks =
            Arc::new(ScriptedNetworks { script: self.script.clone(), batch: self.batch, face_batch: self.face_batch });
        let options = AnalyzeOptions { embedding: false, gender_age, ..AnalyzeOptions::default() };
        let request = AnalysisRequest { networks, options, kind: ImageKind::Photo, keep_picture: false, urgent };
        let deadline = Instant::now() + Duration::from_millis(ms);
        let scheduler = self.scheduler.clone();
        tokio::spawn(async move {
            let finish = |analysis| {
                let ImageAnalysis::Faces(faces, _) = analysis else { panic!("no faces") };
                Ok((faces.scale, faces.faces.iter().filter_map(|face| face.age).collect()))
            };
            let outcome = scheduler.run(request, images, deadline, finish).await?;
            Ok(outcome.images.into_iter().map(|image| image.map_err(|failure| failure.to_string())).collect())
        })
    }

    /// Asks for the faces of pictures of these widths.
    fn ask(&self, widths: &[u32]) -> tokio::task::JoinHandle<Result<Vec<Seen>, ScheduleError>> {
        self.ask_within(LONG, false, widths.iter().map(|width| picture(*width, 10)).collect())
    }

    /// Waits until something has become true.
    async fn until(&self, what: &str, is_true: impl Fn(&TestScheduler) -> bool) {
        let started = Instant::now();
        while !is_true(self) {
            let late = started.elapsed() > Duration::from_millis(LONG);
            assert!(!late, "{what}: never; log: {:?}, status: {:?}", self.script.log(), self.scheduler.status());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until `count` passes have started.
    async fn passes(&self, count: usize) {
        self.until("passes", |bench| bench.script.log().len() == count).await;
    }

    /// Waits until `pictures` are decoded and wait behind the pass that is held back. `pixels` includes the picture of
    /// that pass.
    async fn decoded(&self, pictures: usize, pixels: u64) {
        // Pixels are reserved before decoding. During decoding a picture counts as waiting nowhere.
        let are = |status: QueueStatus| status.pixels == pixels && status.waiting == pictures;
        self.until("decoded", |bench| are(bench.scheduler.status())).await;
    }

    /// Waits until images of `pixels` are decoded, and asserts that no more are.
    async fn decoded_at_most(&self, pixels: u64) {
        self.until("decoded ahead", |bench| bench.scheduler.status().pixels == pixels).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(self.scheduler.status().pixels, pixels);
    }
}

type Picture = Result<Bytes, ImageFailure>;

fn picture(width: u32, height: u32) -> Picture {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    Ok(bytes.into_inner().into())
}

fn ok(width: u32) -> Seen {
    Ok((f64::from(width), vec![]))
}

#[tokio::test(flavor = "multi_thread")]
async fn results_keep_the_order_of_the_request() {
    let bench = TestScheduler::new(3, 100, 4);
    let bad = |width: u32| width % 10 == 3;
    let failed = |width| Err(ImageFailure::Read(format!("bad {width}").into()));
    let images: Vec<Picture> =
        (20..60).map(|width| if bad(width) { failed(width) } else { picture(width, 10) }).collect();
    let results = bench.ask_within(LONG, false, images).await.unwrap().unwrap();
    for (width, result) in (20..60).zip(results) {
        assert_eq!(result, if bad(width) { Err(format!("bad {width}")) } else { ok(width) });
    }
    assert_eq!(bench.ask_within(LONG, false, vec![]).await.unwrap(), Ok(vec![]));
    let none = bench
        .ask_within(LONG, false, vec![Err(ImageFailure::Read("no".into())), Ok("no picture".into())])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(none[0], Err("no".into()));
    assert!(none[1].as_ref().unwrap_err().contains("not a picture"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_come_back_to_their_picture_in_order() {
    for batch in [1, 4] {
        let bench = TestScheduler::new(2, 100, batch);
        let images = vec![picture(20, 13), picture(21, 10), picture(22, 17)];
        let results = bench.ask_within(LONG, true, images).await.unwrap().unwrap();
        assert_eq!(results[0], Ok((20.0, vec![0, 1, 2])));
        assert_eq!(results[1], ok(21));
        assert_eq!(results[2], Ok((22.0, (0..7).collect())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_does_not_wait_for_two_hundred() {
    let bench = TestScheduler::new(1, 512, 1);
    bench.script.allow(0);
    let large = bench.ask(&[20; 200]);
    bench.passes(1).await;
    let small = bench.ask(&[99]);
    // All but the one that runs, and the small one.
    bench.until("in the queue", |bench| bench.scheduler.status().waiting == 200).await;
    bench.script.allow(1000);
    assert_eq!(small.await.unwrap(), Ok(vec![ok(99)]));
    assert_eq!(large.await.unwrap().unwrap().len(), 200);
    // The one that runs, those that are decoded already, and one turn.
    let place = bench.script.log().iter().position(|pass| pass == "detect [99]").unwrap();
    assert!(place <= 6, "after {place} others");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_images_are_batched_and_an_idle_worker_starts_at_once() {
    let bench = TestScheduler::new(1, 100, 4);
    // Alone: at once, as a batch of one.
    assert_eq!(bench.ask(&[20]).await.unwrap(), Ok(vec![ok(20)]));
    assert_eq!(bench.script.log(), ["detect [20]"]);
    bench.script.allow(0);
    let first = bench.ask(&[21]);
    bench.passes(2).await;
    let others: Vec<_> = (30..34).map(|width| bench.ask(&[width])).collect();
    bench.decoded(4, 10 * (21 + 30 + 31 + 32 + 33)).await;
    bench.script.allow(1000);
    assert_eq!(first.await.unwrap(), Ok(vec![ok(21)]));
    for (width, other) in (30..34).zip(others) {
        assert_eq!(other.await.unwrap(), Ok(vec![ok(width)]));
    }
    let sizes: Vec<usize> = bench.script.log().iter().map(|pass| pass.split(',').count()).collect();
    assert_eq!(sizes, [1, 1, 4], "{:?}", bench.script.log());
    assert_eq!(*bench.counts.detect_batches.lock().unwrap(), [1, 1, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_of_several_requests_are_described_together() {
    let bench = TestScheduler::new(1, 100, 4);
    bench.script.allow(0);
    let first = bench.ask(&[20]);
    bench.passes(1).await;
    let others: Vec<_> = (30..34).map(|width| bench.ask_within(LONG, true, vec![picture(width, 11)])).collect();
    bench.decoded(4, 10 * 20 + 11 * (30 + 31 + 32 + 33)).await;
    bench.script.allow(1000);
    first.await.unwrap().unwrap();
    for (width, other) in (30..34).zip(others) {
        assert_eq!(other.await.unwrap(), Ok(vec![Ok((f64::from(width), vec![0]))]));
    }
    let log = bench.script.log();
    let described: Vec<_> = log.iter().filter(|pass| pass.starts_with("describe")).collect();
    assert_eq!(described.len(), 1, "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_panics_or_fails_does_so_alone() {
    for batch in [1, 8] {
        // Decoded ahead are as many as for the larger batch.
        let bench = TestScheduler { batch, ..TestScheduler::new(1, 100, 8) };
        bench.script.allow(0);
        let hold = bench.ask(&[20]);
        bench.passes(1).await;
        let mixed = bench.ask(&[21, 13, 22, 14, 23]);
        let innocent = bench.ask(&[24]);
        bench.decoded(6, 10 * (20 + 21 + 13 + 22 + 14 + 23 + 24)).await;
        bench.script.allow(1000);
        hold.await.unwrap().unwrap();
        let results = mixed.await.unwrap().unwrap();
        let defect = Err("an internal error on this image".to_string());
        assert_eq!(results, [ok(21), defect, ok(22), Err("no detector is configured".into()), ok(23)]);
        assert_eq!(innocent.await.unwrap(), Ok(vec![ok(24)]));
        // The worker is still there.
        assert_eq!(bench.ask(&[25]).await.unwrap(), Ok(vec![ok(25)]));
        bench.until("idle", |bench| bench.scheduler.status().busy == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_panics_fails_its_picture_alone() {
    let bench = TestScheduler::new(1, 100, 8);
    let images = vec![picture(20, 12), picture(15, 12), picture(22, 11)];
    let results = bench.ask_within(LONG, true, images).await.unwrap().unwrap();
    assert_eq!(results[0], Ok((20.0, vec![0, 1])));
    assert_eq!(results[1], Err("an internal error on this image".into()));
    assert_eq!(results[2], Ok((22.0, vec![0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let bench = TestScheduler::new(1, 10, 1);
    bench.script.allow(0);
    // More than the queue holds, but no other request waits.
    let large = bench.ask(&[20; 20]);
    bench.passes(1).await;
    bench.until("decoded ahead", |bench| bench.scheduler.status().pixels == 600).await;
    assert!(bench.scheduler.status().waiting > 10);
    let asked = Instant::now();
    let refused = bench.ask(&[21]).await.unwrap();
    assert!(matches!(refused, Err(ScheduleError::Full { .. })), "{refused:?}");
    // Until there is room it would have waited for as long as it may.
    assert!(asked.elapsed() < Duration::from_millis(LONG / 4));
    large.abort();
    bench.until("the queue is empty", |bench| bench.scheduler.status().waiting == 0).await;
    let next = bench.ask(&[22]);
    bench.script.allow(1000);
    assert_eq!(next.await.unwrap(), Ok(vec![ok(22)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_miss_its_deadline_is_refused_at_once() {
    let bench = TestScheduler::new(1, 1000, 1);
    let slow: Arc<Script> = bench.script.clone();
    slow.allow(0);
    let large = bench.ask(&[20; 100]);
    // Twenty images a second or fewer.
    for pass in 1..=10 {
        bench.passes(pass).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        slow.allow(1);
    }
    bench.passes(11).await;
    let refused = bench.ask_within(500, false, (0..50).map(|_| picture(21, 10)).collect()).await.unwrap();
    assert!(matches!(refused, Err(ScheduleError::Full { .. })), "{refused:?}");
    // A single image has its turn soon: behind all waiting images it would be too late.
    let single = bench.ask_within(4000, false, vec![picture(22, 10)]);
    slow.allow(1000);
    assert_eq!(single.await.unwrap(), Ok(vec![ok(22)]));
    assert_eq!(large.await.unwrap().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_gone_clients_are_dropped_and_counted() {
    let bench = TestScheduler::new(1, 1000, 1);
    bench.script.allow(0);
    let hold = bench.ask(&[20]);
    bench.passes(1).await;
    let gone = bench.ask(&[21; 100]);
    bench.until("in the queue", |bench| bench.scheduler.status().waiting > 90).await;
    gone.abort();
    bench.until("counted", |bench| bench.counts.dropped(DropReason::ClientGone) == 100).await;
    assert_eq!(bench.scheduler.status().waiting, 0);
    bench.script.allow(1000);
    hold.await.unwrap().unwrap();
    assert_eq!(bench.ask(&[22]).await.unwrap(), Ok(vec![ok(22)]));
    assert_eq!(bench.script.log(), ["detect [20]", "detect [22]"]);
    bench.until("memory is free", |bench| bench.scheduler.status().pixels == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_in_the_queue_differs_from_one_during_a_pass() {
    let bench = TestScheduler::new(1, 100, 1);
    bench.script.allow(0);
    // Long enough for the first pass to start.
    let working = bench.ask_within(2000, false, vec![picture(20, 10), picture(21, 10)]);
    bench.passes(1).await;
    let waiting = bench.ask_within(200, false, vec![picture(22, 10)]);
    assert!(matches!(waiting.await.unwrap(), Err(ScheduleError::DeadlinePassed { started: false })));
    assert!(matches!(working.await.unwrap(), Err(ScheduleError::DeadlinePassed { started: true })));
    bench.until("counted", |bench| bench.counts.dropped(DropReason::Deadline) == 2).await;
    bench.script.allow(1000);
    assert_eq!(bench.ask(&[23]).await.unwrap(), Ok(vec![ok(23)]));
    assert_eq!(bench.script.log(), ["detect [20]", "detect [23]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_pictures_of_a_large_request_are_decoded_ahead() {
    let bench = TestScheduler::new(1, 1000, 1);
    bench.script.allow(0);
    let large = bench.ask(&[20; 200]);
    bench.passes(1).await;
    // Each has 200 pixels: one in detection, one that is ready, one in between.
    bench.decoded_at_most(600).await;
    bench.script.allow(1000);
    large.await.unwrap().unwrap();
    bench.until("memory is free", |bench| bench.scheduler.status().pixels == 0).await;
}

fn crops(networks: Arc<ScriptedNetworks>, options: AnalyzeOptions) -> AnalysisRequest {
    AnalysisRequest { networks, options, kind: ImageKind::AlignedCrop, keep_picture: false, urgent: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_image_enters_a_full_queue_and_goes_first() {
    let bench = TestScheduler::new(1, 10, 1);
    bench.script.allow(0);
    let large = bench.ask(&[20; 100]);
    bench.passes(1).await;
    bench.decoded_at_most(600).await;
    let refused = bench.ask(&[21]).await.unwrap();
    assert!(matches!(refused, Err(ScheduleError::Full { .. })), "{refused:?}");
    let urgent = bench.ask_as(LONG, false, true, vec![picture(99, 10)]);
    // All but the one that runs and the one whose decoder waits for it, and the urgent one.
    bench.until("in the queue", |bench| bench.scheduler.status().waiting >= 99).await;
    bench.script.allow(1000);
    assert_eq!(urgent.await.unwrap(), Ok(vec![ok(99)]));
    assert_eq!(large.await.unwrap().unwrap().len(), 100);
    // After the one that runs and those that are decoded already.
    let place = bench.script.log().iter().position(|pass| pass == "detect [99]").unwrap();
    assert!(place <= 5, "after {place} others");
}

#[tokio::test(flavor = "multi_thread")]
async fn crops_have_one_size_and_are_described_at_once() {
    let bench = TestScheduler::new(2, 100, 2);
    let networks = Arc::new(ScriptedNetworks { script: bench.script.clone(), batch: 2, face_batch: 2 });
    let options = AnalyzeOptions { embedding: false, gender_age: true, ..AnalyzeOptions::default() };
    let request = crops(networks, options);
    let deadline = Instant::now() + Duration::from_millis(LONG);
    let images = vec![picture(112, 112), picture(100, 112), picture(112, 112)];
    let finish = |analysis| match analysis {
        ImageAnalysis::Crop(description) => Ok(description.attributes.age),
        ImageAnalysis::Faces(..) => panic!("a picture"),
    };
    let outcome = bench.scheduler.run(request, images, deadline, finish).await.unwrap();
    assert!(outcome.images[1].as_ref().unwrap_err().to_string().contains("112x112"), "{outcome:?}");
    assert_eq!(outcome.images[0].as_ref().unwrap(), outcome.images[2].as_ref().unwrap());
    assert!(bench.script.log().iter().all(|pass| pass.starts_with("describe")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_waiting_crops_is_limited() {
    let bench = TestScheduler::new(1, 16, 1);
    bench.script.allow(0);
    let ask = |count| {
        let networks = Arc::new(ScriptedNetworks { script: bench.script.clone(), batch: 1, face_batch: 1 });
        let options = AnalyzeOptions { embedding: false, gender_age: true, ..AnalyzeOptions::default() };
        let request = crops(networks, options);
        let deadline = Instant::now() + Duration::from_millis(LONG);
        let (scheduler, images) = (bench.scheduler.clone(), (0..count).map(|_| picture(112, 112)).collect());
        let finish = |analysis| match analysis {
            ImageAnalysis::Crop(_) => Ok(()),
            ImageAnalysis::Faces(..) => panic!("a picture"),
        };
        tokio::spawn(async move { scheduler.run(request, images, deadline, finish).await })
    };
    let first = ask(100);
    bench.passes(1).await;
    // One that is described, one that is ready, one between.
    bench.decoded_at_most(3 * 112 * 112).await;
    assert!((97..=99).contains(&bench.scheduler.status().waiting), "{:?}", bench.scheduler.status());
    let refused = ask(1).await.unwrap();
    assert!(matches!(refused, Err(ScheduleError::Full { .. })), "{refused:?}");
    bench.script.allow(1000);
    let outcomes = first.await.unwrap().unwrap();
    assert!(outcomes.images.iter().all(Result::is_ok));
    bench.until("memory is free", |bench| bench.scheduler.status().pixels == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_described_while_other_clients_only_detect() {
    // The batch is larger than what ever comes together.
    let bench = TestScheduler { face_batch: 64, ..TestScheduler::new(1, 1000, 1) };
    bench.script.allow(0);
    let detecting: Vec<_> = (0..8).map(|client| bench.ask(&[20 + client; 40])).collect();
    bench.passes(1).await;
    let describing = bench.ask_within(LONG, true, vec![picture(99, 11)]);
    bench.until("in the queue", |bench| bench.scheduler.status().waiting > 300).await;
    bench.script.allow(10_000);
    assert_eq!(describing.await.unwrap(), Ok(vec![Ok((99.0, vec![0]))]));
    let log = bench.script.log();
    let found = log.iter().position(|pass| pass.starts_with("detect") && pass.contains("99")).unwrap();
    let described = log.iter().position(|pass| pass == "describe [99]").unwrap();
    assert!(described - found <= 4, "{} passes later", described - found);
    for client in detecting {
        client.await.unwrap().unwrap();
    }
    // The wait of the face is a step of its own.
    assert_eq!(bench.counts.face_waits.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_no_longer_than_the_delay() {
    // A full batch starts at once.
    let bench = TestScheduler::with_delay(2, 100, 4, Duration::from_millis(2 * LONG));
    let asked: Vec<_> = (20..24).map(|width| bench.ask(&[width])).collect();
    for (width, client) in (20..24).zip(asked) {
        assert_eq!(client.await.unwrap(), Ok(vec![ok(width)]));
    }
    assert_eq!(bench.script.log().len(), 1, "{:?}", bench.script.log());
    // No item waits longer than the delay.
    let bench = TestScheduler::with_delay(2, 100, 4, Duration::from_millis(60));
    let asked = Instant::now();
    assert_eq!(bench.ask(&[20]).await.unwrap(), Ok(vec![ok(20)]));
    assert!(asked.elapsed() >= Duration::from_millis(60), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_waits_for_memory_leaves_with_its_request() {
    let bench = TestScheduler::new(2, 100, 1);
    bench.script.allow(0);
    // Half of the memory, and more than the other half.
    let hold = bench.ask_within(LONG, false, vec![picture(8000, 4000)]);
    bench.passes(1).await;
    let large = bench.ask_within(LONG, false, vec![picture(8001, 5000)]);
    bench.until("it is in line", |bench| bench.scheduler.shared.memory.in_line() == 1).await;
    // The one that came later does not overtake it.
    let small = bench.ask_within(LONG, false, vec![picture(20, 10)]);
    bench.until("it is in line, too", |bench| bench.scheduler.shared.memory.in_line() == 2).await;
    assert_eq!(bench.scheduler.status().pixels, 32_000_000);
    large.abort();
    bench.until("counted", |bench| bench.counts.dropped(DropReason::ClientGone) == 1).await;
    bench.script.allow(1000);
    assert_eq!(small.await.unwrap(), Ok(vec![ok(20)]));
    hold.await.unwrap().unwrap();
    assert!(!bench.script.log().iter().any(|pass| pass.contains("8001")));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_scheduler_ends_its_threads() {
    let bench = TestScheduler::new(3, 100, 1);
    bench.ask(&[20; 10]).await.unwrap().unwrap();
    let TestScheduler { scheduler, counts, .. } = bench;
    // Every thread holds `Shared`, and that holds the observer.
    assert_eq!(Arc::strong_count(&scheduler.shared), 7);
    drop(scheduler);
    let started = Instant::now();
    while Arc::strong_count(&counts) > 1 {
        assert!(started.elapsed() < Duration::from_millis(LONG), "{} still there", Arc::strong_count(&counts));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
