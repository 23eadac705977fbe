//! One connection: its requests one after the other, each of its phases bounded in time.

use crate::config::Limits;
use crate::server::http::error::{ApiError, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::server::http::pipeline::{Admission, Pipeline};
use crate::server::net::phase::{Overdue, SharedPhase};
use crate::server::net::watched::{WatchedBody, WatchedStream};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::time::{Duration, Instant as StdInstant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use warp::http::{Request, Response};

/// Time that a new connection has to begin its request when the service stops.
const FIRST_BYTES: Duration = Duration::from_millis(100);
/// How long a refused client may go on sending: closed at once, its system would throw the answer away.
const LINGER: Duration = Duration::from_secs(1);
/// How long a client may take to read a refusal.
const REFUSAL: Duration = Duration::from_secs(1);

/// What a connection may ask, and who tells it to go.
pub(crate) enum Place {
    /// One within the limit on connections.
    Regular,
    /// One beyond it, for health checks only. The signal evicts it, unless it has a request.
    Overflow(oneshot::Receiver<()>),
}

/// Answers the requests of one connection until it ends, is overdue, or the service stops.
pub(crate) async fn serve(
    stream: TcpStream,
    pipeline: Pipeline,
    limits: &Limits,
    place: Place,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let (admission, mut leave) = match place {
        Place::Regular => (Admission::All, None),
        Place::Overflow(leave) => (Admission::HealthOnly, Some(leave)),
    };
    let began = StdInstant::now();
    let phase = SharedPhase::new();
    let io = TokioIo::new(WatchedStream::new(stream, phase.clone()));
    let (answered, answering) = (phase.clone(), pipeline.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        answered.working();
        let (pipeline, phase) = (answering.clone(), answered.clone());
        async move {
            let (response, unread) = pipeline.handle(request, admission).await;
            phase.answering();
            Ok::<Response<WatchedBody<_>>, Infallible>(response.map(|body| WatchedBody::new(body, phase, unread)))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.header_read_timeout(None).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = builder.serve_connection(io, service);
    let mut stopping = false;
    let mut closing = None;
    let refusal = loop {
        tokio::select! {
            // The connection first: a request whose bytes have arrived is in flight.
            biased;
            ended = &mut connection => match ended {
                Ok(()) => return,
                Err(error) if error.is_parse() => break Refusal::Unreadable(error.to_string()),
                Err(error) => {
                    tracing::debug!(%error, "a connection broke");
                    return;
                }
            },
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                // Who has just connected is about to ask.
                let grace = if phase.is_head() { FIRST_BYTES } else { Duration::ZERO };
                closing = Some(Instant::now() + grace);
            }
            () = tokio::time::sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {
                closing = None;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = asked_to_leave(&mut leave), if leave.is_some() => {
                leave = None;
                if phase.is_between_requests() {
                    break Refusal::Error(ApiError::too_many_connections());
                }
            }
            () = tokio::time::sleep_until(phase.next_look(limits)) => match phase.overdue(limits) {
                None => {}
                Some(Overdue::Silent | Overdue::SlowHead) if admission == Admission::HealthOnly => {
                    break Refusal::Error(ApiError::too_many_connections());
                }
                Some(Overdue::SlowHead) => {
                    break Refusal::Error(ApiError::SlowRequest(limits.header_timeout.as_secs().max(1)));
                }
                Some(Overdue::Silent | Overdue::Idle) => {
                    tracing::debug!("a connection was too slow");
                    return;
                }
            },
        }
    };
    let (stream, status) = connection.into_parts().io.into_inner().into_parts();
    let error = match (refusal, status) {
        (Refusal::Error(error), _) => error,
        (Refusal::Unreadable(_), Some(414)) => ApiError::AddressTooLong,
        (Refusal::Unreadable(_), Some(431)) => ApiError::head_too_large(),
        (Refusal::Unreadable(reason), _) => ApiError::BadRequest(format!("this is not an HTTP request: {reason}")),
    };
    // Places beyond the limit are too few to wait in.
    let linger = if admission == Admission::All { LINGER } else { Duration::ZERO };
    refuse(stream, pipeline.refusal(&error, began.elapsed()), linger).await;
}

/// Why a connection ends with an answer to no request.
enum Refusal {
    /// Its head cannot be read, says hyper.
    Unreadable(String),
    /// Anything else.
    Error(ApiError),
}

/// Ready when the place is needed; never, when it is not.
async fn asked_to_leave(leave: &mut Option<oneshot::Receiver<()>>) {
    let asked = match leave {
        Some(asked) => asked.await.is_ok(),
        None => false,
    };
    if !asked {
        std::future::pending().await
    }
}

/// Writes an answer, reads on for a while, and closes the connection. The client may be gone already; there is nobody else to tell.
async fn refuse(mut stream: TcpStream, answer: Vec<u8>, linger: Duration) {
    let write = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    let Ok(Ok(())) = tokio::time::timeout(REFUSAL, write).await else { return };
    let mut rest = vec![0; 16 << 10];
    let read = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(linger, read).await;
}
