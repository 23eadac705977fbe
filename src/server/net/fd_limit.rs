//! The system's limit on file descriptors, which include sockets: raises it, and adapts MAX_CONNECTIONS to it.

use crate::config::Settings;
use crate::server::net::accept::{MAX_OVERFLOW_CONNECTIONS, MAX_OVERFLOW_WAITING};

/// File descriptors other than connections to clients and image hosts: models, files, logs, the runtime.
const OTHER_DESCRIPTORS: u64 = 96;

/// Raises the limit for the connections of `settings`. Lowers MAX_CONNECTIONS, with a warning, if the system refuses.
pub fn prepare(settings: &mut Settings) {
    // Each fetch of an image has a socket, and so has a connection that is kept for the next fetch.
    let fetching = settings.sources.fetch_concurrency as u64 * 2;
    let wanted = settings.limits.max_connections as u64;
    let others = OTHER_DESCRIPTORS + (MAX_OVERFLOW_CONNECTIONS + MAX_OVERFLOW_WAITING) as u64 + fetching;
    let Some(allowed) = raise(wanted.saturating_add(others)) else { return };
    let left = connections(allowed, others);
    if left < wanted {
        tracing::warn!(
            max_connections = left,
            wanted,
            descriptors = allowed,
            "fewer connections than configured, because this process may open few files (ulimit -n, LimitNOFILE)"
        );
        settings.limits.max_connections = usize::try_from(left).unwrap_or(usize::MAX);
    }
}

/// Maximum number of connections with `allowed` descriptors, of which `others` have another use.
fn connections(allowed: u64, others: u64) -> u64 {
    // With very few descriptors, connections get a quarter.
    allowed.saturating_sub(others).max(allowed / 4).max(1)
}

/// Raises the soft limit to `wanted`, at most to the hard limit. Returns the new limit; `None` if it is unknown.
#[cfg(unix)]
fn raise(wanted: u64) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value of the type that the call fills, and lives longer than the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return None;
    }
    let before = limit.rlim_cur;
    if before >= wanted {
        return Some(before);
    }
    limit.rlim_cur = limit.rlim_max.min(wanted);
    // SAFETY: the pointer is to a valid value, which the call only reads.
    if limit.rlim_cur > before && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0 {
        tracing::debug!(before, now = limit.rlim_cur, "raised the limit on open files");
        return Some(limit.rlim_cur);
    }
    Some(before)
}

/// The limit is unknown.
#[cfg(not(unix))]
fn raise(_: u64) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_connection_is_allowed() {
        assert_eq!(connections(10_000, 300), 9_700);
        assert_eq!(connections(200, 300), 50);
        assert_eq!(connections(3, 300), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_limit_that_suffices_stays() {
        let now = raise(1).unwrap();
        assert!(now >= 3);
        assert_eq!(raise(now), Some(now));
    }
}
