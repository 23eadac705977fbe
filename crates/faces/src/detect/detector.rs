//! The detector: network, head, canvas and batches.

use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use super::centerface::CenterFace;
use super::dbface::DbFace;
use super::error::DetectError;
use super::head::{Detection, DetectorHead};
use super::nms::nms;
use super::retinaface::RetinaFace;
use super::scrfd::Scrfd;
use super::yolov5_face::Yolov5Face;
use crate::image::Letterbox;
use crate::scratch::Scratch;
use ifr_engine::{Network, Plan};

/// The sides of a canvas are multiples of this length in pixels, so that the maps of every stride up to 32 have whole
/// cells.
const CANVAS_MULTIPLE: usize = 32;

/// Properties that the output shapes do not determine. `None`: the default of the decoder applies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DetectorHints {
    /// Scale of RetinaFace's landmark deltas: see [`RetinaFace::new`].
    pub landmark_std: Option<f32>,
    /// Whether the graph normalizes its input (SCRFD), so that it takes values from 0 to 255. `None`: the first layers
    /// of the graph determine it.
    pub normalized_inside: Option<bool>,
}

/// A face detector for pictures of any size. `&self` methods may run on several threads at once.
pub struct Detector {
    name: String,
    network: Network,
    canvas: (usize, usize),
    head: Box<dyn DetectorHead>,
    /// Maximum batch size in pictures; 1 for graphs without a batch axis.
    batch: usize,
    inputs: Scratch<f32>,
    canvases: Scratch<u8>,
}

/// The faces that [`Detector::detect`] found in one picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageDetections {
    /// Detected faces in pixels of the picture, by descending score.
    pub detections: Vec<Detection>,
    /// Factor from picture to canvas.
    pub scale: f64,
}

impl Detector {
    /// Prepares `network` for a canvas of (width, height) pixels, rounded down to multiples of 32, and batches of up to
    /// `batch` pictures. The shapes of the outputs determine the detector family.
    ///
    /// # Errors
    ///
    /// If the graph cannot run with that canvas ([`DetectError::FixedSize`] if it can run with its declared size), or
    /// is not a known detector.
    pub fn new(network: Network, canvas: (usize, usize), batch: usize) -> Result<Detector, DetectError> {
        Self::with_hints(network, canvas, batch, DetectorHints::default())
    }

    /// Like [`Detector::new`], with properties that the output shapes do not determine.
    ///
    /// # Errors
    ///
    /// As [`Detector::new`].
    pub fn with_hints(
        network: Network,
        canvas: (usize, usize),
        batch: usize,
        hints: DetectorHints,
    ) -> Result<Detector, DetectError> {
        let name = network.name().to_owned();
        let floored = (canvas.0 / CANVAS_MULTIPLE * CANVAS_MULTIPLE, canvas.1 / CANVAS_MULTIPLE * CANVAS_MULTIPLE);
        if floored.0 == 0 || floored.1 == 0 {
            return Err(DetectError::Canvas { name, width: canvas.0, height: canvas.1 });
        }
        let head = match head_for(&network, floored, hints) {
            Err(DetectError::Engine(error)) => {
                return Err(fixed_size(&network, floored, hints).unwrap_or(DetectError::Engine(error)));
            }
            other => other?,
        };
        let batch = if batch > 1 && batches(&network, floored) { batch } else { 1 };
        let (inputs, canvases) = (Scratch::default(), Scratch::default());
        Ok(Detector { name, network, canvas: floored, head, batch, inputs, canvases })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the family, e.g. "SCRFD".
    pub fn family(&self) -> &'static str {
        self.head.family()
    }

    /// Maximum batch size in pictures.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// (width, height) of the canvas in pixels.
    pub fn canvas(&self) -> (usize, usize) {
        self.canvas
    }

    /// Finds the faces with a score above `threshold` (0 to 1). One result per picture, in their order.
    ///
    /// # Errors
    ///
    /// If the engine fails.
    pub fn detect(&self, images: &[&RgbImage], threshold: f32) -> Result<Vec<ImageDetections>, DetectError> {
        let mut found = Vec::with_capacity(images.len());
        for chunk in images.chunks(self.batch) {
            match self.plan(chunk.len()) {
                Ok(plan) => found.extend(self.detect_batch(&plan, chunk, threshold)?),
                // Preparing another batch size reads the file, which may have changed. Single pictures still work.
                Err(_) if chunk.len() > 1 => {
                    let single = self.plan(1)?;
                    for image in chunk.chunks(1) {
                        found.extend(self.detect_batch(&single, image, threshold)?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn detect_batch(
        &self,
        plan: &Plan,
        images: &[&RgbImage],
        threshold: f32,
    ) -> Result<Vec<ImageDetections>, DetectError> {
        let values = 3 * self.canvas.0 * self.canvas.1;
        // Both buffers are overwritten completely.
        let mut input = self.inputs.take(images.len() * values);
        let normalization = self.head.normalization();
        let letterboxes: Vec<Letterbox> = images
            .par_iter()
            .zip(input.par_chunks_exact_mut(values))
            .map_init(
                || self.canvases.take(values),
                |canvas, (image, planes)| {
                    let fit = Letterbox::fit((image.width() as usize, image.height() as usize), self.canvas);
                    fit.apply(image, canvas);
                    normalization.planes(canvas, planes);
                    fit
                },
            )
            .collect();
        let outputs = plan.run(plan.view(&input)?)?;
        let faces = letterboxes.iter().enumerate().map(|(index, fit)| {
            let mut detections = vec![];
            self.head.proposals(&outputs, index, threshold, &mut detections);
            nms(&mut detections, self.head.nms_threshold());
            for d in &mut detections {
                d.bbox = d.bbox.map(|v| fit.to_image(v));
                d.landmarks = d.landmarks.map(|p| p.map(|v| fit.to_image(v)));
            }
            ImageDetections { detections, scale: fit.scale }
        });
        Ok(faces.collect())
    }

    fn plan(&self, batch: usize) -> Result<Arc<Plan>, DetectError> {
        Ok(self.network.plan(&[batch, 3, self.canvas.1, self.canvas.0])?)
    }
}

/// [`DetectError::FixedSize`] if the graph is a detector at its declared size.
fn fixed_size(network: &Network, canvas: (usize, usize), hints: DetectorHints) -> Option<DetectError> {
    let [_, _, Some(height), Some(width)] = network.input().shape[..] else { return None };
    let other = (width, height) != canvas && width % CANVAS_MULTIPLE == 0 && height % CANVAS_MULTIPLE == 0;
    let fixed = other && head_for(network, (width, height), hints).is_ok();
    fixed.then(|| DetectError::FixedSize { name: network.name().into(), width, height })
}

fn head_for(
    network: &Network,
    canvas: (usize, usize),
    hints: DetectorHints,
) -> Result<Box<dyn DetectorHead>, DetectError> {
    let plan = network.plan(&[1, 3, canvas.1, canvas.0])?;
    let shapes = plan.output_shapes();
    let normalized_inside = hints.normalized_inside.unwrap_or_else(|| network.normalizes_input());
    if let Some(head) = Scrfd::new(shapes, 1, canvas, normalized_inside) {
        return Ok(Box::new(head));
    }
    if let Some(head) = RetinaFace::new(shapes, 1, canvas, hints.landmark_std) {
        return Ok(Box::new(head));
    }
    if let Some(head) = CenterFace::new(shapes, 1, canvas) {
        return Ok(Box::new(head));
    }
    if let Some(head) = Yolov5Face::new(shapes, 1, canvas) {
        return Ok(Box::new(head));
    }
    if let Some(head) = DbFace::new(shapes, 1, canvas) {
        return Ok(Box::new(head));
    }
    Err(DetectError::UnknownFamily {
        name: network.name().into(),
        canvas,
        found: shapes.to_vec(),
        known: known_families(),
    })
}

/// All families with their expected outputs, for the error message.
fn known_families() -> String {
    let known = [
        ("SCRFD", Scrfd::EXPECTED),
        ("RetinaFace", RetinaFace::EXPECTED),
        ("CenterFace", CenterFace::EXPECTED),
        ("YOLOv5-face", Yolov5Face::EXPECTED),
        ("DBFace", DbFace::EXPECTED),
    ];
    known.map(|(family, outputs)| format!("{family} has {outputs}")).join("; ")
}

/// Whether the graph supports batches: every output must start with the batch size.
fn batches(network: &Network, canvas: (usize, usize)) -> bool {
    let probe = network.plan(&[2, 3, canvas.1, canvas.0]);
    probe.is_ok_and(|plan| plan.output_shapes().iter().all(|s| s.len() > 2 && s[0] == 2))
}
