//! The library against results of InsightFace-REST and of published pipelines, and detectors on different canvases.
//!
//! One test binary; the tests of a module run with `cargo test --release -p ifr-faces --test it golden::`. All modules
//! except `golden` and `model_graphs` need reference data that is not part of the repository (see crates/testing).

mod attributes;
mod canvas;
mod golden;
mod model_graphs;
mod parity;
mod pictures;
mod reference;
