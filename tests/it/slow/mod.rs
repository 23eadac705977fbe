//! Tests that take long or measure time. `.ci/run` runs them last; a busy machine can fail them.

mod bulk;
mod clients;
mod connections;
mod fetch;
mod models;
mod service;
mod sources;
