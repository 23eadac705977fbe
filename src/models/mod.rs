//! Which models exist and where their bytes are.

mod embedded;
mod store;

pub use embedded::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, embedded, health_picture};
pub use store::{ModelError, ModelStore};
