//! Errors of detectors.

use ifr_engine::EngineError;

/// Failure to load or run a detector.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages document the fields; sizes are in pixels")]
pub enum DetectError {
    /// The engine cannot load or run the network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The shapes of the outputs fit no known family. `known` lists the families and their outputs.
    #[error(
        "{name}: not a face detector this program knows: for a picture of {}x{} its outputs have shapes {found:?}; {known}",
        canvas.0, canvas.1
    )]
    UnknownFamily { name: String, canvas: (usize, usize), found: Vec<Vec<usize>>, known: String },
    /// The graph has a fixed input size.
    #[error("{name}: this graph is fixed at {width}x{height}; set MAX_SIZE={width},{height}")]
    FixedSize { name: String, width: usize, height: usize },
    /// The requested canvas is smaller than the largest stride.
    #[error("{name}: the canvas must be at least 32x32, got {width}x{height}")]
    Canvas { name: String, width: usize, height: usize },
}
