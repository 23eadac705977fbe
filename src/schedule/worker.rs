//! The threads that run networks, one batch at a time.

use super::backlog::Pass;
use super::collector::{catch_panic, panic_message};
use super::error::ImageFailure;
use super::observer::{PassKind, ScheduleStep};
use super::picture_memory::Frame;
use super::request::{CroppedFace, DecodedImage, DetectedImage, ImageAnalysis, QueuedRequest};
use super::shared::Shared;
use crate::align::align;
use crate::analyzer::{AnalyzeError, Description, select};
use crate::attributes::FaceView;
use crate::detect::ImageDetections;
use crate::engine;
use crate::image::RgbImage;
use rayon::ThreadPoolBuilder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Runs passes until the scheduler is closed.
pub(crate) fn run(shared: &Shared) {
    // A pool of this thread only: parallel code in the networks stays on it while every core has its own inference.
    let _own_pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    while let Some((pass, all_threads)) = shared.next_pass() {
        let work = || match pass {
            Pass::Detect(pictures) => detect(shared, pictures),
            Pass::Describe(faces) => describe(shared, faces),
        };
        let done = catch_unwind(AssertUnwindSafe(|| {
            if all_threads { engine::run_on_pool(work) } else { engine::run_on_this_thread(work) }
        }));
        if let Err(payload) = &done {
            // Panics of networks are caught for each image, so this is a defect of the scheduler. The requests end at
            // their deadline.
            tracing::error!(panic = panic_message(&**payload), "a worker panicked outside of a network");
        }
        shared.pass_done(done.unwrap_or(0));
    }
}

/// Detects the faces of pictures. Returns the number of images that are finished.
fn detect(shared: &Shared, pictures: Vec<DecodedImage>) -> usize {
    let pictures = drop_abandoned(shared, pictures, |picture| &picture.request, |_| true);
    let Some(first) = pictures.first() else { return 0 };
    for picture in &pictures {
        picture.request.start();
        shared.observer.step_took(ScheduleStep::Queue, picture.waited + picture.since.elapsed());
    }
    let analysis = &first.request.analysis;
    let found = run_batch_isolating_failures(&pictures, |pictures| {
        let frames: Vec<&RgbImage> = pictures.iter().map(|picture| &picture.frame.picture).collect();
        let started = Instant::now();
        let found = analysis.networks.detect(&frames, analysis.options.threshold);
        shared.observer.step_took(ScheduleStep::Detect, started.elapsed());
        shared.observer.batch_ran(PassKind::Detect, frames.len());
        found
    });
    let mut finished = 0;
    for (picture, found) in pictures.into_iter().zip(found) {
        let DecodedImage { request, index, frame, .. } = picture;
        let result = match found.and_then(|found| catch_panic(|| Ok(crop_faces(shared, &request, index, frame, found))))
        {
            Ok(AfterDetection::Describe(faces)) => {
                shared.push_faces(faces, true);
                continue;
            }
            Ok(AfterDetection::Finished(result)) => Ok(result),
            Err(failure) => Err(failure),
        };
        finished += 1;
        shared.deliver(&request, index, result);
    }
    finished
}

/// The next step of an image after detection.
enum AfterDetection {
    /// These faces need a description.
    Describe(Vec<CroppedFace>),
    /// The image is done.
    Finished(ImageAnalysis),
}

/// Selects the wanted faces and cuts them out.
fn crop_faces(
    shared: &Shared,
    request: &Arc<QueuedRequest>,
    index: usize,
    frame: Arc<Frame>,
    mut found: ImageDetections,
) -> AfterDetection {
    let options = &request.analysis.options;
    let networks = &request.analysis.networks;
    select(&mut found.detections, options);
    let started = Instant::now();
    let crops: Vec<RgbImage> = match networks.needs_crops(options) {
        true => found.detections.iter().map(|face| align(&frame.picture, &face.landmarks)).collect(),
        false => vec![],
    };
    if !crops.is_empty() {
        shared.observer.step_took(ScheduleStep::Align, started.elapsed());
    }
    let boxes: Vec<[f32; 4]> = found.detections.iter().map(|face| face.bbox).collect();
    let mut image = DetectedImage::new(request.clone(), index, frame.picture.dimensions(), found, boxes.len());
    if request.analysis.keep_picture || networks.needs_picture(options) {
        image.frame = Some(frame);
    }
    if boxes.is_empty() || networks.description_batch_key(options).is_none() {
        let bare = crops.into_iter().map(|crop| (Description::default(), Some(crop).filter(|_| options.keep_crops)));
        return AfterDetection::Finished(image.into_analysis(bare.collect()));
    }
    let image = Arc::new(image);
    let mut crops = crops.into_iter();
    let since = Instant::now();
    let faces = boxes.into_iter().enumerate().map(|(number, bbox)| {
        let crop = crops.next().unwrap_or_default();
        CroppedFace { image: image.clone(), number, bbox, crop, whole_image: None, since }
    });
    AfterDetection::Describe(faces.collect())
}

/// Describes faces. Returns the number of images that are finished.
fn describe(shared: &Shared, faces: Vec<CroppedFace>) -> usize {
    let faces = drop_abandoned(shared, faces, |face| &face.image.request, |face| face.image.drop_once());
    let Some(first) = faces.first() else { return 0 };
    for face in &faces {
        face.image.request.start();
        match &face.whole_image {
            Some(image) => shared.observer.step_took(ScheduleStep::Queue, image.waited + face.since.elapsed()),
            None => shared.observer.step_took(ScheduleStep::FaceQueue, face.since.elapsed()),
        }
    }
    let analysis = &first.image.request.analysis;
    let described = run_batch_isolating_failures(&faces, |faces| {
        let views: Vec<FaceView> = faces.iter().map(|face| view(face)).collect();
        let started = Instant::now();
        let described = analysis.networks.describe(&views, &analysis.options);
        shared.observer.step_took(ScheduleStep::Describe, started.elapsed());
        shared.observer.batch_ran(PassKind::Describe, views.len());
        described
    });
    let mut finished = 0;
    for (face, described) in faces.into_iter().zip(described) {
        let CroppedFace { image, number, crop, .. } = face;
        let result = match described {
            Ok(description) => image.describe(number, description, crop).map(Ok),
            // The first failure of a face fails its picture.
            Err(failure) => Some(Err(failure)),
        };
        if let Some(result) = result {
            finished += 1;
            shared.deliver(&image.request, image.index, result);
        }
    }
    finished
}

fn view(face: &CroppedFace) -> FaceView<'_> {
    let image = face.image.frame.as_ref().map_or(&face.crop, |frame| &frame.picture);
    FaceView { image, bbox: face.bbox, crop: &face.crop }
}

/// Drops the items whose request has been dropped. Each one counts as a dropped image if `counts` says so.
fn drop_abandoned<T>(
    shared: &Shared,
    items: Vec<T>,
    request: impl Fn(&T) -> &Arc<QueuedRequest>,
    counts: impl Fn(&T) -> bool,
) -> Vec<T> {
    let (wanted, abandoned): (Vec<T>, Vec<T>) = items.into_iter().partition(|item| request(item).abandoned().is_none());
    for item in abandoned.iter().filter(|item| counts(item)) {
        if let Some(reason) = request(item).abandoned() {
            shared.observer.images_dropped(reason, 1);
        }
    }
    wanted
}

/// Runs a batch. If it fails, runs each item alone, so that only the one at fault fails.
fn run_batch_isolating_failures<T, R>(
    items: &[T],
    run: impl Fn(&[&T]) -> Result<Vec<R>, AnalyzeError>,
) -> Vec<Result<R, ImageFailure>> {
    let complete = |items: &[&T]| {
        let results = run(items)?;
        let (expected, got) = (items.len(), results.len());
        if expected == got { Ok(results) } else { Err(ImageFailure::ResultCount { expected, got }) }
    };
    let all: Vec<&T> = items.iter().collect();
    match catch_panic(|| complete(&all)) {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(failure) if items.len() == 1 => vec![Err(failure)],
        Err(_) => all
            .chunks(1)
            .map(|one| {
                let missing = ImageFailure::ResultCount { expected: 1, got: 0 };
                catch_panic(|| complete(one))?.pop().ok_or(missing)
            })
            .collect(),
    }
}
