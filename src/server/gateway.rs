//! What every request passes before its route: identity, access, limits, and the promise that no panic gets out.

use super::State;
use super::auth;
use super::body;
use super::error::ApiError;
use super::inference::Deadline;
use super::logging::{self, Work};
use super::routes::{self, Routes};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;
use warp::http::{HeaderMap, HeaderValue, Method, Request, header};
use warp::reply::Response;

/// Names a request in answers and logs.
const REQUEST_ID: &str = "x-request-id";

/// What handlers know of their request beside its head and body.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// When it has to be answered.
    pub deadline: Deadline,
}

/// Everything in front of the routes.
#[derive(Clone)]
pub struct Gateway {
    state: Arc<State>,
    routes: Routes,
}

impl Gateway {
    /// A gateway to `routes`.
    pub fn new(state: Arc<State>, routes: Routes) -> Self {
        Gateway { state, routes }
    }

    /// Answers one request, whatever happens, and logs one line about it.
    pub async fn handle(&self, request: Request<Incoming>) -> Response {
        let started = std::time::Instant::now();
        let _in_flight = self.state.metrics.begin();
        let id = request_id(request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_string();
        let headers = request.headers().clone();

        let answer = AssertUnwindSafe(self.answer(request)).catch_unwind().await;
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error.into_response(),
            Err(_) => {
                tracing::error!(request_id = id, "a handler panicked");
                ApiError::Internal(format!("an internal error; the log has more about request {id}")).into_response()
            }
        };
        self.state.cors.decorate(&headers, &mut response);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        let work = response.extensions().get::<Work>().copied().unwrap_or_default();
        let status = response.status().as_u16();
        self.state.metrics.answered(routes::label(&path), status, work, started.elapsed());
        logging::request(&id, method.as_str(), &path, status, work, started.elapsed());
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response, ApiError> {
        let state = &self.state;
        let path = request.uri().path();
        if let Some(response) = state.cors.preflight(request.method(), request.headers()) {
            return Ok(response);
        }
        if let Some(key) = &state.api_key
            && !auth::is_public(path)
            && !key.admits(request.headers())
        {
            return Err(ApiError::Unauthorized);
        }
        let Some(allowed) = routes::methods(path) else {
            // As the original: with a slash too many, the client is sent to the address without.
            return match path.strip_suffix('/').and_then(|path| routes::methods(path).map(|_| path)) {
                Some("/extract") => Ok(routes::redirect("/extract")),
                Some("/draw_detections") => Ok(routes::redirect("/draw_detections")),
                Some("/multipart/draw_detections") => Ok(routes::redirect("/multipart/draw_detections")),
                Some("/info") => Ok(routes::redirect("/info")),
                Some("/health") => Ok(routes::redirect("/health")),
                _ => Err(ApiError::NotFound),
            };
        };
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            return Err(ApiError::MethodNotAllowed(allowed));
        }

        let limits = &state.settings.limits;
        let deadline = Deadline { at: Instant::now() + limits.request_timeout, allowed: limits.request_timeout };
        let mut share = state.budget.share();
        let (mut head, incoming) = request.into_parts();
        let bytes = match head.method {
            Method::POST => {
                body::read(incoming, limits.max_body_size, &mut share, deadline.at, deadline.allowed).await?
            }
            _ => Bytes::new(),
        };
        head.extensions.insert(Context { deadline });
        Ok((self.routes)(Request::from_parts(head, Full::new(bytes))).await)
    }
}

/// The client's own name for its request, if it is a plain one; otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    own.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_string)
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
