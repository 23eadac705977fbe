//! The front door: pictures in, faces out.
//!
//! Nothing here opens a file or a socket, so the same code serves requests, fills archives and runs in a browser.

#![deny(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use image::RgbImage;
use rayon::prelude::*;
use web_time::Instant;

use crate::align::align;
use crate::attributes::{AttributeError, FaceView, GenderAge, Liveness, MaskDetector, MaskResult};
use crate::detect::{DetectError, Detection, Detector, Found};
use crate::recognize::{Embedding, RecognizeError, Recognizer};

/// The networks that look at a picture. All optional but the detector of [`FaceAnalyzer::analyze`]; cheap to clone and recombine.
#[derive(Clone, Default)]
pub struct FaceAnalyzer {
    /// Finds the faces.
    pub detector: Option<Arc<Detector>>,
    /// Computes embeddings.
    pub recognizer: Option<Arc<Recognizer>>,
    /// Estimates gender and age.
    pub gender_age: Option<Arc<GenderAge>>,
    /// Tells covered from bare faces.
    pub mask_detector: Option<Arc<MaskDetector>>,
    /// Scores how live faces are.
    pub liveness: Option<Arc<Liveness>>,
}

/// What to look for.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyzeOptions {
    /// Detections must score over this, 0 to 1.
    pub threshold: f32,
    /// Keep only this many of the largest faces of each picture; 0 keeps all.
    pub limit_faces: usize,
    /// Drop faces narrower than this many pixels of the picture.
    pub min_face_size: u32,
    /// Compute embeddings.
    pub embedding: bool,
    /// Estimate gender and age. Attributes that no network is configured for stay empty, as in the original.
    pub gender_age: bool,
    /// Tell covered from bare faces.
    pub masks: bool,
    /// Score how live faces are.
    pub liveness: bool,
    /// Keep the aligned crops.
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
    /// x1, y1, x2, y2 in pixels of the picture; may reach beyond its edges.
    pub bbox: [f32; 4],
    /// Left eye, right eye, nose tip, left and right mouth corner, as seen in the picture.
    pub landmarks: [[f32; 2]; 5],
    /// The detector's score, 0 to 1.
    pub prob: f32,
    /// Of the recogniser, where one was asked.
    pub embedding: Option<Embedding>,
    /// 0 female, 1 male.
    pub gender: Option<u8>,
    /// Years.
    pub age: Option<u32>,
    /// Of the mask detector, or of a detector that tells by itself.
    pub mask: Option<MaskResult>,
    /// Probability that the face is no print and no screen, 0 to 1.
    pub liveness: Option<f32>,
    /// The aligned 112x112 crop, when asked for.
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

    /// A face that was found and then described; `crop` is kept as it is.
    pub fn described(detection: &Detection, description: Description, crop: Option<RgbImage>) -> Face {
        let mut face = Face { embedding: description.embedding, crop, ..Face::new(detection) };
        face.set(description.attributes);
        face
    }

    fn set(&mut self, attributes: Attributes) {
        let Attributes { gender, age, mask, liveness } = attributes;
        (self.gender, self.age, self.mask, self.liveness) = (gender, age, mask, liveness);
    }
}

/// The faces of one picture, by descending score.
#[derive(Clone, Debug)]
pub struct ImageFaces {
    /// Of the picture, in pixels.
    pub width: u32,
    /// Of the picture, in pixels.
    pub height: u32,
    /// Factor from the picture to the detector's canvas.
    pub scale: f64,
    /// By descending score.
    pub faces: Vec<Face>,
}

/// Time spent in each stage of one call, over all pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Letterbox, detector and suppression.
    pub detect: Duration,
    /// Cutting the crops.
    pub align: Duration,
    /// Embeddings.
    pub recognize: Duration,
    /// Gender, age, masks, liveness.
    pub attributes: Duration,
}

/// What attribute networks say of one face; the fields are those of [`Face`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attributes {
    /// 0 female, 1 male.
    pub gender: Option<u8>,
    /// Years.
    pub age: Option<u32>,
    /// Whether a mask is worn.
    pub mask: Option<MaskResult>,
    /// 0 to 1.
    pub liveness: Option<f32>,
}

/// What all networks but the detector say of one face.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// None where no recogniser is asked.
    pub embedding: Option<Embedding>,
    /// Empty where no attribute network is asked.
    pub attributes: Attributes,
}

/// The answer to [`FaceAnalyzer::analyze`].
#[derive(Clone, Debug)]
pub struct Analysis {
    /// In the order of the pictures.
    pub images: Vec<ImageFaces>,
    /// Over all pictures.
    pub timings: Timings,
}

/// Why pictures could not be analysed; never the fault of one picture.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    /// [`FaceAnalyzer::detector`] is missing.
    #[error("no detector is configured")]
    NoDetector,
    /// [`FaceAnalyzer::recognizer`] is missing, and embeddings were asked for.
    #[error("no recogniser is configured, so there are no embeddings; switch embeddings off or name a recogniser")]
    NoRecognizer,
    /// The detector failed.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The recogniser failed.
    #[error(transparent)]
    Recognize(#[from] RecognizeError),
    /// An attribute network failed.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
}

impl FaceAnalyzer {
    /// Finds the faces of every picture, cuts them out, and embeds and judges all of them in common batches.
    pub fn analyze(&self, images: &[RgbImage], options: &AnalyzeOptions) -> Result<Analysis, AnalyzeError> {
        let mut timings = Timings::default();
        let started = Instant::now();
        let found = self.detect(images, options)?;
        timings.detect = started.elapsed();

        let started = Instant::now();
        let crops: Vec<RgbImage> = if self.needs_crops(options) { cut(images, &found) } else { vec![] };
        timings.align = started.elapsed();

        let started = Instant::now();
        let embeddings = if options.embedding { self.embed(&crops)? } else { vec![] };
        timings.recognize = started.elapsed();

        let started = Instant::now();
        let attributes = self.attributes_of(images, &found, &crops, options)?;
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
                    face.set(attributes.next().unwrap_or_default());
                    face.crop = crops.next().filter(|_| options.keep_crops);
                    face
                });
                ImageFaces { width: image.width(), height: image.height(), scale: found.scale, faces: faces.collect() }
            })
            .collect();
        Ok(Analysis { images, timings })
    }

    /// Whether faces have to be cut out for what is asked.
    pub fn needs_crops(&self, options: &AnalyzeOptions) -> bool {
        options.embedding
            || options.keep_crops
            || options.gender_age && self.gender_age.is_some()
            || options.masks && self.mask_detector.is_some()
    }

    /// Detection alone, with the options' limits applied.
    pub fn detect(&self, images: &[RgbImage], options: &AnalyzeOptions) -> Result<Vec<Found>, AnalyzeError> {
        let detector = self.detector.as_ref().ok_or(AnalyzeError::NoDetector)?;
        let mut found = detector.detect(&images.iter().collect::<Vec<_>>(), options.threshold)?;
        for image in &mut found {
            select(&mut image.detections, options);
        }
        Ok(found)
    }

    /// Embeddings of crops that are already aligned (112x112).
    pub fn embed(&self, crops: &[RgbImage]) -> Result<Vec<Embedding>, AnalyzeError> {
        let recognizer = self.recognizer.as_ref().ok_or(AnalyzeError::NoRecognizer)?;
        Ok(recognizer.embed(&crops.iter().collect::<Vec<_>>())?)
    }

    /// Attributes of crops that are already aligned (112x112). Liveness needs the surroundings of a face, so it stays empty.
    pub fn attributes(&self, crops: &[RgbImage], options: &AnalyzeOptions) -> Result<Vec<Attributes>, AnalyzeError> {
        let faces: Vec<FaceView> = crops.iter().map(FaceView::of_crop).collect();
        self.judge(&faces, &AnalyzeOptions { liveness: false, ..options.clone() })
    }

    /// What the networks that `options` asks for say of each face. The crop of a face may be empty when none of them wants it.
    pub fn describe(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Description>, AnalyzeError> {
        let embeddings = if options.embedding {
            let recognizer = self.recognizer.as_ref().ok_or(AnalyzeError::NoRecognizer)?;
            recognizer.embed(&faces.iter().map(|face| face.crop).collect::<Vec<_>>())?
        } else {
            vec![]
        };
        let mut embeddings = embeddings.into_iter();
        let attributes = self.judge(faces, options)?.into_iter();
        Ok(attributes.map(|attributes| Description { embedding: embeddings.next(), attributes }).collect())
    }

    /// Attributes of all detected faces, picture by picture. `crops` may be empty when no network wants them.
    fn attributes_of(
        &self,
        images: &[RgbImage],
        found: &[Found],
        crops: &[RgbImage],
        options: &AnalyzeOptions,
    ) -> Result<Vec<Attributes>, AnalyzeError> {
        let empty = RgbImage::new(0, 0);
        let crops = crops.iter().chain(std::iter::repeat(&empty));
        let detections = images.iter().zip(found).flat_map(|(i, f)| f.detections.iter().map(move |d| (i, d)));
        let faces: Vec<FaceView> =
            detections.clone().zip(crops).map(|((image, d), crop)| FaceView { image, bbox: d.bbox, crop }).collect();
        let mut attributes = self.judge(&faces, options)?;
        if options.masks && self.mask_detector.is_none() {
            for (attributes, (_, detection)) in attributes.iter_mut().zip(detections) {
                attributes.mask = own_mask(detection);
            }
        }
        Ok(attributes)
    }

    fn judge(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Attributes>, AnalyzeError> {
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

/// Of a detector that tells masks by itself.
pub fn own_mask(detection: &Detection) -> Option<MaskResult> {
    detection.mask.map(|p| MaskResult::new(p, 1.0 - p))
}

/// Drops faces that are too small, then all but the largest `limit_faces`; the order by score stays.
pub fn select(detections: &mut Vec<Detection>, options: &AnalyzeOptions) {
    if options.min_face_size > 0 {
        detections.retain(|d| d.width() >= options.min_face_size as f32);
    }
    if options.limit_faces > 0 && detections.len() > options.limit_faces {
        let mut areas: Vec<f32> = detections.iter().map(Detection::area).collect();
        areas.sort_by(|a, b| b.total_cmp(a));
        let smallest = areas[options.limit_faces - 1];
        // Of equal areas at the limit the better scored stay.
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

/// The aligned crops of all faces, picture by picture.
fn cut(images: &[RgbImage], found: &[Found]) -> Vec<RgbImage> {
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
    fn the_largest_faces_stay_in_order_of_score() {
        let mut faces = vec![face(10.0, 0.9), face(30.0, 0.8), face(20.0, 0.7), face(20.0, 0.6)];
        select(&mut faces, &AnalyzeOptions { limit_faces: 2, ..Default::default() });
        assert_eq!(faces.iter().map(|f| f.score).collect::<Vec<_>>(), [0.8, 0.7]);
    }

    #[test]
    fn small_faces_go_before_the_limit_counts() {
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
