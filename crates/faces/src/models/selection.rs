//! The models a program is configured to use, loaded together.

use std::sync::Arc;

use super::store::split_names;
use super::{DEFAULT_DETECTOR, ModelError, ModelStore};
use crate::analyzer::{AnalyzeError, AnalyzeOptions, FaceAnalyzer};
use crate::image::RgbImage;

/// Names of the models to use, and the sizes they are prepared for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub detector: String,
    pub recognizer: Option<String>,
    pub gender_age: Option<String>,
    pub mask_detector: Option<String>,
    /// Separated by commas.
    pub liveness: Option<String>,
    /// Width and height of the detector's canvas.
    pub canvas: (usize, usize),
    /// Images in one pass of the detector.
    pub detector_batch: usize,
    /// Faces in one pass of the others.
    pub face_batch: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Selection {
            detector: DEFAULT_DETECTOR.into(),
            recognizer: None,
            gender_age: None,
            mask_detector: None,
            liveness: None,
            canvas: (640, 640),
            detector_batch: 1,
            face_batch: 1,
        }
    }
}

impl Selection {
    /// Names of all models in it.
    pub fn names(&self) -> Vec<&str> {
        let others = [&self.recognizer, &self.gender_age, &self.mask_detector].into_iter().flatten();
        let liveness = self.liveness.iter().flat_map(|names| split_names(names));
        std::iter::once(&self.detector).chain(others).map(String::as_str).chain(liveness).collect()
    }
}

impl ModelStore {
    /// Loads a whole selection, each network on its own thread. Errs with the first that cannot be loaded; nothing is fetched.
    pub fn load(&self, selection: &Selection) -> Result<FaceAnalyzer, ModelError> {
        let batch = selection.face_batch;
        let detector = || self.detector(&selection.detector, selection.canvas, selection.detector_batch);
        let recognizer = || selection.recognizer.as_ref().map(|n| self.recognizer(n, batch)).transpose();
        let gender_age = || selection.gender_age.as_ref().map(|n| self.gender_age(n, batch)).transpose();
        let mask_detector = || selection.mask_detector.as_ref().map(|n| self.mask_detector(n, batch)).transpose();
        let liveness = || selection.liveness.as_ref().map(|n| self.liveness(n, batch)).transpose();
        // Of a thread pool's threads some may be busy for long; where there are no threads it runs in order.
        let ((detector, recognizer), (gender_age, (mask_detector, liveness))) = rayon::join(
            || rayon::join(detector, recognizer),
            || rayon::join(gender_age, || rayon::join(mask_detector, liveness)),
        );
        Ok(FaceAnalyzer {
            detector: Some(Arc::new(detector?)),
            recognizer: recognizer?.map(Arc::new),
            gender_age: gender_age?.map(Arc::new),
            mask_detector: mask_detector?.map(Arc::new),
            liveness: liveness?.map(Arc::new),
        })
    }
}

impl FaceAnalyzer {
    /// Runs every network once on grey pictures, so that the first request does not pay for what is prepared on first use, and a
    /// network that cannot run is known before it serves.
    pub fn warm_up(&self) -> Result<(), AnalyzeError> {
        let options = AnalyzeOptions {
            embedding: self.recognizer.is_some(),
            gender_age: true,
            masks: true,
            liveness: true,
            ..AnalyzeOptions::default()
        };
        let grey = |side: u32| RgbImage::from_pixel(side, side, image::Rgb([128; 3]));
        let crop = grey(crate::align::CROP_SIDE);
        // One picture and one face, and as many as fit into a pass.
        for count in [1, self.detector.as_ref().map_or(1, |d| d.batch())] {
            let pictures = vec![grey(256); count];
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
                liveness.score(&vec![crate::attributes::FaceView::of_crop(&crop); count])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_loaded_and_warmed_up_or_the_culprit_named() {
        let store = ModelStore::default();
        let mut selection =
            Selection { recognizer: Some("mobilefacenet".into()), canvas: (64, 64), ..Selection::default() };
        assert_eq!(selection.names(), ["centerface", "mobilefacenet"]);
        store.load(&selection).unwrap().warm_up().unwrap();
        selection.liveness = Some("a, b".into());
        assert_eq!(selection.names(), ["centerface", "mobilefacenet", "a", "b"]);
        let message = store.load(&selection).err().unwrap().to_string();
        assert!(message.contains("'a'"), "{message}");
    }
}
