//! From ONNX bytes to something that runs.
//!
//! [`Network`] is a parsed graph of any input shape; [`Plan`] is that graph prepared for one shape. The layers below know
//! tensors only: no images, no faces.
//!
//! ```text
//! bytes ─ weights (large ones stay in place) ─ onnx (input shape) ─ tract's typed graph ─ lower (layers) ─ passes (fusion)
//!       ─ compile (layouts, buffers, packed kernels) ─ program (steps on one arena)
//! ```

mod arena;
mod channel_order;
mod compile;
mod convolve;
mod error;
mod explain;
mod guard;
mod ir;
mod kernels;
mod lower;
mod multiversion;
mod onnx;
mod ops;
mod passes;
mod peak;
mod plan;
mod plan_cache;
mod program;
mod respatial;
mod siblings;
mod threads;
mod typed;
mod upsample;
mod weights;

pub use error::EngineError;
pub use explain::{Explanation, LayerReport};
pub use onnx::TensorInfo;
pub use plan::{Backend, Network, Plan, Tensor};
pub use threads::{alone, set_threads, spread, threads};
