//! What can go wrong between ONNX bytes and a result.

/// Failure to read, prepare or run a network. Every message starts with the network's name.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The bytes are no ONNX model, or end too early.
    #[error("{name}: not a readable ONNX file ({bytes} bytes): {detail}")]
    NotOnnx { name: String, bytes: usize, detail: String },
    /// The graph is ONNX, but not a network with the one image input this engine feeds.
    #[error("{name}: expected one float input of 4 dimensions, found {found}")]
    Input { name: String, found: String },
    /// The graph cannot be prepared for the shape that was asked for.
    #[error("{name}: cannot be prepared for input shape {shape:?}: {detail}")]
    Prepare { name: String, shape: Vec<usize>, detail: String },
    /// A buffer to be viewed as the input has the wrong length.
    #[error("{name}: expected {expected} input values, got {got}")]
    InputLength { name: String, expected: usize, got: usize },
    /// The input array does not have the shape the plan was prepared for.
    #[error("{name}: expected an input of shape {expected:?}, got {got:?}")]
    InputShape { name: String, expected: Vec<usize>, got: Vec<usize> },
    /// The arrays to fill do not have the shapes of the outputs, or are not row-major.
    #[error("{name}: expected row-major output arrays of shapes {expected:?}, got {got:?}")]
    OutputShapes { name: String, expected: Vec<Vec<usize>>, got: Vec<Vec<usize>> },
    /// A layer failed while running.
    #[error("{name}: inference failed: {detail}")]
    Run { name: String, detail: String },
}
