//! What a network consists of and how fast each layer runs.

pub(crate) mod explain;
pub(crate) mod peak;
