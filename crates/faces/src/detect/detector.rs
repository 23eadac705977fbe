//! A detector: network, head, canvas and batching put together.

use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use super::head::{DetectError, Detection, DetectorHead};
use super::{CenterFace, DbFace, RetinaFace, Scrfd, Yolov5Face, nms};
use crate::image::Letterbox;
use crate::scratch::Scratch;
use ifr_engine::{Network, Plan};

/// Canvas sides are multiples of this: the largest stride.
const GRANULE: usize = 32;

/// What the shapes of a network's outputs do not tell; `None` leaves it to the rule the decoder documents.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DetectorHints {
    /// Scale of RetinaFace's landmark deltas: see [`RetinaFace::new`].
    pub landmark_std: Option<f32>,
    /// Whether the graph takes bytes as they are, 0 to 255 (SCRFD). Otherwise read from the graph's first layers.
    pub normalized_inside: Option<bool>,
}

/// A face detector for pictures of any size. Shared between threads; every call runs on its own buffers.
pub struct Detector {
    name: String,
    network: Network,
    canvas: (usize, usize),
    head: Box<dyn DetectorHead>,
    /// Images in one forward pass; 1 for graphs without a batch axis.
    batch: usize,
    inputs: Scratch<f32>,
    canvases: Scratch<u8>,
}

/// What [`Detector::detect`] found in one picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// In pixels of the picture, by descending score.
    pub detections: Vec<Detection>,
    /// Factor from picture to canvas.
    pub scale: f64,
}

impl Detector {
    /// Prepares `network` for a canvas of (width, height), floored to multiples of 32, and up to `batch` images a pass.
    ///
    /// The family is read from the shapes of the outputs. Errs when the graph cannot take that canvas, with [`DetectError::FixedSize`] when
    /// it can take the one it declares, or is no known detector.
    pub fn new(network: Network, canvas: (usize, usize), batch: usize) -> Result<Detector, DetectError> {
        Self::with_hints(network, canvas, batch, DetectorHints::default())
    }

    /// As [`Detector::new`], for a network that is known to differ from what its shapes suggest.
    pub fn with_hints(
        network: Network,
        canvas: (usize, usize),
        batch: usize,
        hints: DetectorHints,
    ) -> Result<Detector, DetectError> {
        let name = network.name().to_owned();
        let floored = (canvas.0 / GRANULE * GRANULE, canvas.1 / GRANULE * GRANULE);
        if floored.0 == 0 || floored.1 == 0 {
            return Err(DetectError::Canvas { name, width: canvas.0, height: canvas.1 });
        }
        let head = match recognise_head(&network, floored, hints) {
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

    /// The detector's family, as people call it.
    pub fn family(&self) -> &'static str {
        self.head.family()
    }

    /// Images in one forward pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Width and height of the canvas pictures are fitted into.
    pub fn canvas(&self) -> (usize, usize) {
        self.canvas
    }

    /// Finds the faces with a score over `threshold` in each picture.
    pub fn detect(&self, images: &[&RgbImage], threshold: f32) -> Result<Vec<Found>, DetectError> {
        let mut found = Vec::with_capacity(images.len());
        for chunk in images.chunks(self.batch) {
            match self.plan(chunk.len()) {
                Ok(plan) => found.extend(self.detect_batch(&plan, chunk, threshold)?),
                // Preparing another batch size reads the file, which may have been written over since: one by one still works.
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

    fn detect_batch(&self, plan: &Plan, images: &[&RgbImage], threshold: f32) -> Result<Vec<Found>, DetectError> {
        let values = 3 * self.canvas.0 * self.canvas.1;
        // Both are written over in full.
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
            Found { detections, scale: fit.scale }
        });
        Ok(faces.collect())
    }

    fn plan(&self, batch: usize) -> Result<Arc<Plan>, DetectError> {
        Ok(self.network.plan(&[batch, 3, self.canvas.1, self.canvas.0])?)
    }
}

/// The error that says so, if the graph is a detector at the size it declares.
fn fixed_size(network: &Network, canvas: (usize, usize), hints: DetectorHints) -> Option<DetectError> {
    let [_, _, Some(height), Some(width)] = network.input().shape[..] else { return None };
    let other = (width, height) != canvas && width % GRANULE == 0 && height % GRANULE == 0;
    let fixed = other && recognise_head(network, (width, height), hints).is_ok();
    fixed.then(|| DetectError::FixedSize { name: network.name().into(), width, height })
}

fn recognise_head(
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
    Err(DetectError::UnknownFamily { name: network.name().into(), canvas, found: shapes.to_vec() })
}

/// Whether the graph keeps the images of a batch apart: every output must start with the batch size.
fn batches(network: &Network, canvas: (usize, usize)) -> bool {
    let probe = network.plan(&[2, 3, canvas.1, canvas.0]);
    probe.is_ok_and(|plan| plan.output_shapes().iter().all(|s| s.len() > 2 && s[0] == 2))
}
