//! InsightFace-REST as one program: face detection and embeddings with a command line and a REST service.
//!
//! The library crate [`ifr_faces`] finds and describes faces in pictures; its modules are re-exported here. It runs its
//! networks on the crate `ifr_engine`. This crate adds downloads of models ([`downloads`]), the settings ([`config`]),
//! the command line ([`cli`]) and the service ([`server`]).

#![warn(missing_docs)]

pub use ifr_faces::{FaceAnalyzer, FaceAnalyzerBuilder};
pub use ifr_faces::{align, analyzer, attributes, detect, engine, files, image, models, recognize};

pub mod cli;
pub mod config;
mod cores;
pub mod downloads;
mod error_chain;
mod memory;
mod parse;
mod random;
mod schedule;
pub mod server;
mod text;
mod tls;
