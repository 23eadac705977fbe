//! Classifies a network of unknown kind by the shapes of its input and outputs.

use super::function::Role;
use crate::align::CROP_SIDE;
use crate::attributes::{AttributeError, GenderAge, Liveness, MaskDetector};
use crate::detect::{DetectError, Detector};
use crate::recognize::{RecognizeError, Recognizer};
use ifr_engine::{EngineError, Network};

/// Kind of a network: the result of [`classify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkKind {
    /// Stage of the pipeline that the network fits.
    pub role: Role,
    /// Detector family or size of the output: "SCRFD", "512 numbers for a face of 112x112".
    pub detail: String,
}

impl std::fmt::Display for NetworkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.role.describe(), self.detail)
    }
}

/// Maximum side of an aligned crop. A network with a larger input can only be a detector.
const MAX_CROP_SIDE: usize = 256;
/// Input side of liveness networks. Other networks with three outputs estimate gender and age.
const LIVENESS_SIDE: usize = 80;

/// Classifies the network that `open` reads. `open` is called once for each kind that is tried.
///
/// `canvas` is the (width, height) in pixels for detectors with an open input size.
///
/// # Errors
///
/// If the network cannot be read or no kind fits. The message lists the shapes found and the shapes expected.
pub fn classify(
    open: impl Fn() -> Result<Network, EngineError>,
    canvas: (usize, usize),
) -> Result<NetworkKind, ClassifyError> {
    let network = open()?;
    let declared = network.input().shape;
    let found = |role, detail| Ok(NetworkKind { role, detail });
    let side = |i: usize| declared.get(i).copied().flatten();
    if side(3) == Some(3) && side(1) != Some(3) {
        return match MaskDetector::new(network, 1) {
            Ok(_) => {
                found(Role::MaskDetector, format!("mask and no mask for a face of {0}x{0}", side(1).unwrap_or(224)))
            }
            Err(error) => Err(ClassifyError::MaskDetector(error)),
        };
    }
    let declared_side = side(2).filter(|s| *s <= MAX_CROP_SIDE && side(3) == Some(*s));
    // Some exporters declare a small square input for detectors too, so every network is tried as a detector first.
    let as_detector = |size| {
        Ok::<_, EngineError>(match Detector::new(open()?, size, 1) {
            Err(DetectError::FixedSize { width, height, .. }) => Detector::new(open()?, (width, height), 1),
            other => other,
        })
    };
    let mut detector = as_detector(canvas)?;
    if let (Err(_), Some(side)) = (&detector, declared_side) {
        detector = as_detector((side, side))?;
    }
    let detector = match detector {
        Ok(detector) => return found(Role::Detector, detector.family().into()),
        Err(error) => error,
    };
    let open_side = (side(2), side(3)) == (None, None);
    let Some(crop_side) = declared_side.or(open_side.then_some(CROP_SIDE as usize)) else {
        return Err(ClassifyError::Detector(detector));
    };
    let recognizer = Recognizer::new(open()?, None, 1);
    match recognizer.map(|recognizer| recognizer.dimension()) {
        Ok(202) if GenderAge::new(open()?, 1).is_ok() => found(Role::GenderAge, "202 numbers for a face".into()),
        Ok(width) => found(Role::Recognizer, format!("{width} numbers for a face of {crop_side}x{crop_side}")),
        Err(_) if crop_side == LIVENESS_SIDE && Liveness::new(vec![(1.0, open()?)], 1).is_ok() => {
            found(Role::Liveness, format!("3 numbers for a face of {crop_side}x{crop_side}"))
        }
        Err(_) if GenderAge::new(open()?, 1).is_ok() => found(Role::GenderAge, "3 numbers for a face".into()),
        Err(recognizer) => Err(ClassifyError::NoKind { recognizer, detector }),
    }
}

/// Failure to classify a network.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// The engine cannot read the network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The shape of the input is that of mask detectors, but the network is not one.
    #[error(transparent)]
    MaskDetector(AttributeError),
    /// Only a detector has such an input, but the network is not one.
    #[error(transparent)]
    Detector(DetectError),
    /// The network is neither a recognizer or attribute network nor a detector.
    #[error("{recognizer}; {detector}")]
    NoKind {
        /// Failure to prepare the network as a recognizer.
        recognizer: RecognizeError,
        /// Failure to prepare the network as a detector.
        #[source]
        detector: DetectError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_models_are_classified() {
        let of = |name: &'static str| {
            let bytes = crate::models::embedded(name).unwrap();
            classify(|| Network::from_static(bytes, name), (640, 640)).unwrap()
        };
        assert_eq!(of("centerface"), NetworkKind { role: Role::Detector, detail: "CenterFace".into() });
        let expected = NetworkKind { role: Role::Recognizer, detail: "512 numbers for a face of 112x112".into() };
        assert_eq!(of("mobilefacenet"), expected);
        assert!(classify(|| Network::from_onnx(b"none", "x"), (64, 64)).is_err());
    }
}
