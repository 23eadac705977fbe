//! What every request passes before its route: request id, limits of overflow connections, CORS, API key, path and
//! method, body. Counts and logs every request, and answers 500 if a handler panics.

use crate::server::State;
use crate::server::http::body::{self, UnreadBody};
use crate::server::http::context::Context;
use crate::server::http::error::{ApiError, MAX_HEAD_BYTES};
use crate::server::http::responses::redirect;
use crate::server::http::router::{PathMatch, Router};
use crate::server::http::routes::{Overflow, Route};
use crate::server::inference::Deadline;
use crate::server::telemetry::access_log::{self, RequestStats};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderValue, Method, Request, header};
use warp::reply::Response;

/// Name of a request in answers and logs.
pub const REQUEST_ID: &str = "x-request-id";
/// Label in metrics of requests without a route.
const NO_ROUTE: &str = "other";
/// Status in metrics and logs of requests whose clients did not wait for the answer, as in nginx. Never sent.
const CLIENT_GONE: u16 = 499;
/// Maximum number of self checks that overflow connections wait for. The other overflow connections remain free for
/// `/health/live`.
const MAX_OVERFLOW_CHECKS: usize = 16;

/// The requests that a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// All.
    All,
    /// Health checks, on connections beyond MAX_CONNECTIONS: an orchestrator must not restart a busy service.
    HealthOnly,
}

/// Answers requests. Clones share everything.
#[derive(Clone)]
pub struct Pipeline {
    state: Arc<State>,
    router: Arc<Router>,
    overflow_checks: Arc<Semaphore>,
}

impl Pipeline {
    /// A pipeline to the routes of the service.
    pub fn new(state: Arc<State>) -> Self {
        let router = Arc::new(Router::new(&state));
        Pipeline { state, router, overflow_checks: Arc::new(Semaphore::new(MAX_OVERFLOW_CHECKS)) }
    }

    /// Answers one request, and writes one log line about it even if the client does not wait for the answer. Returns
    /// the rest of the body if the answer did not need it. Never panics.
    pub async fn handle(&self, request: Request<Incoming>, admission: Admission) -> (Response, Option<UnreadBody>) {
        match AssertUnwindSafe(self.handle_inner(request, admission)).catch_unwind().await {
            Ok(answer) => answer,
            Err(_) => {
                tracing::error!("a request panicked outside its handler");
                (ApiError::Internal("an internal error; the log has more".into()).into_response(), None)
            }
        }
    }

    async fn handle_inner(&self, request: Request<Incoming>, admission: Admission) -> (Response, Option<UnreadBody>) {
        let _in_flight = self.state.metrics.begin();
        let headers = request.headers().clone();
        let path = request.uri().path().to_string();
        let found = self.router.find(&path);
        let mut record = RequestRecord {
            state: &self.state,
            id: request_id(&headers),
            method: request.method().clone(),
            path: &path,
            route: found.as_ref().map(PathMatch::route),
            started: Instant::now(),
            written: false,
        };

        let (head, body) = request.into_parts();
        let mut body = Some(body);
        // A client whose body was too slow gets no more time.
        let mut slow = false;
        let answer = async {
            match AssertUnwindSafe(self.answer(found, head, &mut body, admission)).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    slow = matches!(error, ApiError::SlowRequest(_));
                    error.into_response()
                }
                Err(_) => {
                    let id = &record.id;
                    tracing::error!(request_id = id, "a handler panicked");
                    let message = format!("an internal error; the log has more about request {id}");
                    ApiError::Internal(message).into_response()
                }
            }
        };
        let mut response = self.state.cors.answer(&record.method, &headers, answer).await;
        let expects = headers.contains_key(header::EXPECT);
        let brief = expects || admission == Admission::HealthOnly;
        let unread = body.filter(|_| !slow).and_then(|body| UnreadBody::new(body, brief));
        identify(&record.id, response.headers_mut());
        // After a refused `Expect: 100-continue`, the next bytes may be a body or a request.
        if admission == Admission::HealthOnly || (expects && unread.is_some()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let stats = response.extensions().get::<RequestStats>().copied().unwrap_or_default();
        record.write(response.status().as_u16(), stats);
        (response, unread)
    }

    /// Counts and logs an answer that the connection gave without a request: its head was not read, or not HTTP.
    /// `took` is the time since the connection was accepted.
    pub fn record_refusal(&self, status: u16, took: Duration) {
        let (id, stats) = (new_request_id(), RequestStats::default());
        self.state.metrics.answered(NO_ROUTE, status, stats, took);
        access_log::LogEntry { id: &id, method: "-", path: "-", quiet: false, status, stats, took }.write();
    }

    /// Takes `body` if the answer needs all of it.
    async fn answer(
        &self,
        found: Option<PathMatch<'_>>,
        head: Parts,
        body: &mut Option<Incoming>,
        admission: Admission,
    ) -> Result<Response, ApiError> {
        let state = &self.state;
        let path = head.uri.path();
        if head_bytes(&head) > MAX_HEAD_BYTES {
            return Err(ApiError::head_too_large());
        }
        let too_many = ApiError::too_many_connections;
        let overflow = match admission {
            Admission::All => Overflow::Answered,
            Admission::HealthOnly => found.as_ref().map_or(Overflow::Refused, |found| found.route().overflow),
        };
        let _check = match overflow {
            Overflow::Answered => None,
            Overflow::Limited => Some(self.overflow_checks.try_acquire().map_err(|_| too_many())?),
            Overflow::Refused => return Err(too_many()),
        };
        if let Some(key) = &state.api_key
            && !is_public(path, found.as_ref())
            && !key.admits(&head.headers)
        {
            return Err(ApiError::Unauthorized);
        }
        let Some(found) = found else {
            return self.router.slash_redirect(path).map(redirect).ok_or(ApiError::NotFound);
        };
        let route = found.with_method(&head.method)?;

        let limits = &state.settings.limits;
        let deadline = Deadline { at: Instant::now() + limits.request_timeout, allowed: limits.request_timeout };
        let reads_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        // The share of the body counts until the answer: the images decoded from it take as much memory.
        let (bytes, _share) = match body.as_mut().filter(|_| reads_body) {
            Some(incoming) => {
                let share = state.budget.share();
                let read = body::read(incoming, limits.max_body_size, share, deadline.at, deadline.allowed).await?;
                (read.0, Some(read.1))
            }
            None => (Bytes::new(), None),
        };
        if reads_body {
            *body = None;
        }
        Ok(self.router.call(route, head, Context { deadline }, bytes).await)
    }
}

/// Whether a path needs no API key. Unknown paths below `/health/` need none either: they are answered 404.
fn is_public(path: &str, found: Option<&PathMatch>) -> bool {
    found.map_or(path.starts_with("/health/"), |found| found.route().public)
}

/// Counts and logs one request: with its answer, or when it is dropped without one.
struct RequestRecord<'a> {
    state: &'a State,
    id: String,
    method: Method,
    path: &'a str,
    route: Option<&'static Route>,
    started: Instant,
    written: bool,
}

impl RequestRecord<'_> {
    fn write(&mut self, status: u16, stats: RequestStats) {
        self.written = true;
        let took = self.started.elapsed();
        let (label, quiet) = self.route.map_or((NO_ROUTE, false), |route| (route.label, route.quiet));
        self.state.metrics.answered(label, status, stats, took);
        let (id, method, path) = (self.id.as_str(), self.method.as_str(), self.path);
        access_log::LogEntry { id, method, path, quiet, status, stats, took }.write();
    }
}

impl Drop for RequestRecord<'_> {
    fn drop(&mut self) {
        if !self.written {
            // The client has gone, or the service stops and does not wait any longer.
            let status = if self.state.readiness.is_stopping() { 503 } else { CLIENT_GONE };
            self.write(status, RequestStats::default());
        }
    }
}

/// Size of the request's head in bytes. hyper checks its own limit only between reads, so longer heads can pass it.
fn head_bytes(head: &Parts) -> usize {
    let address = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let header =
        |(name, value): (&header::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    address + head.headers.iter().map(header).sum::<usize>()
}

/// Adds the headers that every answer has.
fn identify(id: &str, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// A random id: UUID version 4.
fn new_request_id() -> String {
    uuid::Builder::from_random_bytes(crate::random::bytes()).into_uuid().to_string()
}

/// The request id of the client if it consists of plain characters; otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    own.map_or_else(new_request_id, str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_and_docs_are_public() {
        use crate::server::http::router::RouteIndex;
        let index = RouteIndex::new(crate::server::http::routes::ROUTES);
        let public = |path: &str| is_public(path, index.find(path).as_ref());
        for path in ["/", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/health", "/health/live", "/health/other"]
        {
            assert!(public(path), "{path}");
        }
        for path in ["/extract", "/info", "/docsx", "/healthz", "//docs", "/draw_detections", "/metrics"] {
            assert!(!public(path), "{path}");
        }
    }

    #[test]
    fn plain_request_ids_are_kept_and_others_replaced() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, value.parse().unwrap());
            request_id(&headers)
        };
        assert_eq!(id("abc-123"), "abc-123");
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_eq!(id(bad).len(), 36, "{bad:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
