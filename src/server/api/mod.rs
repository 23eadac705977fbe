//! Endpoints: one file per subject with its routes, handlers and options, and the types of bodies and answers.

pub mod draw;
pub mod extract;
pub mod health;
pub mod info;
mod inputs;
pub mod metrics;
pub mod openapi;
pub mod schema;

/// JPEG quality of face crops and drawings: OpenCV's default, which the original encodes with.
const JPEG_QUALITY: u8 = 95;
