//! Functions of the manifest, and the role of a model in the pipeline.

use crate::detect::DetectorHints;
use crate::recognize::RecognizerKind;

/// Stage of the pipeline that a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Finds faces.
    Detector,
    /// Computes embeddings.
    Recognizer,
    /// Estimates gender and age.
    GenderAge,
    /// Detects masks.
    MaskDetector,
    /// Scores liveness.
    Liveness,
}

impl Role {
    /// Name for messages, e.g. "face detector".
    pub fn describe(self) -> &'static str {
        match self {
            Role::Detector => "face detector",
            Role::Recognizer => "recognizer",
            Role::GenderAge => "gender and age network",
            Role::MaskDetector => "mask detector",
            Role::Liveness => "liveness network",
        }
    }
}

/// All functions: those of InsightFace-REST's manifest and additional ones.
const FUNCTIONS: &[(&str, Role)] = &[
    ("retinaface_r50_v1", Role::Detector),
    ("retinaface_mnet025_v0", Role::Detector),
    ("retinaface_mnet025_v1", Role::Detector),
    ("retinaface_mnet025_v2", Role::Detector),
    ("mnet_cov2", Role::Detector),
    ("centerface", Role::Detector),
    ("dbface", Role::Detector),
    ("scrfd", Role::Detector),
    ("scrfd_v2", Role::Detector),
    ("yolov5_face", Role::Detector),
    ("arcface_mxnet", Role::Recognizer),
    ("arcface_torch", Role::Recognizer),
    ("adaface", Role::Recognizer),
    ("genderage_v1", Role::GenderAge),
    ("genderage", Role::GenderAge),
    ("mask_detector", Role::MaskDetector),
    ("liveness", Role::Liveness),
];

/// The role of models with this `function`; `None` for an unknown function.
pub fn role_of(function: &str) -> Option<Role> {
    FUNCTIONS.iter().find(|(name, _)| *name == function).map(|(_, role)| *role)
}

/// Names of all functions, for messages.
pub fn functions() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}

/// Properties of a detector that its function determines and its output shapes do not.
pub(super) fn detector_hints(function: Option<&str>) -> DetectorHints {
    let landmark_std = match function {
        Some("retinaface_r50_v1" | "retinaface_mnet025_v0" | "retinaface_mnet025_v1") => Some(1.0),
        Some("retinaface_mnet025_v2" | "mnet_cov2") => Some(0.2),
        _ => None,
    };
    DetectorHints { landmark_std, normalized_inside: (function == Some("scrfd_v2")).then_some(true) }
}

/// Training framework of a recognizer, which determines the normalization of its input; `None` if the function leaves
/// it open.
pub(super) fn recognizer_kind(function: Option<&str>) -> Option<RecognizerKind> {
    match function? {
        "arcface_torch" => Some(RecognizerKind::ArcfaceTorch),
        "arcface_mxnet" => Some(RecognizerKind::ArcfaceMxnet),
        "adaface" => Some(RecognizerKind::Adaface),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_determine_what_shapes_leave_open() {
        assert_eq!(detector_hints(Some("retinaface_r50_v1")).landmark_std, Some(1.0));
        assert_eq!(detector_hints(Some("retinaface_mnet025_v2")).landmark_std, Some(0.2));
        assert_eq!(detector_hints(Some("scrfd_v2")).normalized_inside, Some(true));
        assert_eq!(detector_hints(Some("scrfd")), DetectorHints::default());
        assert_eq!(detector_hints(None), DetectorHints::default());
        assert_eq!(recognizer_kind(Some("adaface")), Some(RecognizerKind::Adaface));
        assert_eq!(role_of("yolov5_face"), Some(Role::Detector));
        assert_eq!(role_of("coordinateReg"), None);
    }
}
