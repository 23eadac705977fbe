//! The builder of [`FaceAnalyzer`]: model names in, loaded networks out.

use std::path::PathBuf;

use crate::analyzer::FaceAnalyzer;
use crate::models::{DEFAULT_RECOGNIZER, ModelError, ModelStore, Selection};

/// Selects and loads the models of a [`FaceAnalyzer`].
///
/// Models are found by name: first as `DIR/onnx/NAME/NAME.onnx` in the models directory, then among the embedded
/// models. Nothing is downloaded. Without further calls the embedded models are used: detector "centerface", recognizer
/// "mobilefacenet", a canvas of 640x640 pixels, no attribute networks.
///
/// ```
/// use ifr_faces::FaceAnalyzer;
///
/// let analyzer = FaceAnalyzer::builder().detector("centerface").canvas(320, 320).detection_only().build()?;
/// assert!(analyzer.recognizer.is_none());
/// # Ok::<(), ifr_faces::models::ModelError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "`build` loads the models"]
pub struct FaceAnalyzerBuilder {
    models_dir: Option<PathBuf>,
    selection: Selection,
}

impl FaceAnalyzer {
    /// Starts with the embedded models; see [`FaceAnalyzerBuilder`].
    pub fn builder() -> FaceAnalyzerBuilder {
        let selection = Selection { recognizer: Some(DEFAULT_RECOGNIZER.into()), ..Selection::default() };
        FaceAnalyzerBuilder { models_dir: None, selection }
    }

    /// Loads the embedded detector and recognizer.
    ///
    /// # Errors
    ///
    /// If the engine cannot prepare a network.
    pub fn with_default_models() -> Result<FaceAnalyzer, ModelError> {
        FaceAnalyzer::builder().build()
    }
}

impl FaceAnalyzerBuilder {
    /// Sets the directory of installed models. Default: only embedded models.
    pub fn models_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.models_dir = Some(dir.into());
        self
    }

    /// Sets the detector by name.
    pub fn detector(mut self, name: impl Into<String>) -> Self {
        self.selection.detector = name.into();
        self
    }

    /// Sets the recognizer by name.
    pub fn recognizer(mut self, name: impl Into<String>) -> Self {
        self.selection.recognizer = Some(name.into());
        self
    }

    /// Sets the gender and age network by name.
    pub fn gender_age(mut self, name: impl Into<String>) -> Self {
        self.selection.gender_age = Some(name.into());
        self
    }

    /// Sets the mask detector by name.
    pub fn mask_detector(mut self, name: impl Into<String>) -> Self {
        self.selection.mask_detector = Some(name.into());
        self
    }

    /// Sets the liveness networks by name, separated by commas.
    pub fn liveness(mut self, names: impl Into<String>) -> Self {
        self.selection.liveness = Some(names.into());
        self
    }

    /// Removes all networks but the detector.
    pub fn detection_only(mut self) -> Self {
        let Selection { recognizer, gender_age, mask_detector, liveness, .. } = &mut self.selection;
        for name in [recognizer, gender_age, mask_detector, liveness] {
            *name = None;
        }
        self
    }

    /// Sets the size in pixels of the canvas that the detector fits pictures into. Rounded down to multiples of 32.
    pub fn canvas(mut self, width: usize, height: usize) -> Self {
        self.selection.canvas = (width, height);
        self
    }

    /// Sets the maximum batch size of the detector, in pictures. Default: 1.
    pub fn detector_batch(mut self, pictures: usize) -> Self {
        self.selection.detector_batch = pictures;
        self
    }

    /// Sets the maximum batch size of the other networks, in faces. Default: 1.
    pub fn face_batch(mut self, faces: usize) -> Self {
        self.selection.face_batch = faces;
        self
    }

    /// Loads the models.
    ///
    /// # Errors
    ///
    /// If a model is not found, cannot be read, or does not fit its stage. The message names the model.
    pub fn build(self) -> Result<FaceAnalyzer, ModelError> {
        ModelStore::new(self.models_dir).load(&self.selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reaches_the_selection() {
        let builder = FaceAnalyzer::builder()
            .detector("d")
            .recognizer("r")
            .gender_age("g")
            .mask_detector("m")
            .liveness("l1, l2")
            .canvas(320, 256)
            .detector_batch(2)
            .face_batch(8);
        assert_eq!(builder.selection.names(), ["d", "r", "g", "m", "l1", "l2"]);
        let Selection { canvas, detector_batch, face_batch, .. } = builder.selection;
        assert_eq!((canvas, detector_batch, face_batch), ((320, 256), 2, 8));
        assert_eq!(builder.detection_only().selection.names(), ["d"]);
    }

    #[test]
    fn a_missing_model_is_named() {
        let message = FaceAnalyzer::builder().detector("absent").build().err().unwrap().to_string();
        assert!(message.contains("'absent'"), "{message}");
    }
}
