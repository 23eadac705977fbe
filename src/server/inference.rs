//! The front end of the scheduler for the service: one method per kind of answer, errors as HTTP statuses, counts as
//! metrics.

use crate::analyzer::{AnalyzeOptions, Description, FaceAnalyzer, ImageFaces};
use crate::image::RgbImage;
use crate::schedule::{
    AnalysisRequest, DropReason, FailureKind, Frame, ImageAnalysis, ImageFailure, ImageKind, Observer, PassKind,
    ScheduleError, ScheduleStep, Scheduler, SchedulerConfig,
};
use crate::server::http::error::ApiError;
use crate::server::sources::error::ImageData;
use crate::server::telemetry::metrics::{Batch, Metrics, Stage};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub use crate::schedule::{QueueStatus, RequestOutcome};

/// The time limit of a request.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// The moment at which it ends.
    pub at: Instant,
    /// The time from the start of the request to the limit, for messages.
    pub allowed: Duration,
}

/// Runs networks for requests. All inference of the service uses it.
pub struct Inference {
    scheduler: Scheduler,
}

impl Inference {
    /// Starts the threads of the scheduler. Errs if the operating system refuses one.
    pub fn start(config: SchedulerConfig, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        Ok(Inference { scheduler: Scheduler::start(config, metrics)? })
    }

    /// The present load.
    pub fn status(&self) -> QueueStatus {
        self.scheduler.status()
    }

    /// Errs with 429 if `images` more would be refused now. Call it before they are fetched.
    pub fn check_room(&self, images: usize, deadline: Deadline) -> Result<(), ApiError> {
        self.scheduler.check_room(images, deadline.at).map_err(|error| api_error(error, deadline.allowed))
    }

    /// Detects the faces of each picture and computes what `options` selects; `finish` runs on each result.
    pub async fn faces<T: Send + 'static>(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        images: Vec<ImageData>,
        deadline: Deadline,
        finish: impl Fn(ImageFaces) -> T + Send + Sync + 'static,
    ) -> Result<RequestOutcome<T>, ApiError> {
        let request = request(analyzer, options, ImageKind::Photo);
        self.run(request, images, deadline, move |analysis| Ok(finish(faces_of(analysis)?.0))).await
    }

    /// Describes images that are aligned crops.
    pub async fn crops(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        images: Vec<ImageData>,
        deadline: Deadline,
    ) -> Result<RequestOutcome<Description>, ApiError> {
        // Liveness needs the surroundings of a face, which a crop does not have.
        let options = AnalyzeOptions { liveness: false, keep_crops: false, ..options };
        let request = request(analyzer, options, ImageKind::AlignedCrop);
        let description = |analysis| match analysis {
            ImageAnalysis::Crop(description) => Ok(description),
            ImageAnalysis::Faces(..) => Err(unexpected()),
        };
        self.run(request, images, deadline, description).await
    }

    /// Detects the faces of one picture; `finish` gets them with the decoded picture.
    pub async fn faces_and_picture<T: Send + 'static>(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        image: ImageData,
        deadline: Deadline,
        finish: impl Fn(ImageFaces, RgbImage) -> Result<T, ImageFailure> + Send + Sync + 'static,
    ) -> Result<RequestOutcome<T>, ApiError> {
        let request = AnalysisRequest { keep_picture: true, ..request(analyzer, options, ImageKind::Photo) };
        let finish = move |analysis| {
            let (faces, frame) = faces_of(analysis)?;
            finish(faces, frame.and_then(Arc::into_inner).ok_or_else(unexpected)?.picture)
        };
        self.run(request, vec![image], deadline, finish).await
    }

    /// Counts the faces that the networks find in `picture`, for the self check: it is admitted even if the queue is
    /// full, and is the next to run.
    pub async fn check(
        &self,
        analyzer: FaceAnalyzer,
        picture: &'static [u8],
        deadline: Instant,
    ) -> Result<Result<usize, ImageFailure>, ScheduleError> {
        let embedding = analyzer.recognizer.is_some();
        let options = AnalyzeOptions { embedding, ..AnalyzeOptions::default() };
        let request = AnalysisRequest { urgent: true, ..request(analyzer, options, ImageKind::Photo) };
        let picture = vec![Ok(Bytes::from_static(picture))];
        let count = |analysis| Ok(faces_of(analysis)?.0.faces.len());
        let outcome = self.scheduler.run(request, picture, deadline, count).await?;
        Ok(outcome.images.into_iter().next().unwrap_or_else(|| Err(unexpected())))
    }

    async fn run<T: Send + 'static>(
        &self,
        request: AnalysisRequest,
        images: Vec<ImageData>,
        deadline: Deadline,
        finish: impl Fn(ImageAnalysis) -> Result<T, ImageFailure> + Send + Sync + 'static,
    ) -> Result<RequestOutcome<T>, ApiError> {
        let images = images.into_iter().map(|image| image.map_err(|error| ImageFailure::Read(error.into()))).collect();
        let outcome = self.scheduler.run(request, images, deadline.at, finish).await;
        outcome.map_err(|error| api_error(error, deadline.allowed))
    }
}

fn request(analyzer: FaceAnalyzer, options: AnalyzeOptions, kind: ImageKind) -> AnalysisRequest {
    AnalysisRequest { networks: Arc::new(analyzer), options, kind, keep_picture: false, urgent: false }
}

fn faces_of(analysis: ImageAnalysis) -> Result<(ImageFaces, Option<Arc<Frame>>), ImageFailure> {
    match analysis {
        ImageAnalysis::Faces(faces, frame) => Ok((faces, frame)),
        ImageAnalysis::Crop(_) => Err(unexpected()),
    }
}

/// A result of another kind than requested: a defect of this program.
fn unexpected() -> ImageFailure {
    ImageFailure::Finish("an unexpected result of the scheduler".into())
}

/// The message for clients about a failed image.
pub fn failure_message(failure: &ImageFailure) -> String {
    match failure {
        ImageFailure::NotACrop { width, height } => {
            format!("embed_only needs aligned face crops of 112x112 pixels, and this image has {width}x{height}")
        }
        other => other.to_string(),
    }
}

/// Errors of the scheduler as HTTP errors: 429 for a full queue, 503 for a deadline that passed in the queue, 504 for
/// one that passed during inference.
pub fn api_error(error: ScheduleError, allowed: Duration) -> ApiError {
    let allowed = allowed.as_secs();
    match error {
        ScheduleError::Full { retry_after } => ApiError::Busy { retry_after: retry_after.as_secs().clamp(1, 60) },
        ScheduleError::DeadlinePassed { started: true } => ApiError::Timeout(allowed),
        ScheduleError::DeadlinePassed { started: false } => {
            ApiError::Overloaded(format!("no worker was free within {allowed} seconds; try again later"))
        }
        ScheduleError::Stopping => ApiError::Overloaded("the service is stopping; try again later".into()),
    }
}

impl Observer for Metrics {
    fn step_took(&self, step: ScheduleStep, time: Duration) {
        let stage = match step {
            ScheduleStep::Queue => Stage::Queue,
            ScheduleStep::FaceQueue => Stage::FaceQueue,
            ScheduleStep::Decode => Stage::Decode,
            ScheduleStep::Detect => Stage::Detect,
            ScheduleStep::Align => Stage::Align,
            ScheduleStep::Describe => Stage::Recognize,
        };
        self.time(stage, time);
    }

    fn batch_ran(&self, kind: PassKind, size: usize) {
        let batch = match kind {
            PassKind::Detect => Batch::Detect,
            PassKind::Describe => Batch::Recognize,
        };
        self.batch(batch, size);
    }

    fn image_failed(&self, kind: FailureKind) {
        self.failed(kind);
    }

    fn images_dropped(&self, reason: DropReason, images: usize) {
        self.dropped(reason, images);
    }

    fn images_refused(&self, images: usize) {
        self.refused(images);
    }
}
