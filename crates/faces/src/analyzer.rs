//! The analyzer: pictures in, faces out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use rayon::prelude::*;
use web_time::Instant;

use crate::align::{CROP_SIDE, align};
use crate::attributes::{AttributeError, FaceView, GenderAge, Liveness, MaskDetector, MaskResult};
use crate::detect::{DetectError, Detection, Detector, ImageDetections};
use crate::image::{DecodeError, DecodeLimits, decode};
use crate::recognize::{Embedding, RecognizeError, Recognizer};

/// The networks that analyze a picture. [`FaceAnalyzer::builder`](FaceAnalyzer::builder) loads them by name.
///
/// Every network but the detector is optional. Cloning is cheap: clones share the networks.
#[derive(Clone, Default)]
pub struct FaceAnalyzer {
    /// Finds faces. Required by [`FaceAnalyzer::analyze`] and [`FaceAnalyzer::detect`].
    pub detector: Option<Arc<Detector>>,
    /// Computes embeddings. Required if [`AnalyzeOptions::embedding`] is set.
    pub recognizer: Option<Arc<Recognizer>>,
    /// Estimates gender and age.
    pub gender_age: Option<Arc<GenderAge>>,
    /// Detects masks.
    pub mask_detector: Option<Arc<MaskDetector>>,
    /// Scores liveness.
    pub liveness: Option<Arc<Liveness>>,
}

/// Limits of the detection, and the results to compute.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzeOptions {
    /// Minimum score of a detection, 0 to 1.
    pub threshold: f32,
    /// Maximum number of faces per picture; the largest are kept. 0: no limit.
    pub limit_faces: usize,
    /// Minimum width of a face in pixels of the picture.
    pub min_face_size: u32,
    /// Compute embeddings. Without a recognizer, the analysis fails.
    pub embedding: bool,
    /// Estimate gender and age. Without a network for an attribute, its result is `None`, as in the original.
    pub gender_age: bool,
    /// Detect masks.
    pub masks: bool,
    /// Score liveness.
    pub liveness: bool,
    /// Return the aligned crops.
    pub keep_crops: bool,
}

impl Default for AnalyzeOptions {
    fn default() -> Self {
        AnalyzeOptions {
            threshold: 0.6,
            limit_faces: 0,
            min_face_size: 0,
            embedding: true,
            gender_age: false,
            masks: false,
            liveness: false,
            keep_crops: false,
        }
    }
}

/// One face of a picture.
#[derive(Clone, Debug)]
pub struct Face {
    /// x1, y1, x2, y2 in pixels of the picture. The box may extend beyond the picture.
    pub bbox: [f32; 4],
    /// x and y of left eye, right eye, nose tip, left and right mouth corner, as seen in the picture, in pixels of the
    /// picture.
    pub landmarks: [[f32; 2]; 5],
    /// Score of the detector, 0 to 1.
    pub prob: f32,
    /// Embedding, if it was requested.
    pub embedding: Option<Embedding>,
    /// 0 female, 1 male.
    pub gender: Option<u8>,
    /// Age in years.
    pub age: Option<u32>,
    /// Result of the mask detector, or of a detector with a mask head.
    pub mask: Option<MaskResult>,
    /// Probability of a live face (no print, no screen), 0 to 1.
    pub liveness: Option<f32>,
    /// Aligned 112x112 crop, if it was requested.
    pub crop: Option<RgbImage>,
}

impl Face {
    fn new(detection: &Detection) -> Face {
        Face {
            bbox: detection.bbox,
            landmarks: detection.landmarks,
            prob: detection.score,
            embedding: None,
            gender: None,
            age: None,
            mask: None,
            liveness: None,
            crop: None,
        }
    }

    /// A face from its detection and its description.
    pub fn described(detection: &Detection, description: Description, crop: Option<RgbImage>) -> Face {
        let mut face = Face { embedding: description.embedding, crop, ..Face::new(detection) };
        face.set_attributes(description.attributes);
        face
    }

    fn set_attributes(&mut self, attributes: Attributes) {
        let Attributes { gender, age, mask, liveness } = attributes;
        (self.gender, self.age, self.mask, self.liveness) = (gender, age, mask, liveness);
    }
}

/// The faces of one picture.
#[derive(Clone, Debug)]
pub struct ImageFaces {
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Factor from the picture to the canvas of the detector.
    pub scale: f64,
    /// The faces, by descending score.
    pub faces: Vec<Face>,
}

/// Time of each stage of one call, summed over all pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Letterbox, detector network and non-maximum suppression.
    pub detect: Duration,
    /// Alignment of the crops.
    pub align: Duration,
    /// Embeddings.
    pub recognize: Duration,
    /// Gender, age, masks and liveness.
    pub attributes: Duration,
}

/// Results of the attribute networks for one face; the fields are those of [`Face`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attributes {
    /// 0 female, 1 male.
    pub gender: Option<u8>,
    /// Age in years.
    pub age: Option<u32>,
    /// Result of the mask detector.
    pub mask: Option<MaskResult>,
    /// Probability of a live face, 0 to 1.
    pub liveness: Option<f32>,
}

/// Results of all networks but the detector for one face.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// `None` if no embedding was requested.
    pub embedding: Option<Embedding>,
    /// Empty if no attribute network ran.
    pub attributes: Attributes,
}

/// Result of [`FaceAnalyzer::analyze`].
#[derive(Clone, Debug)]
pub struct Analysis {
    /// One result per picture, in the order of the pictures.
    pub images: Vec<ImageFaces>,
    /// Time of the stages, summed over all pictures.
    pub timings: Timings,
}

/// Failure to analyze pictures. The cause is the configuration or a network, not the content of a picture.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    /// [`FaceAnalyzer::detector`] is `None`.
    #[error("no detector is configured")]
    NoDetector,
    /// [`FaceAnalyzer::recognizer`] is `None`, and embeddings were requested.
    #[error("no recognizer is configured, so there are no embeddings; switch embeddings off or name a recognizer")]
    NoRecognizer,
    /// The detector failed.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The recognizer failed.
    #[error(transparent)]
    Recognize(#[from] RecognizeError),
    /// An attribute network failed.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
}

/// Failure of [`FaceAnalyzer::analyze_file`].
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages document the fields")]
pub enum AnalyzeFileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is not a picture that can be decoded.
    #[error("{path}: {source}", path = .path.display())]
    Decode { path: PathBuf, source: DecodeError },
    /// The analysis failed.
    #[error(transparent)]
    Analyze(#[from] AnalyzeError),
}

impl FaceAnalyzer {
    /// Finds the faces in a picture file and runs every configured network, with [`FaceAnalyzer::all_options`].
    ///
    /// # Errors
    ///
    /// If the file cannot be read or decoded, or a network fails.
    pub fn analyze_file(&self, path: impl AsRef<Path>) -> Result<ImageFaces, AnalyzeFileError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| AnalyzeFileError::Read { path: path.into(), source })?;
        let picture = decode(&bytes, &DecodeLimits::default())
            .map_err(|source| AnalyzeFileError::Decode { path: path.into(), source })?;
        // One picture gives one result.
        Ok(self.analyze(&[picture], &self.all_options())?.images.remove(0))
    }

    /// Options that request a result from every configured network, with default limits.
    pub fn all_options(&self) -> AnalyzeOptions {
        AnalyzeOptions {
            embedding: self.recognizer.is_some(),
            gender_age: true,
            masks: true,
            liveness: true,
            ..AnalyzeOptions::default()
        }
    }

    /// Detects the faces of all pictures, aligns them, and computes what `options` requests in batches over all
    /// pictures.
    ///
    /// # Errors
    ///
    /// If there is no detector, embeddings are requested without a recognizer, or a network fails.
    pub fn analyze(&self, images: &[RgbImage], options: &AnalyzeOptions) -> Result<Analysis, AnalyzeError> {
        let mut timings = Timings::default();
        let started = Instant::now();
        let found = self.detect(images, options)?;
        timings.detect = started.elapsed();

        let started = Instant::now();
        let crops: Vec<RgbImage> = if self.needs_crops(options) { align_all(images, &found) } else { vec![] };
        timings.align = started.elapsed();

        let started = Instant::now();
        let embeddings = if options.embedding { self.embed(&crops)? } else { vec![] };
        timings.recognize = started.elapsed();

        let started = Instant::now();
        let attributes = self.detected_attributes(images, &found, &crops, options)?;
        timings.attributes = started.elapsed();

        let mut attributes = attributes.into_iter();
        let mut embeddings = embeddings.into_iter();
        let mut crops = crops.into_iter();
        let images = images
            .iter()
            .zip(&found)
            .map(|(image, found)| {
                let faces = found.detections.iter().map(|detection| {
                    let mut face = Face::new(detection);
                    face.embedding = embeddings.next();
                    face.set_attributes(attributes.next().unwrap_or_default());
                    face.crop = crops.next().filter(|_| options.keep_crops);
                    face
                });
                ImageFaces { width: image.width(), height: image.height(), scale: found.scale, faces: faces.collect() }
            })
            .collect();
        Ok(Analysis { images, timings })
    }

    /// Whether `options` requires aligned crops.
    pub fn needs_crops(&self, options: &AnalyzeOptions) -> bool {
        options.embedding
            || options.keep_crops
            || options.gender_age && self.gender_age.is_some()
            || options.masks && self.mask_detector.is_some()
    }

    /// Runs only the detector and applies the limits of `options`. One result per picture.
    ///
    /// # Errors
    ///
    /// If there is no detector or it fails.
    pub fn detect(&self, images: &[RgbImage], options: &AnalyzeOptions) -> Result<Vec<ImageDetections>, AnalyzeError> {
        let detector = self.detector.as_ref().ok_or(AnalyzeError::NoDetector)?;
        let mut found = detector.detect(&images.iter().collect::<Vec<_>>(), options.threshold)?;
        for image in &mut found {
            select(&mut image.detections, options);
        }
        Ok(found)
    }

    /// Embeddings of aligned 112x112 crops, in their order.
    ///
    /// # Errors
    ///
    /// If there is no recognizer, a crop has another size, or the network fails.
    pub fn embed(&self, crops: &[RgbImage]) -> Result<Vec<Embedding>, AnalyzeError> {
        let recognizer = self.recognizer.as_ref().ok_or(AnalyzeError::NoRecognizer)?;
        Ok(recognizer.embed(&crops.iter().collect::<Vec<_>>())?)
    }

    /// Attributes of aligned 112x112 crops, in their order, without liveness, which requires the picture around the
    /// face.
    ///
    /// # Errors
    ///
    /// If a network fails.
    pub fn attributes(&self, crops: &[RgbImage], options: &AnalyzeOptions) -> Result<Vec<Attributes>, AnalyzeError> {
        let faces: Vec<FaceView> = crops.iter().map(FaceView::of_crop).collect();
        self.run_attributes(&faces, &AnalyzeOptions { liveness: false, ..options.clone() })
    }

    /// Embedding and attributes of each face, as `options` requests. Crops may be empty if no requested network uses
    /// them.
    ///
    /// # Errors
    ///
    /// If embeddings are requested without a recognizer, or a network fails.
    pub fn describe(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Description>, AnalyzeError> {
        let embeddings = if options.embedding {
            let recognizer = self.recognizer.as_ref().ok_or(AnalyzeError::NoRecognizer)?;
            recognizer.embed(&faces.iter().map(|face| face.crop).collect::<Vec<_>>())?
        } else {
            vec![]
        };
        let mut embeddings = embeddings.into_iter();
        let attributes = self.run_attributes(faces, options)?.into_iter();
        Ok(attributes.map(|attributes| Description { embedding: embeddings.next(), attributes }).collect())
    }

    /// Runs every network on gray pictures, with single items and full batches. The first inference is slower than the
    /// following ones, and a network that cannot run fails here and not at the first request.
    ///
    /// # Errors
    ///
    /// If a network fails.
    pub fn warm_up(&self) -> Result<(), AnalyzeError> {
        let options = self.all_options();
        let gray = |side: u32| RgbImage::from_pixel(side, side, image::Rgb([128; 3]));
        let crop = gray(CROP_SIDE);
        for count in [1, self.detector.as_ref().map_or(1, |d| d.batch())] {
            let pictures = vec![gray(256); count];
            if self.detector.is_some() {
                self.analyze(&pictures, &options)?;
            }
        }
        for count in [1, self.recognizer.as_ref().map_or(1, |r| r.batch())] {
            let crops = vec![crop.clone(); count];
            if self.recognizer.is_some() {
                self.embed(&crops)?;
            }
            self.attributes(&crops, &options)?;
            if let Some(liveness) = &self.liveness {
                liveness.score(&vec![FaceView::of_crop(&crop); count])?;
            }
        }
        Ok(())
    }

    /// Attributes of all detected faces, in the order of the pictures. `crops` may be empty if no network uses them.
    fn detected_attributes(
        &self,
        images: &[RgbImage],
        found: &[ImageDetections],
        crops: &[RgbImage],
        options: &AnalyzeOptions,
    ) -> Result<Vec<Attributes>, AnalyzeError> {
        let empty = RgbImage::new(0, 0);
        let crops = crops.iter().chain(std::iter::repeat(&empty));
        let detections = images.iter().zip(found).flat_map(|(i, f)| f.detections.iter().map(move |d| (i, d)));
        let faces: Vec<FaceView> =
            detections.clone().zip(crops).map(|((image, d), crop)| FaceView { image, bbox: d.bbox, crop }).collect();
        let mut attributes = self.run_attributes(&faces, options)?;
        if options.masks && self.mask_detector.is_none() {
            for (attributes, (_, detection)) in attributes.iter_mut().zip(detections) {
                attributes.mask = own_mask(detection);
            }
        }
        Ok(attributes)
    }

    fn run_attributes(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Attributes>, AnalyzeError> {
        let mut attributes = vec![Attributes::default(); faces.len()];
        if let Some(network) = self.gender_age.as_ref().filter(|_| options.gender_age) {
            for (face, (gender, age)) in attributes.iter_mut().zip(network.estimate(faces)?) {
                (face.gender, face.age) = (Some(gender), Some(age));
            }
        }
        if let Some(network) = self.mask_detector.as_ref().filter(|_| options.masks) {
            for (face, mask) in attributes.iter_mut().zip(network.detect(faces)?) {
                face.mask = Some(mask);
            }
        }
        if let Some(networks) = self.liveness.as_ref().filter(|_| options.liveness) {
            for (face, score) in attributes.iter_mut().zip(networks.score(faces)?) {
                face.liveness = Some(score);
            }
        }
        Ok(attributes)
    }
}

/// Mask result of a detector with a mask head; `None` for other detectors.
pub fn own_mask(detection: &Detection) -> Option<MaskResult> {
    detection.mask.map(|p| MaskResult::new(p, 1.0 - p))
}

/// Drops faces narrower than `min_face_size`, then all but the `limit_faces` largest. Keeps the order.
pub fn select(detections: &mut Vec<Detection>, options: &AnalyzeOptions) {
    if options.min_face_size > 0 {
        detections.retain(|d| d.width() >= options.min_face_size as f32);
    }
    if options.limit_faces > 0 && detections.len() > options.limit_faces {
        let mut areas: Vec<f32> = detections.iter().map(Detection::area).collect();
        areas.sort_by(|a, b| b.total_cmp(a));
        let smallest = areas[options.limit_faces - 1];
        // Of equal areas at the limit, the faces with higher scores are kept.
        let mut ties = options.limit_faces - areas.iter().filter(|&&a| a > smallest).count();
        detections.retain(|d| match d.area() {
            area if area > smallest => true,
            area if area == smallest && ties > 0 => {
                ties -= 1;
                true
            }
            _ => false,
        });
    }
}

/// Aligned crops of all faces, in the order of the pictures.
fn align_all(images: &[RgbImage], found: &[ImageDetections]) -> Vec<RgbImage> {
    let faces: Vec<(&RgbImage, &[[f32; 2]; 5])> = images
        .iter()
        .zip(found)
        .flat_map(|(image, found)| found.detections.iter().map(move |d| (image, &d.landmarks)))
        .collect();
    faces.par_iter().map(|(image, landmarks)| align(image, landmarks)).collect()
}

impl From<&Face> for crate::image::Annotation {
    fn from(face: &Face) -> Self {
        crate::image::Annotation {
            bbox: face.bbox,
            landmarks: face.landmarks,
            prob: face.prob,
            mask: face.mask.map(|result| result.mask),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(width: f32, score: f32) -> Detection {
        Detection { bbox: [0.0, 0.0, width, width], landmarks: [[0.0; 2]; 5], score, mask: None }
    }

    #[test]
    fn the_largest_faces_are_kept_in_order_of_score() {
        let mut faces = vec![face(10.0, 0.9), face(30.0, 0.8), face(20.0, 0.7), face(20.0, 0.6)];
        select(&mut faces, &AnalyzeOptions { limit_faces: 2, ..Default::default() });
        assert_eq!(faces.iter().map(|f| f.score).collect::<Vec<_>>(), [0.8, 0.7]);
    }

    #[test]
    fn small_faces_are_dropped_before_the_limit_applies() {
        let mut faces = vec![face(10.0, 0.9), face(30.0, 0.8), face(9.0, 0.7)];
        select(&mut faces, &AnalyzeOptions { limit_faces: 3, min_face_size: 10, ..Default::default() });
        assert_eq!(faces.iter().map(|f| f.score).collect::<Vec<_>>(), [0.9, 0.8]);
    }

    #[test]
    fn missing_networks_are_named() {
        let analyzer = FaceAnalyzer::default();
        assert!(matches!(analyzer.analyze(&[], &AnalyzeOptions::default()), Err(AnalyzeError::NoDetector)));
        assert!(matches!(analyzer.embed(&[]), Err(AnalyzeError::NoRecognizer)));
    }
}
