//! A selection of models that are loaded together.

use std::sync::Arc;

use super::embedded::DEFAULT_DETECTOR;
use super::error::ModelError;
use super::name::split_names;
use super::store::ModelStore;
use crate::analyzer::FaceAnalyzer;

/// Names of the models to load, with canvas and batch sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Name of the detector.
    pub detector: String,
    /// Name of the recognizer.
    pub recognizer: Option<String>,
    /// Name of the gender and age network.
    pub gender_age: Option<String>,
    /// Name of the mask detector.
    pub mask_detector: Option<String>,
    /// Names of the liveness networks, separated by commas.
    pub liveness: Option<String>,
    /// (width, height) of the detector's canvas in pixels.
    pub canvas: (usize, usize),
    /// Maximum batch size of the detector.
    pub detector_batch: usize,
    /// Maximum batch size of the other networks.
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
    /// Names of all selected models.
    pub fn names(&self) -> Vec<&str> {
        let others = [&self.recognizer, &self.gender_age, &self.mask_detector].into_iter().flatten();
        let liveness = self.liveness.iter().flat_map(|names| split_names(names));
        std::iter::once(&self.detector).chain(others).map(String::as_str).chain(liveness).collect()
    }
}

impl ModelStore {
    /// Loads all models of `selection` in parallel. Nothing is downloaded.
    ///
    /// # Errors
    ///
    /// The error of the first model that cannot be loaded.
    pub fn load(&self, selection: &Selection) -> Result<FaceAnalyzer, ModelError> {
        let batch = selection.face_batch;
        let detector = || self.detector(&selection.detector, selection.canvas, selection.detector_batch);
        let recognizer = || selection.recognizer.as_ref().map(|n| self.recognizer(n, batch)).transpose();
        let gender_age = || selection.gender_age.as_ref().map(|n| self.gender_age(n, batch)).transpose();
        let mask_detector = || selection.mask_detector.as_ref().map(|n| self.mask_detector(n, batch)).transpose();
        let liveness = || selection.liveness.as_ref().map(|n| self.liveness(n, batch)).transpose();
        // `join` continues on this thread while other threads of the pool are busy.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_loaded_and_warmed_up_or_the_failing_model_named() {
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
