//! Memory layouts of tensors and packed weights.

pub(crate) mod aligned;
pub(crate) mod blocked;
pub(crate) mod pack;
