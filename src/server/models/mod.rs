//! Configured models, models that requests name, and changes at run time.

pub mod cache;
pub mod configured;
pub mod reload;
