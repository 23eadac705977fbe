//! The one door between handlers and networks: decodes pictures, analyses them, and bounds how much runs at once.

use super::error::ApiError;
use super::schema::request::ImageData;
use crate::analyzer::{AnalyzeOptions, Attributes, FaceAnalyzer, ImageFaces};
use crate::image::{Annotation, DecodeLimits, DrawOptions, RgbImage, decode, draw_faces};
use crate::recognize::Embedding;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Pictures that are in memory together for one request: up to this many, and up to so many pixels.
const CHUNK_IMAGES: usize = 16;
const CHUNK_PIXELS: u64 = 64_000_000;
/// Side of an aligned face crop, in pixels.
const CROP: u32 = crate::align::CROP_SIDE;

/// When a request has to be answered, and how long it had.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The whole time allowed.
    pub allowed: Duration,
}

/// Runs networks for requests, as many at once as there are workers.
pub struct Inference {
    workers: Arc<Semaphore>,
    limits: DecodeLimits,
}

/// What one picture gave, or one sentence on what was wrong with it.
pub type Outcome<T> = Result<T, String>;

/// What all pictures of a request gave.
#[derive(Debug)]
pub struct Outcomes<T> {
    /// In the order of the request.
    pub images: Vec<Outcome<T>>,
    /// Time spent decoding.
    pub decoding: Duration,
    /// Time spent in networks.
    pub analyzing: Duration,
}

/// Set when nobody waits for the result any more.
#[derive(Clone, Default)]
struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the networks say of an aligned crop.
#[derive(Clone, Debug)]
pub struct CropFindings {
    /// None where no recogniser is asked.
    pub embedding: Option<Embedding>,
    pub attributes: Attributes,
}

/// Declares the work abandoned when the request's future is dropped: a timeout, or a client that went away.
struct Waiting(Abandoned);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Inference {
    /// `workers` inferences at once (0: one per core); pictures of up to `max_pixels`.
    pub fn new(workers: usize, max_pixels: u64) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if workers == 0 { cores() } else { workers };
        Inference { workers: Arc::new(Semaphore::new(workers)), limits: DecodeLimits { max_pixels } }
    }

    /// The faces of every picture.
    pub async fn faces<T: Send + 'static>(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        images: Vec<ImageData>,
        deadline: Deadline,
        finish: impl Fn(ImageFaces) -> T + Send + 'static,
    ) -> Result<Outcomes<T>, ApiError> {
        let limits = self.limits;
        let analyze = move |pictures: &[RgbImage]| {
            let analysis = analyzer.analyze(pictures, &options).map_err(|error| error.to_string())?;
            Ok(analysis.images.into_iter().map(&finish).collect())
        };
        self.run(deadline, move |abandoned| in_chunks(images, &limits, &abandoned, no_check, &analyze)).await
    }

    /// What the networks say of every picture, each of which is an aligned crop.
    pub async fn crops(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        images: Vec<ImageData>,
        deadline: Deadline,
    ) -> Result<Outcomes<CropFindings>, ApiError> {
        let limits = self.limits;
        let embed = move |crops: &[RgbImage]| {
            let embeddings = match options.embedding {
                true => analyzer.embed(crops).map_err(|error| error.to_string())?.into_iter().map(Some).collect(),
                false => vec![None; crops.len()],
            };
            let attributes = analyzer.attributes(crops, &options).map_err(|error| error.to_string())?;
            let findings = embeddings.into_iter().zip(attributes);
            Ok(findings.map(|(embedding, attributes)| CropFindings { embedding, attributes }).collect())
        };
        self.run(deadline, move |abandoned| in_chunks(images, &limits, &abandoned, check_crop, &embed)).await
    }

    /// A picture with its faces drawn in, as JPEG, and how many they are. Errs with 400 when it is not a picture.
    pub async fn drawing(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        image: ImageData,
        draw: DrawOptions,
        deadline: Deadline,
    ) -> Result<(Vec<u8>, usize), ApiError> {
        let limits = self.limits;
        let work = move |_: Abandoned| -> Result<(Vec<u8>, usize), String> {
            let bytes = image?;
            guarded(|| {
                let mut picture = decode(&bytes, &limits).map_err(|error| error.to_string())?;
                let pictures = std::slice::from_ref(&picture);
                let analysis = analyzer.analyze(pictures, &options).map_err(|error| error.to_string())?;
                let faces = analysis.images.into_iter().flat_map(|image| image.faces);
                let faces: Vec<Annotation> = faces
                    .map(|face| Annotation { bbox: face.bbox, landmarks: face.landmarks, prob: face.prob })
                    .collect();
                draw_faces(&mut picture, &faces, &draw);
                super::answer::jpeg(&picture).map(|jpeg| (jpeg, faces.len()))
            })
        };
        self.run(deadline, work).await?.map_err(ApiError::BadRequest)
    }

    /// Analyses one picture at once, not waiting behind other requests: a check whether networks work at all.
    pub async fn check(&self, analyzer: FaceAnalyzer, picture: &'static [u8]) -> Result<usize, String> {
        let limits = self.limits;
        let work = move || {
            guarded(|| {
                let picture = decode(picture, &limits).map_err(|error| error.to_string())?;
                let embedding = analyzer.recognizer.is_some();
                let options = AnalyzeOptions { embedding, ..AnalyzeOptions::default() };
                let analysis = analyzer.analyze(&[picture], &options).map_err(|error| error.to_string())?;
                Ok(analysis.images.first().map_or(0, |image| image.faces.len()))
            })
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Waits for a worker, then for the work. The worker is free again when the work has ended, not when its client
    /// has stopped waiting.
    async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce(Abandoned) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(permit) = timeout_at(deadline.at, self.workers.clone().acquire_owned()).await else {
            let waited = deadline.allowed.as_secs();
            return Err(ApiError::Overloaded(format!("no worker was free within {waited} seconds; try again later")));
        };
        let abandoned = Abandoned::default();
        let _waiting = Waiting(abandoned.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(abandoned)
        });
        match timeout_at(deadline.at, task).await {
            Err(_) => Err(ApiError::Timeout(deadline.allowed.as_secs())),
            Ok(Err(_)) => Err(ApiError::Internal("an inference failed in an unexpected way".into())),
            Ok(Ok(result)) => Ok(result),
        }
    }
}

fn no_check(_: &RgbImage) -> Outcome<()> {
    Ok(())
}

fn check_crop(crop: &RgbImage) -> Outcome<()> {
    match crop.dimensions() {
        (CROP, CROP) => Ok(()),
        (w, h) => {
            Err(format!("embed_only needs aligned face crops of {CROP}x{CROP} pixels, and this image has {w}x{h}"))
        }
    }
}

/// Decodes and analyses pictures a chunk at a time, so that memory does not grow with the length of a request.
fn in_chunks<T>(
    images: Vec<ImageData>,
    limits: &DecodeLimits,
    abandoned: &Abandoned,
    check: fn(&RgbImage) -> Outcome<()>,
    analyze: &dyn Fn(&[RgbImage]) -> Outcome<Vec<T>>,
) -> Outcomes<T> {
    let mut outcomes =
        Outcomes { images: Vec::with_capacity(images.len()), decoding: Duration::ZERO, analyzing: Duration::ZERO };
    let mut images = images.into_iter().peekable();
    while images.peek().is_some() && !abandoned.is_set() {
        let started = Instant::now();
        let mut pictures = Vec::new();
        let mut failures = Vec::new();
        let mut pixels = 0;
        while pictures.len() < CHUNK_IMAGES && pixels < CHUNK_PIXELS {
            let Some(image) = images.next() else { break };
            let picture = image.and_then(|bytes| guarded(|| decode(&bytes, limits).map_err(|error| error.to_string())));
            match picture.and_then(|picture| check(&picture).map(|()| picture)) {
                Ok(picture) => {
                    pixels += u64::from(picture.width()) * u64::from(picture.height());
                    pictures.push(picture);
                    failures.push(None);
                }
                Err(reason) => failures.push(Some(reason)),
            }
        }
        let decoded = Instant::now();
        let mut results = analyze_each(&pictures, analyze).into_iter();
        outcomes.images.extend(failures.into_iter().map(|failure| match failure {
            Some(reason) => Err(reason),
            None => results.next().unwrap_or_else(|| Err("no result".into())),
        }));
        outcomes.decoding += decoded - started;
        outcomes.analyzing += decoded.elapsed();
    }
    outcomes
}

/// Analyses pictures together; when that fails, each alone, so that only the one at fault fails.
fn analyze_each<T>(pictures: &[RgbImage], analyze: &dyn Fn(&[RgbImage]) -> Outcome<Vec<T>>) -> Vec<Outcome<T>> {
    let together = if pictures.is_empty() { Ok(Vec::new()) } else { guarded(|| analyze(pictures)) };
    match together {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(reason) if pictures.len() == 1 => vec![Err(reason)],
        Err(_) => pictures
            .iter()
            .map(|picture| {
                let result = guarded(|| analyze(std::slice::from_ref(picture)))?;
                result.into_iter().next().ok_or_else(|| "no result".to_string())
            })
            .collect(),
    }
}

/// A panic becomes a sentence: the picture that caused it fails, and nothing else.
fn guarded<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("an internal error on this image".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(side: u32) -> ImageData {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(side, side).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        Ok(bytes.into_inner().into())
    }

    fn widths(pictures: &[RgbImage]) -> Outcome<Vec<u32>> {
        Ok(pictures.iter().map(|picture| picture.width()).collect())
    }

    fn run(images: Vec<ImageData>, analyze: &dyn Fn(&[RgbImage]) -> Outcome<Vec<u32>>) -> Vec<Outcome<u32>> {
        in_chunks(images, &DecodeLimits::default(), &Abandoned::default(), no_check, analyze).images
    }

    #[test]
    fn results_keep_the_order_of_the_request() {
        let images = (1..=40).map(|side| if side % 10 == 3 { Err(format!("bad {side}")) } else { png(side) }).collect();
        let results = run(images, &widths);
        assert_eq!(results.len(), 40);
        for (side, result) in (1..).zip(results) {
            assert_eq!(result, if side % 10 == 3 { Err(format!("bad {side}")) } else { Ok(side) });
        }
    }

    #[test]
    fn a_picture_that_panics_fails_alone() {
        let fragile = |pictures: &[RgbImage]| {
            assert!(pictures.iter().all(|picture| picture.width() != 7), "a defect");
            widths(pictures)
        };
        let results = run((5..10).map(png).collect(), &fragile);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4);
        assert_eq!(results[2], Err("an internal error on this image".into()));
    }

    #[test]
    fn abandoned_work_stops() {
        let abandoned = Abandoned::default();
        let calls = std::cell::Cell::new(0);
        let analyze = |pictures: &[RgbImage]| {
            calls.set(calls.get() + 1);
            abandoned.0.store(true, Ordering::Relaxed);
            widths(pictures)
        };
        let images = (0..3 * CHUNK_IMAGES).map(|_| png(1)).collect();
        in_chunks(images, &DecodeLimits::default(), &abandoned, no_check, &analyze);
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn crops_have_one_size() {
        let images = vec![png(112), png(100)];
        let results = in_chunks(images, &DecodeLimits::default(), &Abandoned::default(), check_crop, &widths).images;
        assert_eq!(results[0], Ok(112));
        assert!(results[1].as_ref().unwrap_err().contains("112x112"));
    }

    #[tokio::test]
    async fn waiting_too_long_is_503_and_working_too_long_504() {
        let inference = Arc::new(Inference::new(1, 1000));
        let deadline =
            |ms| Deadline { at: Instant::now() + Duration::from_millis(ms), allowed: Duration::from_secs(1) };
        let slow = inference.run(deadline(50), |_| std::thread::sleep(Duration::from_millis(300))).await;
        assert_eq!(slow, Err(ApiError::Timeout(1)));
        // The first one still holds the only worker.
        let late = inference.run(deadline(50), |_| ()).await;
        assert!(matches!(late, Err(ApiError::Overloaded(_))), "{late:?}");
        assert_eq!(inference.run(deadline(2000), |_| 5).await, Ok(5));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_an_answer() {
        let inference = Inference::new(1, 1000);
        let deadline = Deadline { at: Instant::now() + Duration::from_secs(5), allowed: Duration::from_secs(5) };
        let result = inference.run(deadline, |_| panic!("a defect")).await;
        assert!(matches!(result, Err(ApiError::Internal(_))));
        assert_eq!(inference.run(deadline, |_| 1).await, Ok(1));
    }
}
