//! The accept loop: many connections, each watched, so that slow or silent clients cost nothing but their socket.
//!
//! warp's own server waits forever for a client's headers. Here every connection has a phase with a time limit: headers
//! must arrive within `header_timeout` of their first byte (or of the connection), an idle connection is closed after
//! `keep_alive_timeout`, and so is one whose client has stopped reading its answer.

use super::gateway::Gateway;
use crate::config::Limits;
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use warp::http::{Request, Response};

/// Longest head (request line and headers) that is read, in bytes; also the size of reads.
const HEAD_BYTES: usize = 128 << 10;
/// Time that a new connection has to begin its request when the service stops.
const FIRST_BYTES: Duration = Duration::from_millis(100);
/// Headers in a request.
const MOST_HEADERS: usize = 100;

/// Accepts connections until `stop` turns true, then waits for requests in flight, as long as the limits say.
pub async fn run(listener: TcpListener, gateway: Gateway, limits: Limits, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // A client that was gone before it was accepted says nothing about the next one; a lack of file
                // descriptors lasts, and must not turn this into a busy loop.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    tracing::warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        let (gateway, limits, stop) = (gateway.clone(), limits.clone(), stop.clone());
        connections.spawn(async move {
            serve(stream, gateway, &limits, stop).await;
            drop(slot);
        });
    }
    // Connections that the system has taken already are in flight, too.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        let Ok(slot) = slots.clone().try_acquire_owned() else { break };
        let (gateway, limits, stop) = (gateway.clone(), limits.clone(), stop.clone());
        connections.spawn(async move {
            serve(stream, gateway, &limits, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.shutdown_timeout, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopping although requests are in flight");
    }
}

/// Tells a client that there are too many connections.
async fn turn_away(mut stream: TcpStream) {
    let detail = r#"{"detail":"too many connections; try again later"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{detail}",
        detail.len()
    );
    let write = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // The client may be gone already; there is nobody else to tell.
    let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
}

async fn serve(stream: TcpStream, gateway: Gateway, limits: &Limits, mut stop: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let phase = SharedPhase::new();
    let io = TokioIo::new(WatchedStream { stream, phase: phase.clone() });
    let answered = phase.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        answered.enter(Phase::Working);
        let (gateway, phase) = (gateway.clone(), answered.clone());
        async move {
            let response = gateway.handle(request).await;
            phase.enter(Phase::Answering { moved: Instant::now() });
            Ok::<Response<WatchedBody<_>>, Infallible>(response.map(|body| WatchedBody { body, phase }))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.header_read_timeout(None).max_headers(MOST_HEADERS).max_buf_size(HEAD_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut stopping = false;
    let mut closing = None;
    loop {
        tokio::select! {
            // The connection first: a request whose bytes have arrived is in flight.
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                // Who has just connected is about to ask.
                let grace = if phase.is_head() { FIRST_BYTES } else { Duration::ZERO };
                closing = Some(Instant::now() + grace);
            }
            () = tokio::time::sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {
                closing = None;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(phase.next_look(limits)) => {
                if phase.is_overdue(limits) {
                    tracing::debug!("a connection was too slow");
                    return;
                }
            }
        }
    }
}

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing has been asked yet, or some bytes of a head have arrived.
    Head { since: Instant },
    /// Everything asked is answered.
    Idle { since: Instant },
    /// A request is being answered; its own deadline applies.
    Working,
    /// The answer is being written; `moved` is when the client last took some of it.
    Answering { moved: Instant },
}

#[derive(Clone)]
struct SharedPhase(Arc<Mutex<Phase>>);

impl SharedPhase {
    fn new() -> Self {
        SharedPhase(Arc::new(Mutex::new(Phase::Head { since: Instant::now() })))
    }

    fn enter(&self, phase: Phase) {
        *self.lock() = phase;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_head(&self) -> bool {
        matches!(*self.lock(), Phase::Head { .. })
    }

    fn read_bytes(&self) {
        let mut phase = self.lock();
        if let Phase::Idle { .. } = *phase {
            *phase = Phase::Head { since: Instant::now() };
        }
    }

    fn wrote_bytes(&self) {
        let mut phase = self.lock();
        if let Phase::Answering { moved } = &mut *phase {
            *moved = Instant::now();
        }
    }

    fn end(&self, limits: &Limits) -> Option<Instant> {
        match *self.lock() {
            Phase::Head { since } => Some(since + limits.header_timeout),
            Phase::Idle { since } => Some(since + limits.keep_alive_timeout),
            Phase::Answering { moved } => Some(moved + limits.keep_alive_timeout),
            Phase::Working => None,
        }
    }

    fn is_overdue(&self, limits: &Limits) -> bool {
        self.end(limits).is_some_and(|end| end <= Instant::now())
    }

    /// Phases change without waking the watcher, so it looks again well within the shortest of them.
    fn next_look(&self, limits: &Limits) -> Instant {
        let soon = Instant::now() + limits.header_timeout.min(limits.keep_alive_timeout) / 2;
        self.end(limits).map_or(soon, |end| end.min(soon))
    }
}

/// A socket that notes when bytes move.
struct WatchedStream {
    stream: TcpStream,
    phase: SharedPhase,
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.phase.read_bytes();
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = polled {
            self.phase.wrote_bytes();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(1..)) = polled {
            self.phase.wrote_bytes();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body that notes when it has been handed over.
struct WatchedBody<B> {
    body: B,
    phase: SharedPhase,
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.phase.enter(Phase::Idle { since: Instant::now() });
    }
}
