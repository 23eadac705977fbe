//! The threads that run networks, one batch at a time.

use super::Product;
use super::backlog::Task;
use super::collector::{Failure, guarded};
use super::job::{CutFace, Decoded, Job, Looked};
use super::shared::Shared;
use crate::align::align;
use crate::analyzer::{Description, select};
use crate::attributes::FaceView;
use crate::detect::Found;
use crate::engine;
use crate::image::RgbImage;
use crate::server::telemetry::metrics::{Batch, FailureKind, Stage};
use rayon::ThreadPoolBuilder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Works until the scheduler is closed.
pub(crate) fn run(shared: &Shared) {
    // A pool of this thread alone: what goes on in parallel elsewhere stays here when every core has its own inference.
    let _own = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    while let Some((task, spread)) = shared.next_task() {
        let work = || match task {
            Task::Detect(pictures) => detect(shared, pictures),
            Task::Describe(faces) => describe(shared, faces),
        };
        let done = catch_unwind(AssertUnwindSafe(|| {
            if spread { engine::run_on_pool(work) } else { engine::run_on_this_thread(work) }
        }));
        if done.is_err() {
            // Networks are guarded one by one, so this is a defect of the scheduler; its requests end with their deadline.
            tracing::error!("a worker panicked outside of a network");
        }
        shared.done(done.unwrap_or(0));
    }
}

/// Finds the faces of pictures; returns how many images were finished.
fn detect(shared: &Shared, pictures: Vec<Decoded>) -> usize {
    let pictures = wanted(shared, pictures, |picture| &picture.job, |_| true);
    let Some(first) = pictures.first() else { return 0 };
    for picture in &pictures {
        picture.job.start();
        shared.metrics.time(Stage::Queue, picture.waited + picture.since.elapsed());
    }
    let question = &first.job.question;
    let found = together(&pictures, |pictures| {
        let frames: Vec<&RgbImage> = pictures.iter().map(|picture| &picture.frame.picture).collect();
        let started = Instant::now();
        let found = question.networks.detect(&frames, question.options.threshold);
        shared.metrics.time(Stage::Detect, started.elapsed());
        shared.metrics.batch(Batch::Detect, frames.len());
        found
    });
    let mut finished = 0;
    for (picture, found) in pictures.into_iter().zip(found) {
        let Decoded { job, index, frame, .. } = picture;
        let outcome =
            found.and_then(|found| guarded(FailureKind::Inference, || cut(shared, &job, index, frame, found)));
        let product = match outcome {
            Ok(Cut::Faces(faces)) => {
                shared.push_faces(faces, true);
                continue;
            }
            Ok(Cut::Nothing(product)) => Ok(product),
            Err(failure) => Err(failure),
        };
        finished += 1;
        deliver(shared, &job, index, product);
    }
    finished
}

/// What is left to do for a picture whose faces are known.
enum Cut {
    /// These are to be described.
    Faces(Vec<CutFace>),
    /// Nothing.
    Nothing(Product),
}

/// Keeps the faces that are wanted and cuts them out.
fn cut(
    shared: &Shared,
    job: &Arc<Job>,
    index: usize,
    frame: Arc<super::Frame>,
    mut found: Found,
) -> Result<Cut, String> {
    let options = &job.question.options;
    let networks = &job.question.networks;
    select(&mut found.detections, options);
    let started = Instant::now();
    let crops: Vec<RgbImage> = match networks.needs_crops(options) {
        true => found.detections.iter().map(|face| align(&frame.picture, &face.landmarks)).collect(),
        false => vec![],
    };
    if !crops.is_empty() {
        shared.metrics.time(Stage::Align, started.elapsed());
    }
    let boxes: Vec<[f32; 4]> = found.detections.iter().map(|face| face.bbox).collect();
    let mut looked = Looked::new(job.clone(), index, frame.picture.dimensions(), found, boxes.len());
    if job.question.keep_picture || networks.needs_picture(options) {
        looked.frame = Some(frame);
    }
    if boxes.is_empty() || networks.describes(options).is_none() {
        let bare = crops.into_iter().map(|crop| (Description::default(), Some(crop).filter(|_| options.keep_crops)));
        return Ok(Cut::Nothing(looked.into_product(bare.collect())));
    }
    let image = Arc::new(looked);
    let mut crops = crops.into_iter();
    let since = Instant::now();
    let faces = boxes.into_iter().enumerate().map(|(number, bbox)| {
        let crop = crops.next().unwrap_or_default();
        CutFace { image: image.clone(), number, bbox, crop, crop_of: None, since }
    });
    Ok(Cut::Faces(faces.collect()))
}

/// Describes faces; returns how many images were finished.
fn describe(shared: &Shared, faces: Vec<CutFace>) -> usize {
    let faces = wanted(shared, faces, |face| &face.image.job, |face| face.image.drop_once());
    let Some(first) = faces.first() else { return 0 };
    for face in &faces {
        face.image.job.start();
        match &face.crop_of {
            Some(crop) => shared.metrics.time(Stage::Queue, crop.waited + face.since.elapsed()),
            None => shared.metrics.time(Stage::FaceQueue, face.since.elapsed()),
        }
    }
    let question = &first.image.job.question;
    let described = together(&faces, |faces| {
        let views: Vec<FaceView> = faces.iter().map(|face| view(face)).collect();
        let started = Instant::now();
        let described = question.networks.describe(&views, &question.options);
        shared.metrics.time(Stage::Recognise, started.elapsed());
        shared.metrics.batch(Batch::Recognise, views.len());
        described
    });
    let mut finished = 0;
    for (face, described) in faces.into_iter().zip(described) {
        let CutFace { image, number, crop, .. } = face;
        let product = match described {
            Ok(description) => image.describe(number, description, crop).map(Ok),
            // A picture fails with the first of its faces.
            Err(failure) => Some(Err(failure)),
        };
        if let Some(product) = product {
            finished += 1;
            deliver(shared, &image.job, image.index, product);
        }
    }
    finished
}

fn view(face: &CutFace) -> FaceView<'_> {
    let image = face.image.frame.as_ref().map_or(&face.crop, |frame| &frame.picture);
    FaceView { image, bbox: face.bbox, crop: &face.crop }
}

/// Those that somebody waits for; the others are dropped here, and counted where `counts` says so.
fn wanted<T>(shared: &Shared, items: Vec<T>, job: impl Fn(&T) -> &Arc<Job>, counts: impl Fn(&T) -> bool) -> Vec<T> {
    let (wanted, unwanted): (Vec<T>, Vec<T>) = items.into_iter().partition(|item| job(item).abandoned().is_none());
    for item in unwanted.iter().filter(|item| counts(item)) {
        if let Some(reason) = job(item).abandoned() {
            shared.metrics.dropped(reason, 1);
        }
    }
    wanted
}

/// Runs a batch; when that fails, each item of it alone, so that only the one at fault fails.
fn together<T, R>(items: &[T], run: impl Fn(&[&T]) -> Result<Vec<R>, String>) -> Vec<Result<R, Failure>> {
    let complete = |items: &[&T]| {
        let results = run(items)?;
        let (expected, got) = (items.len(), results.len());
        if expected == got { Ok(results) } else { Err(format!("{got} results for {expected} items")) }
    };
    let all: Vec<&T> = items.iter().collect();
    match guarded(FailureKind::Inference, || complete(&all)) {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(failure) if items.len() == 1 => vec![Err(failure)],
        Err(_) => all
            .chunks(1)
            .map(|one| {
                let mut results = guarded(FailureKind::Inference, || complete(one))?.into_iter();
                let nothing = || Failure { kind: FailureKind::Inference, reason: "no result".into() };
                results.next().ok_or_else(nothing)
            })
            .collect(),
    }
}

fn deliver(shared: &Shared, job: &Job, index: usize, product: Result<Product, Failure>) {
    if let Some(kind) = job.deliver(index, product) {
        shared.metrics.failed(kind);
    }
}
