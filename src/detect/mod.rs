//! Face detectors: letterboxed pictures in, boxes with five landmarks out.

mod anchors;
mod centerface;
mod detector;
mod head;
mod nms;
mod scrfd;

pub use centerface::CenterFace;
pub use detector::{Detector, Found};
pub use head::{DetectError, Detection, DetectorHead};
pub use nms::nms;
pub use scrfd::Scrfd;
