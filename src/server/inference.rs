//! The one door between handlers and networks: what each address asks of the scheduler.

use crate::analyzer::{AnalyzeOptions, Description, FaceAnalyzer, ImageFaces};
use crate::image::{Annotation, DecodeLimits, DrawOptions, decode, draw_faces};
use crate::schedule::{Capacity, Frame, Kind, Product, Question, Scheduler};
use crate::server::api::schema::request::ImageData;
use crate::server::http::error::ApiError;
use crate::server::telemetry::metrics::Metrics;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use crate::schedule::{Deadline, Load, Outcomes};

/// Runs networks for requests.
pub struct Inference {
    scheduler: Scheduler,
    limits: DecodeLimits,
}

/// What one picture gave, or one sentence on what was wrong with it.
pub type Outcome<T> = Result<T, String>;

/// What the networks say of an aligned crop.
pub type CropFindings = Description;

impl Inference {
    /// Starts the threads. Errs when the system gives none.
    pub fn start(capacity: Capacity, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        Ok(Inference { scheduler: Scheduler::start(capacity, metrics)?, limits: capacity.limits })
    }

    /// What goes on now.
    pub fn load(&self) -> Load {
        self.scheduler.load()
    }

    /// Errs with 429 when so many images could not be taken now: to ask before they are fetched from afar.
    pub fn check_room(&self, images: usize, deadline: Deadline) -> Result<(), ApiError> {
        self.scheduler.check_room(images, deadline)
    }

    /// The faces of every picture.
    pub async fn faces<T: Send + 'static>(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        images: Vec<ImageData>,
        deadline: Deadline,
        finish: impl Fn(ImageFaces) -> T + Send + Sync + 'static,
    ) -> Result<Outcomes<T>, ApiError> {
        let question = Question { networks: Arc::new(analyzer), options, kind: Kind::Pictures, keep_picture: false };
        let finish = move |product| Ok(finish(faces_of(product)?.0));
        self.scheduler.run(question, images, deadline, finish).await
    }

    /// What the networks say of every picture, each of which is an aligned crop.
    pub async fn crops(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        images: Vec<ImageData>,
        deadline: Deadline,
    ) -> Result<Outcomes<CropFindings>, ApiError> {
        // Liveness needs the surroundings of a face, and a crop has none.
        let options = AnalyzeOptions { liveness: false, keep_crops: false, ..options };
        let question = Question { networks: Arc::new(analyzer), options, kind: Kind::Crops, keep_picture: false };
        let finish = |product| match product {
            Product::Crop(description) => Ok(description),
            Product::Faces(..) => Err("no crop".to_string()),
        };
        self.scheduler.run(question, images, deadline, finish).await
    }

    /// A picture with its faces drawn in, as JPEG, and how many they are. Errs with 400 when it is not a picture.
    pub async fn drawing(
        &self,
        analyzer: FaceAnalyzer,
        options: AnalyzeOptions,
        image: ImageData,
        draw: DrawOptions,
        deadline: Deadline,
    ) -> Result<Outcomes<(Vec<u8>, usize)>, ApiError> {
        let question = Question { networks: Arc::new(analyzer), options, kind: Kind::Pictures, keep_picture: true };
        let finish = move |product| {
            let (faces, frame) = faces_of(product)?;
            let mut frame = frame.and_then(Arc::into_inner).ok_or("the picture was not kept")?;
            let faces: Vec<Annotation> = faces.faces.iter().map(Annotation::from).collect();
            draw_faces(&mut frame.picture, &faces, &draw);
            crate::server::api::answer::jpeg(&frame.picture).map(|jpeg| (jpeg, faces.len()))
        };
        self.scheduler.run(question, vec![image], deadline, finish).await
    }

    /// Analyses one picture at once, not waiting behind other requests: a check whether networks work at all. Errs with one sentence
    /// for clients.
    pub async fn check(&self, analyzer: FaceAnalyzer, picture: &'static [u8]) -> Result<usize, String> {
        let limits = self.limits;
        let work = move || {
            let picture = decode(picture, &limits).map_err(|error| error.to_string())?;
            let embedding = analyzer.recognizer.is_some();
            let options = AnalyzeOptions { embedding, ..AnalyzeOptions::default() };
            let analysis = analyzer.analyze(&[picture], &options).map_err(|error| {
                tracing::error!(%error, "the self check failed");
                "the networks cannot be run"
            })?;
            Ok(analysis.images.first().map_or(0, |image| image.faces.len()))
        };
        let guarded = move || {
            let checked = catch_unwind(AssertUnwindSafe(work));
            checked.unwrap_or_else(|_| Err("an internal error".into()))
        };
        tokio::task::spawn_blocking(guarded).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn faces_of(product: Product) -> Result<(ImageFaces, Option<Arc<Frame>>), String> {
    match product {
        Product::Faces(faces, frame) => Ok((faces, frame)),
        Product::Crop(_) => Err("no picture".into()),
    }
}
