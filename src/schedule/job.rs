//! One request, as the threads see it, and what its images are on their way.

use super::collector::{Collect, Failure, Product};
use super::memory::Slot;
use super::{Frame, Kind, Question};
use crate::analyzer::{Description, Face, ImageFaces, own_mask};
use crate::detect::ImageDetections;
use crate::image::RgbImage;
use crate::server::telemetry::metrics::{DropReason, FailureKind};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// One request.
pub(crate) struct Job {
    /// Tells it from all others.
    pub id: u64,
    pub question: Question,
    collector: Box<dyn Collect>,
    /// Set when nobody waits for the outcome any more.
    abandoned: OnceLock<DropReason>,
    started: AtomicBool,
}

impl Job {
    pub fn new(question: Question, collector: Box<dyn Collect>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Job { id, question, collector, abandoned: OnceLock::new(), started: AtomicBool::new(false) }
    }

    /// The outcome of an image.
    pub fn deliver(&self, index: usize, outcome: Result<Product, Failure>) -> Option<FailureKind> {
        self.collector.put(index, outcome)
    }

    /// Notes that an image has been decoded, or could not be.
    pub fn decoded(&self) {
        self.collector.decoded();
    }

    pub fn is_complete(&self) -> bool {
        self.collector.missing() == 0
    }

    /// Notes that nobody waits any more.
    pub fn abandon(&self, reason: DropReason) {
        // The first reason is the one.
        let _ = self.abandoned.set(reason);
    }

    /// Why nobody waits any more, if nobody does.
    pub fn abandoned(&self) -> Option<DropReason> {
        self.abandoned.get().copied()
    }

    /// Notes that a network looks at an image.
    pub fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }
}

/// An image as it came.
pub(crate) struct Encoded {
    pub job: Arc<Job>,
    pub index: usize,
    pub bytes: Bytes,
    pub since: Instant,
}

/// An image that waits to be looked at.
pub(crate) struct Decoded {
    pub job: Arc<Job>,
    pub index: usize,
    pub frame: Arc<Frame>,
    /// What it has waited before it was decoded.
    pub waited: Duration,
    pub since: Instant,
}

/// A face that waits to be described.
pub(crate) struct CutFace {
    pub image: Arc<Looked>,
    /// Its place among the faces of the image.
    pub number: usize,
    /// x1, y1, x2, y2 in pixels of the picture.
    pub bbox: [f32; 4],
    pub crop: RgbImage,
    /// None for faces of a photo.
    pub crop_of: Option<CropImage>,
    pub since: Instant,
}

/// What is known of an image that is an aligned face.
pub(crate) struct CropImage {
    /// What it has waited before it was decoded.
    pub waited: Duration,
    /// Its share of the memory, free again when it has been described.
    pub _slot: Slot,
}

/// An image whose faces are known and are described one by one.
pub(crate) struct Looked {
    pub job: Arc<Job>,
    pub index: usize,
    pub width: u32,
    pub height: u32,
    pub found: ImageDetections,
    /// As long as it is needed.
    pub frame: Option<Arc<Frame>>,
    faces: Mutex<Faces>,
    dropped: AtomicBool,
}

struct Faces {
    described: Vec<Option<(Description, Option<RgbImage>)>>,
    missing: usize,
}

impl Looked {
    /// An image with the faces that were found in it.
    pub fn new(job: Arc<Job>, index: usize, (width, height): (u32, u32), found: ImageDetections, faces: usize) -> Self {
        let faces = Faces { described: (0..faces).map(|_| None).collect(), missing: faces };
        let dropped = AtomicBool::new(false);
        Looked { job, index, width, height, found, frame: None, faces: Mutex::new(faces), dropped }
    }

    /// Takes in what a face is like. Returns what the image gave when this was its last face.
    pub fn describe(&self, number: usize, description: Description, crop: RgbImage) -> Option<Product> {
        let mut faces = self.faces.lock().unwrap_or_else(PoisonError::into_inner);
        let crop = Some(crop).filter(|_| self.job.question.options.keep_crops);
        match faces.described.get_mut(number) {
            Some(slot @ None) => *slot = Some((description, crop)),
            _ => return None,
        }
        faces.missing -= 1;
        if faces.missing > 0 {
            return None;
        }
        let mut described = std::mem::take(&mut faces.described).into_iter().flatten();
        if self.job.question.kind == Kind::Crops {
            return described.next().map(|(description, _)| Product::Crop(description));
        }
        Some(Product::Faces(self.faces(described.collect()), self.kept().cloned()))
    }

    /// What the image gave when nobody describes its faces: `crops` has one for each, or none at all.
    pub fn into_product(mut self, crops: Vec<(Description, Option<RgbImage>)>) -> Product {
        let faces = self.faces(crops);
        Product::Faces(faces, self.frame.take().filter(|_| self.job.question.keep_picture))
    }

    /// The picture, if the request wants it back.
    fn kept(&self) -> Option<&Arc<Frame>> {
        self.frame.as_ref().filter(|_| self.job.question.keep_picture)
    }

    /// The faces, each with its description.
    fn faces(&self, described: Vec<(Description, Option<RgbImage>)>) -> ImageFaces {
        let options = &self.job.question.options;
        let mut described = described.into_iter();
        let faces = self.found.detections.iter().map(|detection| {
            let (description, crop) = described.next().unwrap_or_default();
            let mut face = Face::described(detection, description, crop);
            if options.masks && face.mask.is_none() {
                face.mask = own_mask(detection);
            }
            face
        });
        ImageFaces { width: self.width, height: self.height, scale: self.found.scale, faces: faces.collect() }
    }

    /// True the first time: an image is dropped once, however many faces of it wait.
    pub fn drop_once(&self) -> bool {
        !self.dropped.swap(true, Ordering::Relaxed)
    }
}
