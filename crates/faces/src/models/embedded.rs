//! Embedded models: networks compiled into the program.

/// Default detector.
pub const DEFAULT_DETECTOR: &str = "centerface";
/// Default recognizer.
pub const DEFAULT_RECOGNIZER: &str = "mobilefacenet";

macro_rules! embed {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../../../../models/onnx/", $name, "/", $name, ".onnx")) as &[u8])),*]
    };
}

/// Name and ONNX bytes of every embedded model.
pub(super) const EMBEDDED: &[(&str, &[u8])] = embed!["centerface", "mobilefacenet"];

/// ONNX bytes of an embedded model; `None` for any other name.
pub fn embedded(name: &str) -> Option<&'static [u8]> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// A small JPEG with one face, for self checks. NASA, public domain.
pub fn health_picture() -> &'static [u8] {
    include_bytes!("../../../../assets/astronaut.jpg")
}
