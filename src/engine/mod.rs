//! From ONNX bytes to something that runs.
//!
//! [`Network`] is a parsed graph of any input shape; [`Plan`] is that graph prepared for one shape. The layers below know
//! tensors only: no images, no faces.

mod error;
mod onnx;
mod plan;

pub use error::EngineError;
pub use onnx::TensorInfo;
pub use plan::{Network, Plan, Tensor};
