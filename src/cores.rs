//! The number of processor cores.

use std::thread::available_parallelism;

/// Number of cores that this process may use, at least 1.
///
/// Respects CPU affinity and the quota of the control group, versions 1 and 2. Reads files on each call.
pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core() {
        assert!((1..=4096).contains(&cores()));
    }
}
