#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod compile;
mod config;
mod error;
mod graph;
mod import;
mod kernels;
mod layout;
mod lock;
mod network;
mod ops;
mod panic_barrier;
mod plan;
mod plan_cache;
mod report;
mod run;
pub mod simd;

pub use error::{EngineError, ExecutionError, ImportError};
pub use import::model::TensorInfo;
/// The version of ndarray whose arrays [`Plan`] takes and returns.
pub use ndarray;
pub use network::{Backend, Network};
pub use plan::Plan;
pub use report::explain::{Explanation, LayerReport};
pub use run::threads::{run_on_pool, run_on_this_thread, set_threads, threads};
