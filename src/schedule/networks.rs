//! What the scheduler asks of networks. A trait, so that tests can put slow, broken and panicking ones in their place.

use crate::analyzer::{AnalyzeOptions, Description, FaceAnalyzer};
use crate::attributes::FaceView;
use crate::detect::ImageDetections;
use crate::image::RgbImage;
use std::sync::Arc;

/// Networks that can be asked together: images of several requests go into one batch when their groups are equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Where the networks are in memory.
    pub networks: [usize; 5],
    /// What else has to be the same: bits of the threshold, or which of the networks are asked.
    pub question: u32,
    /// Most items in one pass.
    pub batch: usize,
}

/// The networks of a request.
pub trait Networks: Send + Sync {
    /// The faces of each picture with a score over `threshold`. Errs with one sentence when a network fails.
    fn detect(&self, pictures: &[&RgbImage], threshold: f32) -> Result<Vec<ImageDetections>, String>;

    /// What all other networks say of each face. Errs with one sentence when one fails.
    fn describe(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Description>, String>;

    /// Who detects.
    fn detects(&self, options: &AnalyzeOptions) -> Group;

    /// Who describes; None when nobody is asked.
    fn describes(&self, options: &AnalyzeOptions) -> Option<Group>;

    /// Whether faces have to be cut out.
    fn needs_crops(&self, options: &AnalyzeOptions) -> bool;

    /// Whether those who describe look at the picture around a face, too.
    fn needs_picture(&self, options: &AnalyzeOptions) -> bool;
}

impl Networks for FaceAnalyzer {
    fn detect(&self, pictures: &[&RgbImage], threshold: f32) -> Result<Vec<ImageDetections>, String> {
        let detector = self.detector.as_ref().ok_or("no detector is configured")?;
        detector.detect(pictures, threshold).map_err(|error| error.to_string())
    }

    fn describe(&self, faces: &[FaceView], options: &AnalyzeOptions) -> Result<Vec<Description>, String> {
        FaceAnalyzer::describe(self, faces, options).map_err(|error| error.to_string())
    }

    fn detects(&self, options: &AnalyzeOptions) -> Group {
        let batch = self.detector.as_ref().map_or(1, |detector| detector.batch());
        Group { networks: [place(&self.detector), 0, 0, 0, 0], question: options.threshold.to_bits(), batch }
    }

    fn describes(&self, options: &AnalyzeOptions) -> Option<Group> {
        let asked = [
            // Without a recogniser this is an error, which is for `describe` to report.
            options.embedding,
            options.gender_age && self.gender_age.is_some(),
            options.masks && self.mask_detector.is_some(),
            options.liveness && self.liveness.is_some(),
        ];
        if asked == [false; 4] {
            return None;
        }
        let question = asked.iter().fold(0, |bits, asked| bits << 1 | u32::from(*asked));
        let networks =
            [0, place(&self.recognizer), place(&self.gender_age), place(&self.mask_detector), place(&self.liveness)];
        let batch = self.recognizer.as_ref().map_or(1, |recognizer| recognizer.batch());
        Some(Group { networks, question, batch })
    }

    fn needs_crops(&self, options: &AnalyzeOptions) -> bool {
        FaceAnalyzer::needs_crops(self, options)
    }

    fn needs_picture(&self, options: &AnalyzeOptions) -> bool {
        options.gender_age && self.gender_age.is_some() || options.liveness && self.liveness.is_some()
    }
}

fn place<T>(network: &Option<Arc<T>>) -> usize {
    network.as_ref().map_or(0, |network| Arc::as_ptr(network) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ModelStore;

    #[test]
    fn only_the_same_question_to_the_same_networks_is_batched() {
        let store = ModelStore::default();
        let detector = || Some(Arc::new(store.detector("centerface", (64, 64), 1).unwrap()));
        let analyzer = FaceAnalyzer { detector: detector(), ..Default::default() };
        let options = AnalyzeOptions { embedding: false, ..Default::default() };
        let other = AnalyzeOptions { threshold: 0.5, ..options.clone() };
        let limited = AnalyzeOptions { limit_faces: 1, ..options.clone() };
        assert_eq!(analyzer.detects(&options), analyzer.clone().detects(&limited));
        assert_ne!(analyzer.detects(&options), analyzer.detects(&other));
        let second = FaceAnalyzer { detector: detector(), ..Default::default() };
        assert_ne!(analyzer.detects(&options), second.detects(&options));

        assert_eq!(analyzer.describes(&options), None);
        let recognizer = FaceAnalyzer {
            recognizer: Some(Arc::new(store.recognizer("mobilefacenet", 4).unwrap())),
            ..Default::default()
        };
        let group = recognizer.describes(&AnalyzeOptions::default()).unwrap();
        assert_eq!(group.batch, 4);
    }
}
