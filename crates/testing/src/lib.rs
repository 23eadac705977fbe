//! Support code for the tests and benchmarks of all crates: reference data and small ONNX files.

mod data;
pub mod onnx;

pub use data::{make_arch, model_files, reference_data, reference_file, repository, skipped};
