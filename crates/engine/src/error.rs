//! Errors of the engine.

use std::error::Error;
use std::fmt;
use std::io;

/// Failure to read, prepare or run a network. Every message starts with `name`, the name of the network.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages explain the fields")]
#[non_exhaustive]
pub enum EngineError {
    /// The bytes are not an ONNX model, or are truncated.
    #[error("{name}: not a readable ONNX file ({bytes} bytes): {source}")]
    NotOnnx { name: String, bytes: usize, source: ImportError },
    /// The bytes are ONNX, but the graph does not have exactly one input with the dimensions of an image.
    #[error("{name}: expected one float input of 4 dimensions, found {found}")]
    Input { name: String, found: String },
    /// The graph cannot be prepared for the requested input shape.
    #[error("{name}: cannot be prepared for input shape {shape:?}: {source}")]
    Prepare { name: String, shape: Vec<usize>, source: ExecutionError },
    /// A buffer for the input has the wrong length.
    #[error("{name}: expected {expected} input values, got {got}")]
    InputLength { name: String, expected: usize, got: usize },
    /// The input array does not have the shape the plan was prepared for.
    #[error("{name}: expected an input of shape {expected:?}, got {got:?}")]
    InputShape { name: String, expected: Vec<usize>, got: Vec<usize> },
    /// The output arrays do not have the shapes of the outputs, or are not row-major.
    #[error("{name}: expected row-major output arrays of shapes {expected:?}, got {got:?}")]
    OutputShapes { name: String, expected: Vec<Vec<usize>>, got: Vec<Vec<usize>> },
    /// A layer failed at run time.
    #[error("{name}: inference failed: {source}")]
    Run { name: String, source: ExecutionError },
}

/// Reason why bytes are not a usable ONNX model.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages explain variants and fields")]
#[non_exhaustive]
pub enum ImportError {
    #[error("the file is empty")]
    Empty,
    #[error("the file has no graph")]
    NoGraph,
    /// The file cannot be read, or is not well-formed protobuf.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The protobuf is well-formed but not an ONNX model.
    #[error("{}", root_cause(&**.0))]
    Decode(#[source] Box<dyn Error + Send + Sync>),
    /// Weights that remained in the file cannot be read.
    #[error("{name}: {source}")]
    Weights { name: String, source: io::Error },
    /// A convolution or pool has an invalid size.
    #[error("node {node}: {attribute} includes {value}, outside of {min} to {max}")]
    Geometry { node: String, attribute: String, value: i64, min: i64, max: i64 },
}

/// Reason why a graph cannot be prepared, or a prepared network cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// An error of the graph. The message includes all causes.
    #[error("{}", CauseChain(&**.0))]
    Graph(#[source] Box<dyn Error + Send + Sync>),
    /// A failed assertion with its message, for graphs that tract does not expect.
    #[error("the graph is inconsistent: {0}")]
    Panic(String),
}

impl ExecutionError {
    pub(crate) fn graph(error: tract_onnx::prelude::TractError) -> ExecutionError {
        ExecutionError::Graph(error.into())
    }
}

/// The innermost cause of an error.
fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    std::iter::successors(Some(error), |&e| e.source()).last().unwrap_or(error)
}

/// Displays an error and its causes, separated by colons.
struct CauseChain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for CauseChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.0)?;
        std::iter::successors(self.0.source(), |&e| e.source()).try_for_each(|cause| write!(f, ": {cause}"))
    }
}
