//! The scheduler as a whole, with networks that do what a test wants.

use super::*;
use crate::analyzer::{Attributes, Description};
use crate::attributes::FaceView;
use crate::detect::{Detection, ImageDetections};
use crate::image::RgbImage;
use crate::server::telemetry::metrics::{Batch, Counts};
use std::sync::{Condvar, Mutex};

/// What happened, in order, and a gate that holds networks back until it is opened.
#[derive(Default)]
struct Script {
    log: Mutex<Vec<String>>,
    open: Mutex<Option<usize>>,
    opened: Condvar,
}

impl Script {
    /// Lets so many passes through, and no more.
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

/// Pictures are known by their width. A detector that panics over 13, errs over 14, and finds as many faces as its height is over
/// 10; a recogniser that panics over faces of the picture 15.
struct Fake {
    script: Arc<Script>,
    batch: usize,
    face_batch: usize,
}

impl Networks for Fake {
    fn detect(&self, pictures: &[&RgbImage], _: f32) -> Result<Vec<ImageDetections>, String> {
        let widths: Vec<u32> = pictures.iter().map(|picture| picture.width()).collect();
        self.script.pass(format!("detect {widths:?}"));
        assert!(!widths.contains(&13), "a defect");
        if widths.contains(&14) {
            return Err("a network that fails".into());
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

    fn describe(&self, faces: &[FaceView], _: &AnalyzeOptions) -> Result<Vec<Description>, String> {
        let widths: Vec<u32> = faces.iter().map(|face| face.image.width()).collect();
        self.script.pass(format!("describe {widths:?}"));
        assert!(!widths.contains(&15), "a defect");
        // The age is the face's place in its picture.
        let age = |face: &FaceView| Attributes { age: Some(face.bbox[0] as u32), ..Attributes::default() };
        Ok(faces.iter().map(|face| Description { embedding: None, attributes: age(face) }).collect())
    }

    fn detects(&self, options: &AnalyzeOptions) -> Group {
        Group { networks: [0; 5], question: options.threshold.to_bits(), batch: self.batch }
    }

    fn describes(&self, options: &AnalyzeOptions) -> Option<Group> {
        options.gender_age.then_some(Group { networks: [1; 5], question: 0, batch: self.face_batch })
    }

    fn needs_crops(&self, options: &AnalyzeOptions) -> bool {
        options.gender_age
    }

    fn needs_picture(&self, options: &AnalyzeOptions) -> bool {
        options.gender_age
    }
}

/// A scheduler of one worker unless a test says otherwise.
struct Bench {
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
    script: Arc<Script>,
    batch: usize,
    face_batch: usize,
}

/// Milliseconds in which everything that is to happen happens, however slow the machine.
const LONG: u64 = 60_000;

/// What a test looks at: faces of an image and their ages, or why it failed.
type Seen = Result<(f64, Vec<u32>), String>;

impl Bench {
    fn new(workers: usize, queue: usize, batch: usize) -> Bench {
        Bench::with_delay(workers, queue, batch, Duration::ZERO)
    }

    fn with_delay(workers: usize, queue: usize, batch: usize, delay: Duration) -> Bench {
        let metrics = Arc::new(Metrics::default());
        let capacity = Capacity { workers, queue, batch, delay, limits: DecodeLimits::default() };
        let scheduler = Arc::new(Scheduler::start(capacity, metrics.clone()).unwrap());
        Bench { scheduler, metrics, script: Arc::default(), batch, face_batch: batch }
    }

    fn ask_within(
        &self,
        ms: u64,
        gender_age: bool,
        images: Vec<ImageData>,
    ) -> tokio::task::JoinHandle<Result<Vec<Seen>, ApiError>> {
        let networks = Arc::new(Fake { script: self.script.clone(), batch: self.batch, face_batch: self.face_batch });
        let options = AnalyzeOptions { embedding: false, gender_age, ..AnalyzeOptions::default() };
        let question = Question { networks, options, kind: Kind::Pictures, keep_picture: false };
        let allowed = Duration::from_millis(ms);
        let deadline = Deadline { at: Instant::now() + allowed, allowed };
        let scheduler = self.scheduler.clone();
        tokio::spawn(async move {
            let finish = |product| {
                let Product::Faces(faces, _) = product else { return Err("no faces".into()) };
                Ok((faces.scale, faces.faces.iter().filter_map(|face| face.age).collect()))
            };
            scheduler.run(question, images, deadline, finish).await.map(|outcomes| outcomes.images)
        })
    }

    /// Asks for the faces of pictures of these widths.
    fn ask(&self, widths: &[u32]) -> tokio::task::JoinHandle<Result<Vec<Seen>, ApiError>> {
        self.ask_within(LONG, false, widths.iter().map(|width| picture(*width, 10)).collect())
    }

    /// Waits until something has become true.
    async fn until(&self, what: &str, is_true: impl Fn(&Bench) -> bool) {
        let started = Instant::now();
        while !is_true(self) {
            let late = started.elapsed() > Duration::from_millis(LONG);
            assert!(!late, "{what}: never; log: {:?}, load: {:?}", self.script.log(), self.scheduler.load());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until so many passes have begun.
    async fn passes(&self, count: usize) {
        self.until("passes", |bench| bench.script.log().len() == count).await;
    }

    /// Waits until so many pictures, of so many pixels with the one whose pass is held back, are decoded and wait behind it.
    async fn decoded(&self, pictures: usize, pixels: u64) {
        // Room is taken before a picture is decoded. While it is, it waits neither to be decoded nor to be looked at.
        let are = |load: Load| load.pixels == pixels && load.waiting == pictures;
        self.until("decoded", |bench| are(bench.scheduler.load())).await;
    }

    /// Waits until images of so many pixels are decoded, and sees that no more are.
    async fn decoded_at_most(&self, pixels: u64) {
        self.until("decoded ahead", |bench| bench.scheduler.load().pixels == pixels).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(self.scheduler.load().pixels, pixels);
    }
}

fn picture(width: u32, height: u32) -> ImageData {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::new(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    Ok(bytes.into_inner().into())
}

fn ok(width: u32) -> Seen {
    Ok((f64::from(width), vec![]))
}

#[tokio::test(flavor = "multi_thread")]
async fn results_keep_the_order_of_the_request() {
    let bench = Bench::new(3, 100, 4);
    let bad = |width: u32| width % 10 == 3;
    let images: Vec<ImageData> =
        (20..60).map(|width| if bad(width) { Err(format!("bad {width}")) } else { picture(width, 10) }).collect();
    let results = bench.ask_within(LONG, false, images).await.unwrap().unwrap();
    for (width, result) in (20..60).zip(results) {
        assert_eq!(result, if bad(width) { Err(format!("bad {width}")) } else { ok(width) });
    }
    assert_eq!(bench.ask_within(LONG, false, vec![]).await.unwrap(), Ok(vec![]));
    let none = bench.ask_within(LONG, false, vec![Err("no".into()), Ok("no picture".into())]).await.unwrap().unwrap();
    assert_eq!(none[0], Err("no".into()));
    assert!(none[1].as_ref().unwrap_err().contains("not a picture"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_come_back_to_their_picture_in_order() {
    for batch in [1, 4] {
        let bench = Bench::new(2, 100, batch);
        let images = vec![picture(20, 13), picture(21, 10), picture(22, 17)];
        let results = bench.ask_within(LONG, true, images).await.unwrap().unwrap();
        assert_eq!(results[0], Ok((20.0, vec![0, 1, 2])));
        assert_eq!(results[1], ok(21));
        assert_eq!(results[2], Ok((22.0, (0..7).collect())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_does_not_wait_for_two_hundred() {
    let bench = Bench::new(1, 512, 1);
    bench.script.allow(0);
    let large = bench.ask(&[20; 200]);
    bench.passes(1).await;
    let small = bench.ask(&[99]);
    // All but the one that runs, and the small one.
    bench.until("in the queue", |bench| bench.scheduler.load().waiting == 200).await;
    bench.script.allow(1000);
    assert_eq!(small.await.unwrap(), Ok(vec![ok(99)]));
    assert_eq!(large.await.unwrap().unwrap().len(), 200);
    // The one that runs, those that are decoded already, and one turn.
    let place = bench.script.log().iter().position(|pass| pass == "detect [99]").unwrap();
    assert!(place <= 6, "after {place} others");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_anyway_is_batched_and_an_idle_worker_waits_for_nothing() {
    let bench = Bench::new(1, 100, 4);
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
    let Counts { count, sum, .. } = bench.metrics.batches_so_far(Batch::Detect);
    assert_eq!((count, sum), (3, 6.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_of_several_requests_are_described_together() {
    let bench = Bench::new(1, 100, 4);
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
        let bench = Bench { batch, ..Bench::new(1, 100, 8) };
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
        assert_eq!(results, [ok(21), defect, ok(22), Err("a network that fails".into()), ok(23)]);
        assert_eq!(innocent.await.unwrap(), Ok(vec![ok(24)]));
        // The worker is still there.
        assert_eq!(bench.ask(&[25]).await.unwrap(), Ok(vec![ok(25)]));
        bench.until("idle", |bench| bench.scheduler.load().busy == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_panics_fails_its_picture_alone() {
    let bench = Bench::new(1, 100, 8);
    let images = vec![picture(20, 12), picture(15, 12), picture(22, 11)];
    let results = bench.ask_within(LONG, true, images).await.unwrap().unwrap();
    assert_eq!(results[0], Ok((20.0, vec![0, 1])));
    assert_eq!(results[1], Err("an internal error on this image".into()));
    assert_eq!(results[2], Ok((22.0, vec![0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let bench = Bench::new(1, 10, 1);
    bench.script.allow(0);
    // More than the queue holds, but nobody else waits.
    let large = bench.ask(&[20; 20]);
    bench.passes(1).await;
    bench.until("decoded ahead", |bench| bench.scheduler.load().pixels == 600).await;
    assert!(bench.scheduler.load().waiting > 10);
    let asked = Instant::now();
    let refused = bench.ask(&[21]).await.unwrap();
    assert!(matches!(refused, Err(ApiError::Busy { retry_after: 1.. })), "{refused:?}");
    // Until there is room it would have waited for as long as it may.
    assert!(asked.elapsed() < Duration::from_millis(LONG / 4));
    large.abort();
    bench.until("the queue is empty", |bench| bench.scheduler.load().waiting == 0).await;
    let next = bench.ask(&[22]);
    bench.script.allow(1000);
    assert_eq!(next.await.unwrap(), Ok(vec![ok(22)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_not_be_served_in_time_is_refused_at_the_door() {
    let bench = Bench::new(1, 1000, 1);
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
    assert!(matches!(refused, Err(ApiError::Busy { .. })), "{refused:?}");
    // A single image has its turn soon, whatever else waits: behind all of them it would come too late.
    let single = bench.ask_within(4000, false, vec![picture(22, 10)]);
    slow.allow(1000);
    assert_eq!(single.await.unwrap(), Ok(vec![ok(22)]));
    assert_eq!(large.await.unwrap().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_whose_client_has_gone_cost_nothing_and_are_counted() {
    let bench = Bench::new(1, 1000, 1);
    bench.script.allow(0);
    let hold = bench.ask(&[20]);
    bench.passes(1).await;
    let gone = bench.ask(&[21; 100]);
    bench.until("in the queue", |bench| bench.scheduler.load().waiting > 90).await;
    gone.abort();
    bench.until("counted", |bench| bench.metrics.dropped_so_far(DropReason::ClientGone) == 100).await;
    assert_eq!(bench.scheduler.load().waiting, 0);
    bench.script.allow(1000);
    hold.await.unwrap().unwrap();
    assert_eq!(bench.ask(&[22]).await.unwrap(), Ok(vec![ok(22)]));
    assert_eq!(bench.script.log(), ["detect [20]", "detect [22]"]);
    bench.until("memory is free", |bench| bench.scheduler.load().pixels == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_too_long_is_503_and_working_too_long_504() {
    let bench = Bench::new(1, 100, 1);
    bench.script.allow(0);
    // Long enough to be begun.
    let working = bench.ask_within(2000, false, vec![picture(20, 10), picture(21, 10)]);
    bench.passes(1).await;
    let waiting = bench.ask_within(200, false, vec![picture(22, 10)]);
    assert!(matches!(waiting.await.unwrap(), Err(ApiError::Overloaded(_))));
    assert!(matches!(working.await.unwrap(), Err(ApiError::Timeout(_))));
    bench.until("counted", |bench| bench.metrics.dropped_so_far(DropReason::Deadline) == 2).await;
    bench.script.allow(1000);
    assert_eq!(bench.ask(&[23]).await.unwrap(), Ok(vec![ok(23)]));
    assert_eq!(bench.script.log(), ["detect [20]", "detect [23]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn decoded_pictures_are_few_however_long_the_request() {
    let bench = Bench::new(1, 1000, 1);
    bench.script.allow(0);
    let large = bench.ask(&[20; 200]);
    bench.passes(1).await;
    // Of 200 pixels each: one that is looked at, one that is ready, one between.
    bench.decoded_at_most(600).await;
    bench.script.allow(1000);
    large.await.unwrap().unwrap();
    bench.until("memory is free", |bench| bench.scheduler.load().pixels == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crops_have_one_size_and_are_described_at_once() {
    let bench = Bench::new(2, 100, 2);
    let networks = Arc::new(Fake { script: bench.script.clone(), batch: 2, face_batch: 2 });
    let options = AnalyzeOptions { embedding: false, gender_age: true, ..AnalyzeOptions::default() };
    let question = Question { networks, options, kind: Kind::Crops, keep_picture: false };
    let allowed = Duration::from_millis(LONG);
    let deadline = Deadline { at: Instant::now() + allowed, allowed };
    let images = vec![picture(112, 112), picture(100, 112), picture(112, 112)];
    let finish = |product| match product {
        Product::Crop(description) => Ok(description.attributes.age),
        Product::Faces(..) => Err("a picture".to_string()),
    };
    let outcomes = bench.scheduler.run(question, images, deadline, finish).await.unwrap();
    assert!(outcomes.images[1].as_ref().unwrap_err().contains("112x112"), "{outcomes:?}");
    assert_eq!(outcomes.images[0], outcomes.images[2]);
    assert!(bench.script.log().iter().all(|pass| pass.starts_with("describe")));
}

#[tokio::test(flavor = "multi_thread")]
async fn crops_wait_in_a_bounded_number_like_pictures() {
    let bench = Bench::new(1, 16, 1);
    bench.script.allow(0);
    let ask = |count| {
        let networks = Arc::new(Fake { script: bench.script.clone(), batch: 1, face_batch: 1 });
        let options = AnalyzeOptions { embedding: false, gender_age: true, ..AnalyzeOptions::default() };
        let question = Question { networks, options, kind: Kind::Crops, keep_picture: false };
        let allowed = Duration::from_millis(LONG);
        let deadline = Deadline { at: Instant::now() + allowed, allowed };
        let (scheduler, images) = (bench.scheduler.clone(), (0..count).map(|_| picture(112, 112)).collect());
        let finish = |product| match product {
            Product::Crop(_) => Ok(()),
            Product::Faces(..) => Err("a picture".to_string()),
        };
        tokio::spawn(async move { scheduler.run(question, images, deadline, finish).await })
    };
    let first = ask(100);
    bench.passes(1).await;
    // One that is described, one that is ready, one between.
    bench.decoded_at_most(3 * 112 * 112).await;
    assert!((97..=99).contains(&bench.scheduler.load().waiting), "{:?}", bench.scheduler.load());
    let refused = ask(1).await.unwrap();
    assert!(matches!(refused, Err(ApiError::Busy { .. })), "{refused:?}");
    bench.script.allow(1000);
    let outcomes = first.await.unwrap().unwrap();
    assert!(outcomes.images.iter().all(Result::is_ok));
    bench.until("memory is free", |bench| bench.scheduler.load().pixels == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faces_are_described_beside_clients_that_only_detect() {
    // The batch is larger than what ever comes together.
    let bench = Bench { face_batch: 64, ..Bench::new(1, 1000, 1) };
    bench.script.allow(0);
    let detecting: Vec<_> = (0..8).map(|client| bench.ask(&[20 + client; 40])).collect();
    bench.passes(1).await;
    let describing = bench.ask_within(LONG, true, vec![picture(99, 11)]);
    bench.until("in the queue", |bench| bench.scheduler.load().waiting > 300).await;
    bench.script.allow(10_000);
    assert_eq!(describing.await.unwrap(), Ok(vec![Ok((99.0, vec![0]))]));
    let log = bench.script.log();
    let found = log.iter().position(|pass| pass.starts_with("detect") && pass.contains("99")).unwrap();
    let described = log.iter().position(|pass| pass == "describe [99]").unwrap();
    assert!(described - found <= 4, "{} passes later", described - found);
    for client in detecting {
        client.await.unwrap().unwrap();
    }
    // The wait of the face is in its own histogram.
    let page = bench.metrics.page(Default::default());
    assert!(page.contains("ifr_stage_seconds_count{stage=\"face_queue\"} 1\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_waits_for_more_only_as_long_as_it_is_told_to() {
    // Nobody has to wait when a batch is full.
    let bench = Bench::with_delay(2, 100, 4, Duration::from_millis(2 * LONG));
    let asked: Vec<_> = (20..24).map(|width| bench.ask(&[width])).collect();
    for (width, client) in (20..24).zip(asked) {
        assert_eq!(client.await.unwrap(), Ok(vec![ok(width)]));
    }
    assert_eq!(bench.script.log().len(), 1, "{:?}", bench.script.log());
    // And nobody for longer than the delay.
    let bench = Bench::with_delay(2, 100, 4, Duration::from_millis(60));
    let asked = Instant::now();
    assert_eq!(bench.ask(&[20]).await.unwrap(), Ok(vec![ok(20)]));
    assert!(asked.elapsed() >= Duration::from_millis(60), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_memory_leaves_with_its_request() {
    let bench = Bench::new(2, 100, 1);
    bench.script.allow(0);
    // Half of what there is room for, and more than the other half.
    let hold = bench.ask_within(LONG, false, vec![picture(8000, 4000)]);
    bench.passes(1).await;
    let large = bench.ask_within(LONG, false, vec![picture(8001, 5000)]);
    bench.until("it is in line", |bench| bench.scheduler.shared.memory.in_line() == 1).await;
    // The one that came later does not overtake it.
    let small = bench.ask_within(LONG, false, vec![picture(20, 10)]);
    bench.until("it is in line, too", |bench| bench.scheduler.shared.memory.in_line() == 2).await;
    assert_eq!(bench.scheduler.load().pixels, 32_000_000);
    large.abort();
    bench.until("counted", |bench| bench.metrics.dropped_so_far(DropReason::ClientGone) == 1).await;
    bench.script.allow(1000);
    assert_eq!(small.await.unwrap(), Ok(vec![ok(20)]));
    hold.await.unwrap().unwrap();
    assert!(!bench.script.log().iter().any(|pass| pass.contains("8001")));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_ends_its_threads() {
    let bench = Bench::new(3, 100, 1);
    bench.ask(&[20; 10]).await.unwrap().unwrap();
    let Bench { scheduler, metrics, .. } = bench;
    // Every thread holds what they share, and that holds the metrics.
    assert_eq!(Arc::strong_count(&scheduler.shared), 7);
    drop(scheduler);
    let started = Instant::now();
    while Arc::strong_count(&metrics) > 1 {
        assert!(started.elapsed() < Duration::from_millis(LONG), "{} still there", Arc::strong_count(&metrics));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
