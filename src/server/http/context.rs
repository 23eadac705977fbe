//! Data of one request that handlers get in addition to its head and body.

use crate::server::inference::Deadline;

/// Stored in the extensions of the request by the pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Latest time of the answer.
    pub deadline: Deadline,
}
