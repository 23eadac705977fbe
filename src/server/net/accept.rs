//! The accept loop: many connections, each watched, so that slow or silent clients cost nothing but their socket.
//!
//! warp's own server waits forever for a client's headers. Here every connection has a phase with a time limit: headers
//! must arrive within `header_timeout` of their first byte (or of the connection), an idle connection is closed after
//! `keep_alive_timeout`, and so is one whose client has stopped reading its answer.
//!
//! ```text
//! accepted ─ within max_connections ─ served
//!          ─ beyond                 ─ the reserve: health checks are served, everything else is 503
//!          ─ beyond that, too       ─ 503 without being read
//! ```

use crate::config::Limits;
use crate::server::http::pipeline::Gateway;
use crate::server::net::connection::{Place, serve, too_many};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::task::TaskTracker;

/// Connections beyond the limit that may wait for a head at the same time; a further one takes the place of the oldest.
const RESERVE: usize = 16;
/// Connections beyond the limit in all, those included whose health check is being answered.
pub(crate) const BEYOND: usize = 64;
/// How long a new one waits for another to leave.
const LEAVING: Duration = Duration::from_millis(20);
/// How long one beyond the limit has for its head.
const RESERVE_HEAD: Duration = Duration::from_secs(1);

/// Accepts connections until `stop` turns true, then waits for requests in flight, as long as the limits say.
pub async fn run(listener: TcpListener, gateway: Gateway, limits: Limits, mut stop: watch::Receiver<bool>) {
    let connections = TaskTracker::new();
    let mut doors = Doors::new(gateway, limits.clone(), stop.clone(), connections.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => doors.admit(stream).await,
            // A client that was gone before it was accepted says nothing about the next one; a lack of file
            // descriptors lasts, and must not turn this into a busy loop.
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) =>
            {
                tracing::warn!(%error, "connections cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(_) => {}
        }
    }
    // Connections that the system has taken already are in flight, too.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        doors.admit(stream).await;
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.shutdown_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopping although requests are in flight");
    }
}

/// Decides what becomes of a new connection.
struct Doors {
    gateway: Gateway,
    limits: Arc<Limits>,
    reserve_limits: Arc<Limits>,
    stop: watch::Receiver<bool>,
    connections: TaskTracker,
    regular: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
    /// Those in the reserve, the oldest first.
    reserve: VecDeque<oneshot::Sender<()>>,
}

impl Doors {
    fn new(gateway: Gateway, limits: Limits, stop: watch::Receiver<bool>, connections: TaskTracker) -> Self {
        let header_timeout = limits.header_timeout.min(RESERVE_HEAD);
        Doors {
            gateway,
            regular: Arc::new(Semaphore::new(limits.max_connections)),
            beyond: Arc::new(Semaphore::new(BEYOND)),
            reserve_limits: Arc::new(Limits { header_timeout, ..limits.clone() }),
            limits: Arc::new(limits),
            stop,
            connections,
            reserve: VecDeque::new(),
        }
    }

    async fn admit(&mut self, stream: TcpStream) {
        if let Ok(slot) = self.regular.clone().try_acquire_owned() {
            self.spawn(stream, self.limits.clone(), Place::Regular, slot);
            return;
        }
        // Those that were asked to leave may still be on their way out.
        let slot = tokio::time::timeout(LEAVING, self.beyond.clone().acquire_owned()).await;
        if let Ok(Ok(slot)) = slot {
            self.reserve.retain(|place| !place.is_closed());
            if self.reserve.len() >= RESERVE
                && let Some(oldest) = self.reserve.pop_front()
            {
                // If it has ended meanwhile, there is room as well.
                let _ = oldest.send(());
            }
            let (place, leave) = oneshot::channel();
            self.reserve.push_back(place);
            self.spawn(stream, self.reserve_limits.clone(), Place::Reserve(leave), slot);
        } else {
            turn_away(stream, &self.gateway.refusal(&too_many(), Duration::ZERO));
        }
    }

    fn spawn(&self, stream: TcpStream, limits: Arc<Limits>, place: Place, slot: OwnedSemaphorePermit) {
        let (gateway, stop) = (self.gateway.clone(), self.stop.clone());
        self.connections.spawn(async move {
            serve(stream, gateway, &limits, place, stop).await;
            drop(slot);
        });
    }
}

/// Writes what a new socket takes at once, and closes it.
fn turn_away(stream: TcpStream, answer: &[u8]) {
    let written = stream.into_std().and_then(|mut stream| stream.write_all(answer));
    if let Err(error) = written {
        tracing::debug!(%error, "a client was not told that there are too many connections");
    }
}
