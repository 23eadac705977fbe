//! Face detectors: letterboxed pictures in, boxes with five landmarks out.

mod anchors;
mod centerface;
mod dbface;
mod detector;
mod error;
mod head;
mod nms;
mod retinaface;
mod scrfd;
mod yolov5_face;

pub use centerface::CenterFace;
pub use dbface::DbFace;
pub use detector::{Detector, DetectorHints, ImageDetections};
pub use error::DetectError;
pub use head::{Detection, DetectorHead};
pub use nms::nms;
pub use retinaface::RetinaFace;
pub use scrfd::Scrfd;
pub use yolov5_face::Yolov5Face;
