//! InsightFace-REST as one program: the REST service, the command line and what they are made of.
//!
//! The face library is [`ifr_faces`], re-exported here; the networks run on `ifr_engine`. This crate adds downloads of
//! models, the command line and the service.

pub use ifr_faces::{align, analyzer, attributes, detect, engine, files, image, models, recognize};

mod allocator;
pub mod cli;
pub mod config;
pub mod downloads;
mod error_chain;
mod memory_trim_task;
pub mod parse;
pub mod schedule;
pub mod server;
mod text;
mod tls;
