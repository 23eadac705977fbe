//! State notifications to systemd: ready, stopping and alive (`Type=notify`, `WatchdogSec=`).
//!
//! The protocol is a datagram of `NAME=value` lines to the socket in NOTIFY_SOCKET; see sd_notify(3). Without that
//! variable nothing is sent. Failures to send are logged and ignored, because the service does not depend on its
//! supervisor.
//!
//! The crate `sd-notify` does not support sockets in the abstract namespace (`@name`).

use std::convert::Infallible;
use std::time::Duration;

/// The models are loaded and the port is open.
pub const READY: &str = "READY=1";
/// No new requests are accepted; those in flight finish.
pub const STOPPING: &str = "STOPPING=1";
/// Resets the watchdog.
const ALIVE: &str = "WATCHDOG=1";
/// The start may take this number of microseconds from now on.
const MORE_TIME: &str = "EXTEND_TIMEOUT_USEC=90000000";
/// Time between two extensions of the start.
const MORE_TIME_INTERVAL: Duration = Duration::from_secs(20);

/// Sends a state to the supervisor, if there is one.
#[cfg(target_os = "linux")]
pub fn send(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    let address = match name.as_bytes() {
        // A name in the abstract namespace, outside the file system.
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "cannot tell systemd {state}");
    }
}

/// Does nothing: this system has no systemd.
#[cfg(not(target_os = "linux"))]
pub fn send(_state: &str) {}

/// Extends the start timeout periodically: models that are fetched first may take longer than any configured timeout.
/// Never ends.
///
/// Run it on the runtime that answers requests, concurrently with the start: a process that hangs then no longer
/// extends the timeout.
pub async fn extend_start_timeout() -> Infallible {
    let mut ticks = tokio::time::interval(MORE_TIME_INTERVAL);
    loop {
        ticks.tick().await;
        send(MORE_TIME);
    }
}

/// Resets the watchdog twice per timeout, without end; returns at once if there is no watchdog.
///
/// Run it on the runtime that answers requests, so that it stops if the runtime hangs.
pub async fn feed_watchdog() {
    let variable = |name| std::env::var(name).ok();
    let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let allowed =
        variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|&micros: &u64| micros > 0 && ours);
    let Some(allowed) = allowed.map(Duration::from_micros) else { return };
    let mut ticks = tokio::time::interval(allowed / 2);
    loop {
        ticks.tick().await;
        send(ALIVE);
    }
}
