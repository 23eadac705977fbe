//! The networks that answer requests: configured ones, ones that requests name, and changes at run time.
//!
//! ```text
//! settings + files ─ Generation (fetched, loaded, tried out) ─ ModelRegistry ─ a request's own set of networks
//!                                                               └ NetworkCache (networks that requests name)
//! ```

mod cache;
mod fetch_progress;
mod generation;
mod loader;
pub mod registry;
pub mod reload;
