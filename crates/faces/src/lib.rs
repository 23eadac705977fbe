//! Faces on CPUs: detection, alignment, embeddings and attributes, compatible with InsightFace-REST.
//!
//! ```text
//! bytes ─ image::decode ─ image::Letterbox ─ detect (plan + decode + NMS) ─ align (5 points → 112x112)
//!       ─ recognize (batched plans) ─ analyzer::Face
//! ```
//!
//! [`FaceAnalyzer`](analyzer::FaceAnalyzer) is the front door. The networks run on [`ifr_engine`]; nothing here uses a network
//! connection or an async runtime.
//!
//! ```
//! use std::sync::Arc;
//! use ifr_faces::analyzer::{AnalyzeOptions, FaceAnalyzer};
//! use ifr_faces::models::ModelStore;
//!
//! let store = ModelStore::default();
//! let analyzer = FaceAnalyzer {
//!     detector: Some(Arc::new(store.detector("centerface", (320, 320), 1)?)),
//!     recognizer: Some(Arc::new(store.recognizer("mobilefacenet", 1)?)),
//!     ..Default::default()
//! };
//! let picture = ifr_faces::image::decode(ifr_faces::models::health_picture(), &Default::default())?;
//! let analysis = analyzer.analyze(&[picture], &AnalyzeOptions::default())?;
//! assert_eq!(analysis.images[0].faces.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod align;
pub mod analyzer;
pub mod attributes;
pub mod detect;
pub mod files;
pub mod image;
pub mod models;
pub mod recognize;
mod scratch;

pub use ifr_engine as engine;
