//! The interface between the scheduler and the networks. A trait, so that tests can use slow, broken and panicking
//! networks.

use crate::analyzer::{AnalyzeError, AnalyzeOptions, Description, FaceAnalyzer};
use crate::attributes::FaceView;
use crate::detect::ImageDetections;
use crate::image::RgbImage;
use std::sync::Arc;

/// Identifies the items that may share one pass, also across requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchKey {
    /// Addresses of the networks in memory.
    pub networks: [usize; 5],
    /// Options that change what a pass computes: bits of the threshold, or one bit for each network that runs.
    pub options: u32,
    /// Maximum number of items in one pass.
    pub max_batch: usize,
}

/// The networks of a request.
pub trait Networks: Send + Sync {
    /// Returns the faces of each picture with a score over `threshold`. Errs if the network fails.
    fn detect(&self, pictures: &[&RgbImage], threshold: f32) -> Result<Vec<ImageDetections>, AnalyzeError>;

    /// Runs all other networks that `options` selects on each face. Errs if one of them fails.
    fn describe(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Description>, AnalyzeError>;

    /// Pictures with equal keys may share a detector pass.
    fn detection_batch_key(&self, options: &AnalyzeOptions) -> BatchKey;

    /// Faces with equal keys may share a description pass. `None` if no network is needed.
    fn description_batch_key(&self, options: &AnalyzeOptions) -> Option<BatchKey>;

    /// True if faces must be aligned and cut out.
    fn needs_crops(&self, options: &AnalyzeOptions) -> bool;

    /// True if a description needs the picture around the face.
    fn needs_picture(&self, options: &AnalyzeOptions) -> bool;
}

impl Networks for FaceAnalyzer {
    fn detect(&self, pictures: &[&RgbImage], threshold: f32) -> Result<Vec<ImageDetections>, AnalyzeError> {
        let detector = self.detector.as_ref().ok_or(AnalyzeError::NoDetector)?;
        Ok(detector.detect(pictures, threshold)?)
    }

    fn describe(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Description>, AnalyzeError> {
        FaceAnalyzer::describe(self, faces, options)
    }

    fn detection_batch_key(&self, options: &AnalyzeOptions) -> BatchKey {
        let max_batch = self.detector.as_ref().map_or(1, |detector| detector.batch());
        BatchKey { networks: [address(&self.detector), 0, 0, 0, 0], options: options.threshold.to_bits(), max_batch }
    }

    fn description_batch_key(&self, options: &AnalyzeOptions) -> Option<BatchKey> {
        let runs = [
            // Without a recognizer this is an error, which `describe` reports.
            options.embedding,
            options.gender_age && self.gender_age.is_some(),
            options.masks && self.mask_detector.is_some(),
            options.liveness && self.liveness.is_some(),
        ];
        if runs == [false; 4] {
            return None;
        }
        let options = runs.iter().fold(0, |bits, runs| bits << 1 | u32::from(*runs));
        let networks = [
            0,
            address(&self.recognizer),
            address(&self.gender_age),
            address(&self.mask_detector),
            address(&self.liveness),
        ];
        let max_batch = self.recognizer.as_ref().map_or(1, |recognizer| recognizer.batch());
        Some(BatchKey { networks, options, max_batch })
    }

    fn needs_crops(&self, options: &AnalyzeOptions) -> bool {
        FaceAnalyzer::needs_crops(self, options)
    }

    fn needs_picture(&self, options: &AnalyzeOptions) -> bool {
        options.gender_age && self.gender_age.is_some() || options.liveness && self.liveness.is_some()
    }
}

fn address<T>(network: &Option<Arc<T>>) -> usize {
    network.as_ref().map_or(0, |network| Arc::as_ptr(network) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ModelStore;

    #[test]
    fn only_equal_options_and_equal_networks_share_a_batch() {
        let store = ModelStore::default();
        let detector = || Some(Arc::new(store.detector("centerface", (64, 64), 1).unwrap()));
        let analyzer = FaceAnalyzer { detector: detector(), ..Default::default() };
        let options = AnalyzeOptions { embedding: false, ..Default::default() };
        let other = AnalyzeOptions { threshold: 0.5, ..options.clone() };
        let limited = AnalyzeOptions { limit_faces: 1, ..options.clone() };
        assert_eq!(analyzer.detection_batch_key(&options), analyzer.clone().detection_batch_key(&limited));
        assert_ne!(analyzer.detection_batch_key(&options), analyzer.detection_batch_key(&other));
        let second = FaceAnalyzer { detector: detector(), ..Default::default() };
        assert_ne!(analyzer.detection_batch_key(&options), second.detection_batch_key(&options));

        assert_eq!(analyzer.description_batch_key(&options), None);
        let recognizer = FaceAnalyzer {
            recognizer: Some(Arc::new(store.recognizer("mobilefacenet", 4).unwrap())),
            ..Default::default()
        };
        let key = recognizer.description_batch_key(&AnalyzeOptions::default()).unwrap();
        assert_eq!(key.max_batch, 4);
    }
}
