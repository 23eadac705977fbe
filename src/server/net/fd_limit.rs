//! Sockets are file descriptors, and the system bounds those: raises the bound as far as it goes, and keeps to what it then is.

use crate::config::Settings;
use crate::server::net::accept::{MAX_OVERFLOW_CONNECTIONS, MAX_OVERFLOW_WAITING};

/// Descriptors for everything that is no connection and no image host: models, files, logs, the runtime's own.
const OTHERS: u64 = 96;

/// Makes room for the connections of `settings`; lowers their number, with a warning, where the system does not give it.
pub fn prepare(settings: &mut Settings) {
    // An image being fetched has a socket, and so has an idle connection that may serve for the next.
    let fetching = settings.sources.fetch_concurrency as u64 * 2;
    let most = settings.limits.max_connections as u64;
    let beside = OTHERS + (MAX_OVERFLOW_CONNECTIONS + MAX_OVERFLOW_WAITING) as u64 + fetching;
    let Some(allowed) = raise(most.saturating_add(beside)) else { return };
    let left = connections(allowed, beside);
    if left < most {
        tracing::warn!(
            max_connections = left,
            wanted = most,
            descriptors = allowed,
            "fewer connections than configured, because this process may open few files (ulimit -n, LimitNOFILE)"
        );
        settings.limits.max_connections = usize::try_from(left).unwrap_or(usize::MAX);
    }
}

/// How many connections there can be with so many descriptors, when `beside` others are wanted, too.
fn connections(allowed: u64, beside: u64) -> u64 {
    // With very few, everybody has to make do.
    allowed.saturating_sub(beside).max(allowed / 4).max(1)
}

/// Raises the soft limit to `wanted`, or to the hard one if that is lower. The limit as it is then; None where it cannot be known.
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

/// Raises the soft limit to `wanted`. The limit as it is then; None where it cannot be known.
#[cfg(not(unix))]
fn raise(_: u64) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_room_for_somebody() {
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
