//! Reports about plans: the steps, their algorithms and their speed.

pub(crate) mod explain;
pub(crate) mod peak;
