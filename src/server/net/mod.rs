//! Sockets: the accept loop, the limits on connections, and the time limits of each connection.

pub mod accept;
pub mod connection;
pub mod fd_limit;
pub mod phase;
mod refusal;
pub mod watched;
