//! The accept loop and the limits on the number of connections.
//!
//! warp's own server waits for a request's head without a time limit. Here every connection has a phase with a time
//! limit: a head must arrive within `header_timeout` of its first byte (or of the connection). An idle connection is
//! closed after `keep_alive_timeout`, and so is a connection whose client has stopped reading its answer.
//!
//! ```text
//! accepted ─ within max_connections       ─ served
//!          ─ MAX_OVERFLOW_CONNECTIONS more ─ health checks are served, everything else is 503
//!          ─ beyond that                   ─ 503 without being read
//! ```
//!
//! The loop itself only accepts: every wait is in the task of a connection.

use crate::config::Limits;
use crate::server::http::pipeline::Pipeline;
use crate::server::net::connection::{Place, serve};
use crate::server::net::refusal::TOO_MANY_CONNECTIONS;
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::task::TaskTracker;

/// Maximum number of overflow connections without a request; a further one evicts the oldest.
const MAX_OVERFLOW_AWAITING_HEAD: usize = 16;
/// Maximum number of connections beyond `max_connections`.
pub(crate) const MAX_OVERFLOW_CONNECTIONS: usize = 64;
/// Maximum number of new connections that wait for an evicted one to end.
pub(crate) const MAX_OVERFLOW_WAITING: usize = 128;
/// How long a new overflow connection waits for an evicted one to end. An evicted connection ends as soon as its task
/// runs, so only a busy processor makes the wait last.
const EVICTION_WAIT: Duration = Duration::from_secs(1);
/// Time limit for the head of a request on an overflow connection.
const OVERFLOW_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts connections until `stop` turns true, then waits for requests in flight, as long as the limits say.
pub async fn run(listener: TcpListener, pipeline: Pipeline, limits: Limits, mut stop: watch::Receiver<bool>) {
    let connections = TaskTracker::new();
    let mut admission = ConnectionAdmission::new(pipeline, limits.clone(), stop.clone(), connections.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                if admission.admit(stream) == Admitted::Overflow {
                    // Evicted connections get a turn to end before the next one is accepted.
                    tokio::task::yield_now().await;
                }
            }
            // Errors of one client do not concern the next. A lack of file descriptors lasts, and must not make this a
            // busy loop.
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) =>
            {
                tracing::warn!(%error, "connections cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(_) => {}
        }
    }
    // Connections that the system has already established are in flight, too.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        let _ = admission.admit(stream);
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.shutdown_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopping although requests are in flight");
    }
}

/// Whether a connection is within `max_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    Regular,
    Overflow,
}

/// Decides whether a new connection is served, served for health checks only, or refused.
struct ConnectionAdmission {
    pipeline: Pipeline,
    limits: Arc<Limits>,
    overflow_limits: Arc<Limits>,
    stop: watch::Receiver<bool>,
    connections: TaskTracker,
    regular: Arc<Semaphore>,
    overflow: Arc<Semaphore>,
    overflow_waiting: Arc<Semaphore>,
    /// Eviction signals of the overflow connections, oldest first.
    evictable: VecDeque<oneshot::Sender<()>>,
}

impl ConnectionAdmission {
    fn new(pipeline: Pipeline, limits: Limits, stop: watch::Receiver<bool>, connections: TaskTracker) -> Self {
        let header_timeout = limits.header_timeout.min(OVERFLOW_HEADER_TIMEOUT);
        ConnectionAdmission {
            pipeline,
            regular: Arc::new(Semaphore::new(limits.max_connections)),
            overflow: Arc::new(Semaphore::new(MAX_OVERFLOW_CONNECTIONS)),
            overflow_waiting: Arc::new(Semaphore::new(MAX_OVERFLOW_WAITING)),
            overflow_limits: Arc::new(Limits { header_timeout, ..limits.clone() }),
            limits: Arc::new(limits),
            stop,
            connections,
            evictable: VecDeque::new(),
        }
    }

    /// Starts the task of a connection. Never waits.
    fn admit(&mut self, stream: TcpStream) -> Admitted {
        if let Ok(permit) = self.regular.clone().try_acquire_owned() {
            let (pipeline, stop, limits) = (self.pipeline.clone(), self.stop.clone(), self.limits.clone());
            self.connections.spawn(async move {
                serve(stream, pipeline, &limits, Place::Regular, stop).await;
                drop(permit);
            });
            return Admitted::Regular;
        }
        let permit = self.overflow.clone().try_acquire_owned().ok();
        let waiting = self.overflow_waiting.clone().try_acquire_owned().ok();
        if permit.is_none() && waiting.is_none() {
            turn_away(stream, &self.pipeline, Duration::ZERO);
            return Admitted::Overflow;
        }
        self.evictable.retain(|place| !place.is_closed());
        if self.evictable.len() >= MAX_OVERFLOW_AWAITING_HEAD
            && let Some(oldest) = self.evictable.pop_front()
        {
            // An error means that the connection has ended already.
            let _ = oldest.send(());
        }
        let (evict, evicted) = oneshot::channel();
        self.evictable.push_back(evict);
        let (pipeline, stop, limits) = (self.pipeline.clone(), self.stop.clone(), self.overflow_limits.clone());
        let overflow = self.overflow.clone();
        self.connections.spawn(async move {
            let permit = match permit {
                Some(permit) => Some(permit),
                None => tokio::time::timeout(EVICTION_WAIT, overflow.acquire_owned()).await.ok().and_then(Result::ok),
            };
            drop(waiting);
            match permit {
                Some(permit) => {
                    serve(stream, pipeline, &limits, Place::Overflow(evicted), stop).await;
                    drop(permit);
                }
                None => turn_away(stream, &pipeline, EVICTION_WAIT),
            }
        });
        Admitted::Overflow
    }
}

/// Answers 503 without reading, and closes the connection.
fn turn_away(stream: TcpStream, pipeline: &Pipeline, waited: Duration) {
    pipeline.record_refusal(TOO_MANY_CONNECTIONS.status, waited);
    TOO_MANY_CONNECTIONS.send_at_once(stream);
}
