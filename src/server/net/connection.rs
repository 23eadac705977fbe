//! One connection: its requests one after the other, with a time limit for each phase.
//!
//! hyper's `header_read_timeout` is not used: it also runs while a connection is idle between two requests, and it ends
//! the connection without an answer.

use crate::config::Limits;
use crate::server::http::error::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::server::http::pipeline::{Admission, Pipeline};
use crate::server::net::phase::{Overdue, SharedPhase};
use crate::server::net::refusal::{NOT_HTTP_1, Refusal, SLOW_HEAD, TOO_MANY_CONNECTIONS, linger};
use crate::server::net::watched::{WatchedBody, WatchedStream};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use warp::http::{Request, Response};

/// How long a new connection may take to begin its request when the service stops.
const FIRST_BYTES: Duration = Duration::from_millis(100);

/// The place of a connection in the limits.
pub(crate) enum Place {
    /// Within MAX_CONNECTIONS.
    Regular,
    /// Beyond MAX_CONNECTIONS, for health checks only. The signal evicts the connection, unless it has a request.
    Overflow(oneshot::Receiver<()>),
}

/// Answers the requests of one connection until the client ends it, a time limit passes, or the service stops.
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
    let (admission, mut eviction) = match place {
        Place::Regular => (Admission::All, None),
        Place::Overflow(signal) => (Admission::HealthOnly, Some(signal)),
    };
    let began = Instant::now();
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
    let ending = loop {
        tokio::select! {
            // The connection first: a request whose bytes have arrived is in flight.
            biased;
            ended = &mut connection => match ended {
                Ok(()) => return,
                // hyper answers every parse error but this one.
                Err(error) if error.is_parse_version_h2() => break Ending::Refused(&NOT_HTTP_1),
                Err(error) if error.is_parse() => break Ending::Answered(status_of(&error)),
                Err(error) => {
                    tracing::debug!(%error, "a connection failed");
                    return;
                }
            },
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                // The request of a new connection is about to arrive.
                let grace = if phase.is_head() { FIRST_BYTES } else { Duration::ZERO };
                closing = Some(Instant::now() + grace);
            }
            () = tokio::time::sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {
                closing = None;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = evicted(&mut eviction), if eviction.is_some() => {
                eviction = None;
                if phase.is_between_requests() {
                    break Ending::Refused(&TOO_MANY_CONNECTIONS);
                }
            }
            () = tokio::time::sleep_until(phase.next_look(limits)) => match phase.overdue(limits) {
                None => {}
                Some(Overdue::Silent | Overdue::SlowHead) if admission == Admission::HealthOnly => {
                    break Ending::Refused(&TOO_MANY_CONNECTIONS);
                }
                Some(Overdue::SlowHead) => {
                    break Ending::Refused(&SLOW_HEAD);
                }
                Some(Overdue::Silent | Overdue::Idle) => {
                    tracing::debug!("a connection was silent or idle for too long");
                    return;
                }
            },
        }
    };
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    match ending {
        Ending::Answered(status) => pipeline.record_refusal(status, began.elapsed()),
        Ending::Refused(refusal) => {
            pipeline.record_refusal(refusal.status, began.elapsed());
            refusal.send(&mut stream).await;
        }
    }
    // Places beyond the limit are too few to wait in.
    if admission == Admission::All {
        linger(stream).await;
    }
}

/// How a connection ends whose last request was not read.
enum Ending {
    /// hyper has answered with this status.
    Answered(u16),
    /// The connection answers by itself.
    Refused(&'static Refusal),
}

/// The status with which hyper has answered a head that it could not parse.
fn status_of(error: &hyper::Error) -> u16 {
    match error.is_parse_too_large() {
        false => 400,
        // hyper has no other way to tell an address that is too long.
        true if error.to_string() == "URI too long" => 414,
        true => 431,
    }
}

/// Ready when the connection is to be evicted; never, if it cannot be.
async fn evicted(signal: &mut Option<oneshot::Receiver<()>>) {
    let evicted = match signal {
        Some(signal) => signal.await.is_ok(),
        None => false,
    };
    if !evicted {
        std::future::pending().await
    }
}
