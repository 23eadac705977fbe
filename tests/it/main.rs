//! Tests of the whole program: the service over real sockets, the command line with real files, clients in other
//! languages.
//!
//! One test binary; a module's tests run with `cargo test --release --test it connections::`. Slow tests and tests that
//! depend on timing are in `slow` and ignored by default: `cargo test --release --test it -- --ignored`.

mod support;

mod api_addresses;
mod api_contract;
mod bulk;
mod cli;
mod clients;
mod connections;
mod delivery;
mod health;
mod http_safety;
mod models_fetch;
mod models_reload;
mod originals;
mod service;
mod slow;
mod sources;
