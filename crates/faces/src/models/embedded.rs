//! The default pack: networks compiled into the program.

/// Detector used when none is named.
pub const DEFAULT_DETECTOR: &str = "centerface";
/// Recogniser used when none is named.
pub const DEFAULT_RECOGNIZER: &str = "mobilefacenet";

macro_rules! pack {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../../../../models/onnx/", $name, "/", $name, ".onnx")) as &[u8])),*]
    };
}

/// Name and ONNX bytes of every embedded model.
pub(super) const PACK: &[(&str, &[u8])] = pack!["centerface", "mobilefacenet"];

/// ONNX bytes of a model of the pack, for those who run it elsewhere: the page at `/demo` does so in the browser.
pub fn embedded(name: &str) -> Option<&'static [u8]> {
    PACK.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// A small JPEG with one face, for self-checks. NASA, public domain.
pub fn health_picture() -> &'static [u8] {
    include_bytes!("../../../../assets/astronaut.jpg")
}
