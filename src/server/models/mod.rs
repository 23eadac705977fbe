//! The networks of the service: configured ones, ones that requests name, and changes at run time.
//!
//! ```text
//! settings + files ─ Generation (fetched, loaded, tested) ─ ModelRegistry ─ the set of networks of one request
//!                                                               └ NetworkCache (networks that requests name)
//! ```

mod cache;
mod fetch_progress;
mod generation;
mod loader;
pub mod registry;
pub mod reload;
