//! Readiness and the self check.

pub mod readiness;
pub mod self_check;
