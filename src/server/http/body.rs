//! Reading request bodies and choosing the encoding of answers.

use crate::server::api::schema::value::{Encoding, Value};
use crate::server::http::body_budget::{BodyShare, counted};
use crate::server::http::error::ApiError;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::Serialize;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use warp::http::{HeaderMap, HeaderValue, header};
use warp::reply::Response;

/// Bodies up to this size are parsed where they are; larger ones on a thread that may take its time.
const PARSED_INLINE: usize = 32 << 10;

/// How long, and how far, the rest of a body is read after an answer that did not need it.
const MAX_DISCARD_TIME: Duration = Duration::from_secs(10);
const MAX_DISCARDED_BYTES: u64 = 256 << 20;
/// The same time for connections that must end soon: those beyond the limit, and those of clients that asked before
/// sending (`Expect: 100-continue`).
const MAX_BRIEF_DISCARD_TIME: Duration = Duration::from_secs(1);

/// The whole body, which keeps its share of the budget as long as any thread holds it: a request that is parsed may be
/// gone already. The second handle to the share is for the request: what is decoded from the body counts as the body
/// until the answer.
///
/// Errs when it has more than `limit` bytes (whatever its Content-Length claims), when all bodies together have too
/// many, or when it has not arrived by `deadline`.
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

/// A request body, or the end of one, that the answer did not need.
///
/// A client that sends its whole request before it reads would get a connection reset instead of the answer if the
/// connection were closed at once. So the body is read and dropped, up to `MAX_DISCARDED_BYTES` and
/// `MAX_DISCARD_TIME`; then hyper closes.
pub struct UnreadBody {
    body: Incoming,
    until: Instant,
}

impl UnreadBody {
    /// `body`, if anything of it is left. `brief`: the connection must end soon.
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

/// Whether a body is JSON or MessagePack. Without a Content-Type it is JSON, as in the original.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Encoding::Json);
    };
    let text = value.to_str().unwrap_or_default();
    // Proxies join repeated headers with commas; the first one counts.
    let essence = text.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Ok(Encoding::MessagePack),
        "" | "application/json" | "text/json" => Ok(Encoding::Json),
        json if json.starts_with("application/") && json.ends_with("+json") => Ok(Encoding::Json),
        other => Err(ApiError::UnsupportedMediaType(format!(
            "the Content-Type '{}' is not supported: send application/json or application/msgpack",
            crate::text::for_message(other)
        ))),
    }
}

/// Parses a body and builds a request from it, without holding up other connections.
pub async fn parse<T: Send + 'static>(
    body: Bytes,
    encoding: Encoding,
    build: impl FnOnce(Value<'_>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let small = body.len() <= PARSED_INLINE;
    let work = move || Value::parse(&body, encoding).and_then(build);
    if small {
        return work();
    }
    let parsed = tokio::task::spawn_blocking(work).await;
    parsed.unwrap_or_else(|_| Err(ApiError::Internal("the body could not be parsed".into())))
}

/// Whether the answer shall be MessagePack: the field `msgpack`, or an Accept header that prefers it to JSON.
pub fn wants_msgpack(field: Option<bool>, headers: &HeaderMap) -> bool {
    if field == Some(true) {
        return true;
    }
    // The quality of MessagePack, and whether no JSON of the same quality stood before it.
    let mut best = (0.0f32, false);
    let mut json = 0.0f32;
    for value in headers.get_all(header::ACCEPT) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let mut parts = item.split(';').map(str::trim);
            let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .filter_map(|part| part.split_once('='))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
                .map_or(1.0, |(_, quality)| quality.trim().parse::<f32>().unwrap_or(0.0));
            match essence.as_str() {
                // Of equals the first one counts, and wildcards never count against a name.
                "application/x-msgpack" | "application/msgpack" | "application/vnd.msgpack" if quality > best.0 => {
                    best = (quality, quality > json);
                }
                "application/json" => json = json.max(quality),
                _ => {}
            }
        }
    }
    best.1 && best.0 >= json
}

/// An answer in the encoding that was asked for.
pub fn encode<T: Serialize>(answer: &T, msgpack: bool) -> Result<Response, ApiError> {
    let failed = |error: &dyn Error| ApiError::Internal(format!("the answer could not be written: {error}"));
    let (bytes, content_type) = if msgpack {
        (rmp_serde::to_vec_named(answer).map_err(|error| failed(&error))?, "application/x-msgpack")
    } else {
        (serde_json::to_vec(answer).map_err(|error| failed(&error))?, "application/json")
    };
    let mut response = Response::new(bytes.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bodies_count_while_they_are_parsed_even_when_the_request_is_gone() {
        use crate::server::http::body_budget::BodyBudget;
        use std::sync::mpsc;
        let budget = BodyBudget::new(1 << 20);
        let mut share = budget.share();
        let body = serde_json::json!({ "text": "x".repeat(PARSED_INLINE) }).to_string();
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

    #[test]
    fn content_types_with_parameters_and_several_values() {
        for (value, expected) in [
            ("application/json", Encoding::Json),
            ("application/json; charset=utf-8", Encoding::Json),
            ("Application/JSON", Encoding::Json),
            ("application/problem+json", Encoding::Json),
            ("application/msgpack", Encoding::MessagePack),
            ("application/x-msgpack;charset=binary", Encoding::MessagePack),
            ("application/msgpack, application/json", Encoding::MessagePack),
        ] {
            assert_eq!(encoding(&headers("content-type", &[value])), Ok(expected), "{value}");
        }
        assert_eq!(encoding(&HeaderMap::new()), Ok(Encoding::Json));
        for value in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/jpeg"]
        {
            assert!(encoding(&headers("content-type", &[value])).is_err(), "{value}");
        }
    }

    #[test]
    fn msgpack_answers_are_for_those_who_ask() {
        for (accept, expected) in [
            (&["application/x-msgpack"][..], true),
            (&["application/msgpack"], true),
            (&["application/x-msgpack; q=0.9, */*;q=0.1"], true),
            (&["application/x-msgpack, application/json"], true),
            (&["application/json, application/x-msgpack"], false),
            (&["application/json;q=0.5, application/x-msgpack"], true),
            (&["application/json, application/x-msgpack;q=0.5"], false),
            (&["application/json", "application/x-msgpack;q=1"], false),
            (&["*/*", "application/x-msgpack"], true),
            (&["*/*"], false),
            (&["application/x-msgpack;q=0"], false),
            (&["application/json"], false),
            (&[], false),
        ] {
            assert_eq!(wants_msgpack(None, &headers("accept", accept)), expected, "{accept:?}");
        }
        assert!(wants_msgpack(Some(true), &headers("accept", &["application/json"])));
        assert!(!wants_msgpack(Some(false), &HeaderMap::new()));
    }
}
