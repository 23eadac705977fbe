//! From ONNX bytes to something that runs.
//!
//! [`Network`] is a parsed graph of any input shape; [`Plan`] is that graph prepared for one shape. The layers below know
//! tensors only: no images, no faces.
//!
//! ```text
//! bytes ─ weights (large ones stay in place) ─ onnx (input shape) ─ tract's typed graph ─ lower (layers) ─ passes (fusion)
//!       ─ compile (layouts, buffers, packed kernels) ─ program (steps on one arena)
//! ```

mod compile;
mod error;
mod graph;
mod import;
mod kernels;
mod layout;
mod ops;
mod panic_barrier;
mod plan;
mod plan_cache;
mod report;
mod run;
pub mod simd;

pub use error::EngineError;
pub use import::model::TensorInfo;
pub use plan::{Backend, Network, Plan};
// The version whose arrays `Plan` takes and returns.
pub use ndarray;
pub use report::explain::{Explanation, LayerReport};
pub use run::threads::{alone, set_threads, spread, threads};
