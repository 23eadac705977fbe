//! What an unknown network is, read from the shapes of its input and outputs.

use super::Role;
use crate::align::CROP_SIDE;
use crate::attributes::{GenderAge, Liveness, MaskDetector};
use crate::detect::{DetectError, Detector};
use crate::recognize::Recognizer;
use ifr_engine::{EngineError, Network};

/// What a network was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    pub role: Role,
    /// "SCRFD", "512 numbers for a face of 112x112", ...
    pub detail: String,
}

impl std::fmt::Display for Recognised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.role.describe(), self.detail)
    }
}

/// Sides of crops are at most this; what takes larger pictures looks for faces in them.
const LARGEST_CROP: usize = 256;
/// Side of the crops that liveness networks see; others of three outputs tell gender and age.
const LIVENESS_SIDE: usize = 80;

/// Tells what the network that `open` opens is. Networks that take any size are tried with `canvas`, width and height.
///
/// Errs with what was seen and would have been understood when it is nothing that is known.
pub fn recognise(
    open: impl Fn() -> Result<Network, EngineError>,
    canvas: (usize, usize),
) -> Result<Recognised, RecogniseError> {
    let network = open()?;
    let declared = network.input().shape;
    let found = |role, detail| Ok(Recognised { role, detail });
    let of = |i: usize| declared.get(i).copied().flatten();
    if of(3) == Some(3) && of(1) != Some(3) {
        return match MaskDetector::new(network, 1) {
            Ok(_) => found(Role::MaskDetector, format!("mask and no mask for a face of {0}x{0}", of(1).unwrap_or(224))),
            Err(error) => Err(RecogniseError::Unknown(error.to_string())),
        };
    }
    let declared_side = of(2).filter(|side| *side <= LARGEST_CROP && of(3) == Some(*side));
    // Exporters declare detectors with small squares too, so every network is tried as one.
    let sizes = [Some(canvas), declared_side.map(|side| (side, side))];
    let mut as_detector = String::new();
    for size in sizes.into_iter().flatten() {
        let detector = match Detector::new(open()?, size, 1) {
            Err(DetectError::FixedSize { width, height, .. }) => Detector::new(open()?, (width, height), 1),
            other => other,
        };
        match detector {
            Ok(detector) => return found(Role::Detector, detector.family().into()),
            Err(error) => as_detector = error.to_string(),
        }
    }
    let open_side = (of(2), of(3)) == (None, None);
    let Some(side) = declared_side.or(open_side.then_some(CROP_SIDE as usize)) else {
        return Err(RecogniseError::Unknown(as_detector));
    };
    let recognizer = Recognizer::new(open()?, None, 1);
    match recognizer.as_ref().map(Recognizer::dimension) {
        Ok(202) if GenderAge::new(open()?, 1).is_ok() => found(Role::GenderAge, "202 numbers for a face".into()),
        Ok(width) => found(Role::Recognizer, format!("{width} numbers for a face of {side}x{side}")),
        Err(_) if side == LIVENESS_SIDE && Liveness::new(vec![(1.0, open()?)], 1).is_ok() => {
            found(Role::Liveness, format!("3 numbers for a face of {side}x{side}"))
        }
        Err(_) if GenderAge::new(open()?, 1).is_ok() => found(Role::GenderAge, "3 numbers for a face".into()),
        Err(error) => Err(RecogniseError::Unknown(format!("{error}; {as_detector}"))),
    }
}

/// Why a network was not recognised.
#[derive(Debug, thiserror::Error)]
pub enum RecogniseError {
    /// It cannot be read at all.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It is a network, but none of those that are known.
    #[error("{0}")]
    Unknown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pack_is_recognised() {
        let of = |name: &'static str| {
            let bytes = crate::models::embedded(name).unwrap();
            recognise(|| Network::from_static(bytes, name), (640, 640)).unwrap()
        };
        assert_eq!(of("centerface"), Recognised { role: Role::Detector, detail: "CenterFace".into() });
        let expected = Recognised { role: Role::Recognizer, detail: "512 numbers for a face of 112x112".into() };
        assert_eq!(of("mobilefacenet"), expected);
        assert!(recognise(|| Network::from_onnx(b"none", "x"), (64, 64)).is_err());
    }
}
