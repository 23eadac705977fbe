//! What every request passes before its route: identity, access, limits, and the promise that no panic gets out.

use crate::server::State;
use crate::server::http::body::{self, UnreadBody};
use crate::server::http::context::Context;
use crate::server::http::error::{ApiError, MAX_HEAD_BYTES};
use crate::server::http::responses::redirect;
use crate::server::http::router::Routes;
use crate::server::http::routes::{self, Overflow};
use crate::server::inference::Deadline;
use crate::server::telemetry::access_log::{self, Work};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use warp::http::request::Parts;
use warp::http::{HeaderMap, HeaderValue, Method, Request, header};
use warp::reply::Response;

/// Names a request in answers and logs.
const REQUEST_ID: &str = "x-request-id";

/// What a connection may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everything.
    All,
    /// Nothing but health, because there are too many connections: an orchestrator must not take that for the end of the service.
    HealthOnly,
}

/// Status of requests whose clients did not wait for the answer, as proxies count them. Nobody is ever sent it.
const CLIENT_GONE: u16 = 499;

/// Maximum number of self checks that connections beyond the limit may wait for: the others stay free for `/health/live`.
const MAX_OVERFLOW_CHECKS: usize = 16;

/// Everything in front of the routes.
#[derive(Clone)]
pub struct Gateway {
    state: Arc<State>,
    routes: Routes,
    overflow_checks: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway to `routes`.
    pub fn new(state: Arc<State>, routes: Routes) -> Self {
        Gateway { state, routes, overflow_checks: Arc::new(Semaphore::new(MAX_OVERFLOW_CHECKS)) }
    }

    /// Answers one request, whatever happens, and logs one line about it, even if the client does not wait for the end.
    /// What the answer did not need of the body comes back with it.
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
        let mut line = Line {
            state: &self.state,
            id: request_id(&headers),
            method: request.method().clone(),
            path: request.uri().path().to_string(),
            started: Instant::now(),
            written: false,
        };

        let (head, body) = request.into_parts();
        let mut body = Some(body);
        let answer = AssertUnwindSafe(self.answer(head, &mut body, admission)).catch_unwind().await;
        // A client that was too slow with its body gets no more time for it.
        let slow = matches!(answer, Ok(Err(ApiError::SlowRequest(_))));
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error.into_response(),
            Err(_) => {
                let id = &line.id;
                tracing::error!(request_id = id, "a handler panicked");
                ApiError::Internal(format!("an internal error; the log has more about request {id}")).into_response()
            }
        };
        let expects = headers.contains_key(header::EXPECT);
        let brief = expects || admission == Admission::HealthOnly;
        let unread = body.filter(|_| !slow).and_then(|body| UnreadBody::new(body, brief));
        self.state.cors.decorate(&headers, &mut response);
        identify(&line.id, response.headers_mut());
        // After a refused `Expect: 100-continue` nobody can tell whether the next bytes are a body or a request.
        if admission == Admission::HealthOnly || (expects && unread.is_some()) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let work = response.extensions().get::<Work>().copied().unwrap_or_default();
        line.write(response.status().as_u16(), work);
        (response, unread)
    }

    /// The whole answer, as bytes, to what did not become a request; counted and logged like any other. `took` is since it began.
    pub fn refusal(&self, error: &ApiError, took: Duration) -> Vec<u8> {
        let id = new_request_id();
        let status = error.status();
        self.state.metrics.answered(routes::label(""), status.as_u16(), Work::default(), took);
        access_log::request(&id, "-", "-", status.as_u16(), Work::default(), took);
        let body = error.body();
        let mut headers = error.headers();
        identify(&id, &mut headers);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let mut answer = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in &headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(body.as_bytes());
        answer
    }

    /// `body` is left where it is, as far as the answer did not need it.
    async fn answer(
        &self,
        mut head: Parts,
        body: &mut Option<Incoming>,
        admission: Admission,
    ) -> Result<Response, ApiError> {
        let state = &self.state;
        let path = head.uri.path();
        if head_bytes(&head) > MAX_HEAD_BYTES {
            return Err(ApiError::head_too_large());
        }
        let too_many = ApiError::too_many_connections;
        let route = routes::find(path);
        let overflow = match admission {
            Admission::All => Overflow::Answered,
            Admission::HealthOnly => route.map_or(Overflow::Refused, |route| route.overflow),
        };
        let _check = match overflow {
            Overflow::Answered => None,
            Overflow::Limited => Some(self.overflow_checks.try_acquire().map_err(|_| too_many())?),
            Overflow::Refused => return Err(too_many()),
        };
        if let Some(response) = state.cors.preflight(&head.method, &head.headers) {
            return Ok(response);
        }
        if let Some(key) = &state.api_key
            && !routes::is_public(path)
            && !key.admits(&head.headers)
        {
            return Err(ApiError::Unauthorized);
        }
        let Some(route) = route else {
            return routes::slash_redirect(path).map(redirect).ok_or(ApiError::NotFound);
        };
        if !route.methods.split(", ").any(|method| method == head.method.as_str()) {
            return Err(ApiError::MethodNotAllowed(route.methods));
        }

        let limits = &state.settings.limits;
        let deadline = Deadline { at: Instant::now() + limits.request_timeout, allowed: limits.request_timeout };
        // The share of the body counts until the answer: the images decoded from it take as much memory.
        let (bytes, _share) = match body.as_mut().filter(|_| head.method == Method::POST) {
            Some(incoming) => {
                let share = state.budget.share();
                let read = body::read(incoming, limits.max_body_size, share, deadline.at, deadline.allowed).await?;
                (read.0, Some(read.1))
            }
            None => (Bytes::new(), None),
        };
        if head.method == Method::POST {
            *body = None;
        }
        head.extensions.insert(Context { deadline });
        Ok((self.routes)(Request::from_parts(head, Full::new(bytes))).await)
    }
}

/// What is counted and logged of one request, once: when it is answered, or when it is dropped before.
struct Line<'a> {
    state: &'a State,
    id: String,
    method: Method,
    path: String,
    started: Instant,
    written: bool,
}

impl Line<'_> {
    fn write(&mut self, status: u16, work: Work) {
        self.written = true;
        let took = self.started.elapsed();
        self.state.metrics.answered(routes::label(&self.path), status, work, took);
        access_log::request(&self.id, self.method.as_str(), &self.path, status, work, took);
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.written {
            // Either the client has gone, or the service does not wait for it any longer.
            let status = if self.state.readiness.is_stopping() { 503 } else { CLIENT_GONE };
            self.write(status, Work::default());
        }
    }
}

/// How long the request's head was, in bytes. hyper's own limit is looked at between reads only, so that heads of up to several times
/// the length pass it or not by how they arrive.
fn head_bytes(head: &Parts) -> usize {
    let address = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let header =
        |(name, value): (&header::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    address + head.headers.iter().map(header).sum::<usize>()
}

/// What every answer carries.
fn identify(id: &str, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// A new random name (UUID version 4).
fn new_request_id() -> String {
    uuid::Builder::from_random_bytes(crate::random::bytes()).into_uuid().to_string()
}

/// The client's own name for its request, if it is a plain one; otherwise a new one.
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
