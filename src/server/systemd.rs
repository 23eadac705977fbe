//! Telling systemd how the service is: ready, stopping, and alive (`Type=notify`, `WatchdogSec=`).
//!
//! The protocol is a datagram of `NAME=value` lines to the socket in NOTIFY_SOCKET; see sd_notify(3). Without that variable nothing
//! is sent, and failures to send are of no consequence: the service does not depend on who watches it.

use std::convert::Infallible;
use std::time::Duration;

/// The models are loaded and the port is open.
pub const READY: &str = "READY=1";
/// No new requests are taken; those in flight finish.
pub const STOPPING: &str = "STOPPING=1";
const ALIVE: &str = "WATCHDOG=1";
/// That long, in microseconds, the start may still take.
const MORE_TIME: &str = "EXTEND_TIMEOUT_USEC=90000000";
const MORE_TIME_EVERY: Duration = Duration::from_secs(20);

/// Sends a state, if anybody wants to know.
#[cfg(target_os = "linux")]
pub fn send(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        // A name outside the file system.
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::debug!(%error, "cannot tell systemd {state}");
    }
}

/// Sends a state, if anybody wants to know: nobody does here.
#[cfg(not(target_os = "linux"))]
pub fn send(_state: &str) {}

/// Asks for time to start, for ever: models that are fetched first may take longer than any start that is known beforehand.
///
/// Run it beside what the start waits for, where requests are answered: a process that hangs does not ask.
pub async fn ask_for_time() -> Infallible {
    let mut ticks = tokio::time::interval(MORE_TIME_EVERY);
    loop {
        ticks.tick().await;
        send(MORE_TIME);
    }
}

/// Feeds the watchdog for ever, twice in the time it allows; returns at once when there is none.
///
/// Run it where requests are answered, so that it stops when they are no longer answered.
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
