//! Execution of a compiled program: steps, memory and threads.

pub(crate) mod arena;
pub(crate) mod denormals;
pub(crate) mod parallel;
pub(crate) mod program;
pub(crate) mod task_share;
pub(crate) mod team;
pub(crate) mod threads;
