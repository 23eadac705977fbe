//! Face detection, alignment, embeddings and attributes on CPUs, compatible with InsightFace-REST.
//!
//! ```text
//! bytes ─ image::decode ─ image::Letterbox ─ detect (network + decoding + NMS) ─ align (5 points → 112x112)
//!       ─ recognize, attributes (batched networks) ─ analyzer::Face
//! ```
//!
//! Start with [`FaceAnalyzer`]. Inference runs on [`ifr_engine`]. The crate opens no network connections and needs no
//! async runtime.
//!
//! ```
//! use ifr_faces::FaceAnalyzer;
//!
//! # let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/astronaut.jpg");
//! let analyzer = FaceAnalyzer::with_default_models()?;
//! let picture = analyzer.analyze_file(photo)?;
//! println!("{} faces, the first at {:?}", picture.faces.len(), picture.faces[0].bbox);
//! # assert_eq!(picture.faces.len(), 1);
//! # assert!(picture.faces[0].embedding.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Other models, from a directory of installed models:
//!
//! ```no_run
//! use ifr_faces::FaceAnalyzer;
//!
//! let analyzer = FaceAnalyzer::builder()
//!     .models_dir("models")
//!     .detector("scrfd_10g_bnkps")
//!     .recognizer("w600k_r50")
//!     .build()?;
//! # Ok::<(), ifr_faces::models::ModelError>(())
//! ```

#![warn(missing_docs)]

pub mod align;
pub mod analyzer;
pub mod attributes;
mod builder;
pub mod detect;
pub mod files;
pub mod image;
pub mod models;
pub mod recognize;
mod scratch;
mod sync;

pub use analyzer::FaceAnalyzer;
pub use builder::FaceAnalyzerBuilder;
pub use ifr_engine as engine;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
