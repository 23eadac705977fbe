//! Faces on CPUs: detection, alignment, embeddings and attributes, compatible with InsightFace-REST.
//!
//! ```text
//! bytes ─ image::decode ─ image::Letterbox ─ detect (plan + decode + NMS) ─ align (5 points → 112x112)
//!       ─ recognize (batched plans) ─ analyzer::Face ─ JSON | MessagePack | drawing
//! ```
//!
//! [`FaceAnalyzer`](analyzer::FaceAnalyzer) is the front door. Dependencies point one way: `server` and `cli` use `analyzer`,
//! which uses `detect`, `recognize` and `attributes`, which use `engine` and `image`. Nothing below `analyzer` knows which model is
//! configured, and nothing below `server` knows HTTP.
//!
//! ```
//! use std::sync::Arc;
//! use ifr::analyzer::{AnalyzeOptions, FaceAnalyzer};
//! use ifr::models::ModelStore;
//!
//! let store = ModelStore::default();
//! let analyzer = FaceAnalyzer {
//!     detector: Some(Arc::new(store.detector("centerface", (320, 320), 1)?)),
//!     recognizer: Some(Arc::new(store.recognizer("mobilefacenet", 1)?)),
//!     ..Default::default()
//! };
//! let picture = ifr::image::decode(ifr::models::health_picture(), &Default::default())?;
//! let analysis = analyzer.analyze(&[picture], &AnalyzeOptions::default())?;
//! assert_eq!(analysis.images[0].faces.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod align;
pub mod analyzer;
pub mod attributes;
pub mod detect;
pub mod engine;
pub mod image;
pub mod models;
pub mod recognize;
mod scratch;
mod simd;

#[cfg(feature = "server")]
mod allocator;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod server;
