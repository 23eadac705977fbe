//! Reading, parsing and discarding request bodies.

use crate::server::api::schema::value::{Encoding, Value};
use crate::server::http::body_budget::{BodyShare, counted};
use crate::server::http::error::ApiError;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bodies up to this size in bytes are parsed on the runtime's thread; larger ones on a blocking thread.
const MAX_PARSED_INLINE: usize = 32 << 10;

/// Limits in time and bytes of reading the rest of a body after an answer that did not need it.
const MAX_DISCARD_TIME: Duration = Duration::from_secs(10);
const MAX_DISCARDED_BYTES: u64 = 256 << 20;
/// Time limit on connections that must end soon: overflow connections, and connections of clients that wait for
/// permission to send (`Expect: 100-continue`).
const MAX_BRIEF_DISCARD_TIME: Duration = Duration::from_secs(1);

/// Reads the whole body. Its bytes keep their share of the budget as long as any thread holds them, because parsing can
/// outlive the request. The second handle to the share is for the request: images decoded from the body count as the
/// body until the answer.
///
/// Errs with 413 if the body has more than `limit` bytes (independently of its Content-Length), with 503 if the budget
/// is used up, with 408 if the body has not arrived by `deadline`, and with 400 if the connection breaks.
pub async fn read(
    body: &mut Incoming,
    limit: u64,
    mut share: BodyShare,
    deadline: Instant,
    allowed: Duration,
) -> Result<(Bytes, Arc<BodyShare>), ApiError> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::BodyTooLarge(limit));
    }
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0).min(1 << 20) as usize);
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(ApiError::SlowRequest(allowed.as_secs())),
            Ok(None) => {
                let share = Arc::new(share);
                return Ok((counted(bytes.freeze(), share.clone()), share));
            }
            Ok(Some(Err(error))) => return Err(ApiError::BadRequest(format!("the request body broke off: {error}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(ApiError::BodyTooLarge(limit));
        }
        if !share.grow(data.len() as u64) {
            return Err(ApiError::Overloaded("too many request bodies at once; try again later".into()));
        }
        bytes.extend_from_slice(&data);
    }
}

/// A request body, or its rest, that the answer did not need.
///
/// A client that sends its whole request before it reads would get a connection reset instead of the answer if the
/// connection were closed at once. So the body is read and dropped, up to `MAX_DISCARDED_BYTES` and
/// `MAX_DISCARD_TIME`; then hyper closes.
pub struct UnreadBody {
    body: Incoming,
    until: Instant,
}

impl UnreadBody {
    /// `body`, unless it has ended. `brief`: the connection must end soon.
    pub fn new(body: Incoming, brief: bool) -> Option<Self> {
        let time = if brief { MAX_BRIEF_DISCARD_TIME } else { MAX_DISCARD_TIME };
        (!body.is_end_stream()).then(|| UnreadBody { body, until: Instant::now() + time })
    }

    /// When discarding ends at the latest.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Reads to the end, or to a limit.
    pub async fn discard(mut self) {
        let mut left = MAX_DISCARDED_BYTES;
        while let Ok(Some(Ok(frame))) = timeout_at(self.until, self.body.frame()).await {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// Parses a body and builds a request from it, without delaying other connections.
pub async fn parse<T: Send + 'static>(
    body: Bytes,
    encoding: Encoding,
    build: impl FnOnce(Value<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let small = body.len() <= MAX_PARSED_INLINE;
    let work = move || Value::parse(&body, encoding).and_then(build);
    if small {
        return work();
    }
    let parsed = tokio::task::spawn_blocking(work).await;
    parsed.unwrap_or_else(|_| Err(ApiError::Internal("the body could not be parsed".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn bodies_count_while_they_are_parsed_even_when_the_request_is_gone() {
        use crate::server::http::body_budget::BodyBudget;
        use std::sync::mpsc;
        let budget = BodyBudget::new(1 << 20);
        let mut share = budget.share();
        let body = serde_json::json!({ "text": "x".repeat(MAX_PARSED_INLINE) }).to_string();
        assert!(share.grow(body.len() as u64));
        let held = body.len() as u64;
        let (parsing, is_parsing) = mpsc::channel();
        let (finish, finished) = mpsc::channel::<()>();
        let bytes = counted(body.into(), share);
        let request = tokio::spawn(parse(bytes, Encoding::Json, move |_| {
            parsing.send(()).unwrap();
            // Ends when the test says so.
            let _ = finished.recv();
            Ok(())
        }));
        tokio::task::spawn_blocking(move || is_parsing.recv()).await.unwrap().unwrap();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert_eq!(budget.left(), (1 << 20) - held);
        drop(finish);
        while budget.left() < 1 << 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
