//! Sockets: which connections are accepted and what each may do, for how long.

pub mod accept;
pub mod connection;
pub mod fd_limit;
pub mod phase;
pub mod watched;
