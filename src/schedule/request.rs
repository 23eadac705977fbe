//! One request inside the scheduler, and the states of its images.

use super::error::{FailureKind, ImageFailure};
use super::networks::Networks;
use super::observer::DropReason;
use super::picture_memory::{Frame, PictureSlot};
use crate::analyzer::{AnalyzeOptions, Description, Face, ImageFaces, own_mask};
use crate::detect::ImageDetections;
use crate::image::RgbImage;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The kind of all images of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// Photos to find faces in.
    Photo,
    /// Faces that are already aligned.
    AlignedCrop,
}

/// The networks and options for the images of one request.
pub struct AnalysisRequest {
    /// The networks to run.
    pub networks: Arc<dyn Networks>,
    /// Threshold, limits and the results to compute.
    pub options: AnalyzeOptions,
    /// The kind of the images.
    pub kind: ImageKind,
    /// Return the decoded picture with its faces.
    pub keep_picture: bool,
    /// Admit the images even when the queue is full, and decode them next. For the self check of the service, which
    /// runs one at a time: under load it must neither be refused nor wait for the whole queue.
    pub urgent: bool,
}

/// The result of the networks for one image.
pub enum ImageAnalysis {
    /// The faces of a photo, and the photo if [`AnalysisRequest::keep_picture`] is set.
    Faces(ImageFaces, Option<Arc<Frame>>),
    /// The description of an aligned crop.
    Crop(Description),
}

/// Receives results in any order. Hides the type that the `finish` function of the caller returns.
pub(crate) trait OutcomeSink: Send + Sync {
    /// Records that the decoder is done with an image.
    fn decoded(&self);
    /// Stores the result of image `index`. Returns the class of its failure, if it failed. Only the first result of an
    /// image counts.
    fn put(&self, index: usize, result: Result<ImageAnalysis, ImageFailure>) -> Option<FailureKind>;
    /// Number of images without a result.
    fn missing(&self) -> usize;
}

/// A request in the queue. Its images share it.
pub(crate) struct QueuedRequest {
    /// Unique in this process.
    pub id: u64,
    pub analysis: AnalysisRequest,
    outcome: Box<dyn OutcomeSink>,
    /// Set when the caller no longer waits.
    abandoned: OnceLock<DropReason>,
    started: AtomicBool,
}

impl QueuedRequest {
    pub fn new(analysis: AnalysisRequest, outcome: Box<dyn OutcomeSink>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        QueuedRequest { id, analysis, outcome, abandoned: OnceLock::new(), started: AtomicBool::new(false) }
    }

    /// Stores the result of image `index`. Returns the class of its failure, if it failed.
    pub fn deliver(&self, index: usize, result: Result<ImageAnalysis, ImageFailure>) -> Option<FailureKind> {
        self.outcome.put(index, result)
    }

    /// Records that the decoder is done with an image.
    pub fn decoded(&self) {
        self.outcome.decoded();
    }

    pub fn is_complete(&self) -> bool {
        self.outcome.missing() == 0
    }

    /// Records that the caller no longer waits. The first reason stays.
    pub fn abandon(&self, reason: DropReason) {
        let _ = self.abandoned.set(reason);
    }

    /// Why the caller no longer waits; `None` while it does.
    pub fn abandoned(&self) -> Option<DropReason> {
        self.abandoned.get().copied()
    }

    /// Records that a network runs on an image.
    pub fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }
}

/// An image before decoding.
pub(crate) struct EncodedImage {
    pub request: Arc<QueuedRequest>,
    pub index: usize,
    pub bytes: Bytes,
    pub since: Instant,
}

/// A photo that waits for the detector.
pub(crate) struct DecodedImage {
    pub request: Arc<QueuedRequest>,
    pub index: usize,
    pub frame: Arc<Frame>,
    /// Time in the queue before decoding.
    pub waited: Duration,
    pub since: Instant,
}

/// A face that waits for description.
pub(crate) struct CroppedFace {
    pub image: Arc<DetectedImage>,
    /// Its position among the faces of the image.
    pub number: usize,
    /// x1, y1, x2, y2 in pixels of the photo.
    pub bbox: [f32; 4],
    pub crop: RgbImage,
    /// Set for an image that is an aligned crop, `None` for a face of a photo.
    pub whole_image: Option<WholeImage>,
    pub since: Instant,
}

/// The additional data of a [`CroppedFace`] that is an image of its own.
pub(crate) struct WholeImage {
    /// Time in the queue before decoding.
    pub waited: Duration,
    /// Its share of the picture memory, returned after description.
    pub _slot: PictureSlot,
}

/// An image after detection. Collects the descriptions of its faces as they arrive.
pub(crate) struct DetectedImage {
    pub request: Arc<QueuedRequest>,
    pub index: usize,
    pub width: u32,
    pub height: u32,
    pub found: ImageDetections,
    /// Kept only if a network or the caller needs it.
    pub frame: Option<Arc<Frame>>,
    faces: Mutex<FaceDescriptions>,
    dropped: AtomicBool,
}

struct FaceDescriptions {
    described: Vec<Option<(Description, Option<RgbImage>)>>,
    missing: usize,
}

impl DetectedImage {
    /// An image of `width` x `height` in which `found` was detected; `faces` descriptions are expected.
    pub fn new(
        request: Arc<QueuedRequest>,
        index: usize,
        (width, height): (u32, u32),
        found: ImageDetections,
        faces: usize,
    ) -> Self {
        let faces = Mutex::new(FaceDescriptions { described: (0..faces).map(|_| None).collect(), missing: faces });
        DetectedImage { request, index, width, height, found, frame: None, faces, dropped: AtomicBool::new(false) }
    }

    /// Stores the description of face `number`. Returns the result of the image when this was the last face.
    pub fn describe(&self, number: usize, description: Description, crop: RgbImage) -> Option<ImageAnalysis> {
        let mut faces = self.faces.lock();
        let crop = Some(crop).filter(|_| self.request.analysis.options.keep_crops);
        match faces.described.get_mut(number) {
            Some(slot @ None) => *slot = Some((description, crop)),
            _ => return None,
        }
        faces.missing -= 1;
        if faces.missing > 0 {
            return None;
        }
        let mut described = std::mem::take(&mut faces.described).into_iter().flatten();
        if self.request.analysis.kind == ImageKind::AlignedCrop {
            return described.next().map(|(description, _)| ImageAnalysis::Crop(description));
        }
        Some(ImageAnalysis::Faces(self.faces(described.collect()), self.kept_frame().cloned()))
    }

    /// The result of an image whose faces need no description: `crops` has one entry per face, or is empty.
    pub fn into_analysis(mut self, crops: Vec<(Description, Option<RgbImage>)>) -> ImageAnalysis {
        let faces = self.faces(crops);
        ImageAnalysis::Faces(faces, self.frame.take().filter(|_| self.request.analysis.keep_picture))
    }

    /// The picture, if the caller wants it back.
    fn kept_frame(&self) -> Option<&Arc<Frame>> {
        self.frame.as_ref().filter(|_| self.request.analysis.keep_picture)
    }

    /// The detected faces, each with its description.
    fn faces(&self, described: Vec<(Description, Option<RgbImage>)>) -> ImageFaces {
        let options = &self.request.analysis.options;
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

    /// True at the first call only: an image counts as dropped once, however many of its faces wait.
    pub fn drop_once(&self) -> bool {
        !self.dropped.swap(true, Ordering::Relaxed)
    }
}
