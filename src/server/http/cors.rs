//! Cross-origin requests of browsers: any origin by default, never with credentials.

use crate::config::List;
use crate::server::http::pipeline::REQUEST_ID;
use crate::server::http::routes::{ROUTES, Route};
use futures_util::FutureExt;
use futures_util::future::Map;
use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use warp::reply::Response;

/// How long a browser may reuse the answer to a preflight request.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Adds CORS headers to answers, and answers preflight requests.
#[derive(Clone, Debug)]
pub struct Cors {
    layer: CorsLayer,
    any_origin: bool,
}

impl Cors {
    /// Allows `origins`; `*` in the list allows every origin, an empty list allows none.
    pub fn new(origins: &List<String>) -> Self {
        let any_origin = origins.0.iter().any(|origin| origin == "*");
        let listed = origins.0.iter().filter_map(|origin| origin.trim_end_matches('/').parse::<HeaderValue>().ok());
        let (origin, vary) = match any_origin {
            true => (AllowOrigin::any(), vec![]),
            false => (AllowOrigin::list(listed), vec![header::ORIGIN]),
        };
        let mut methods = vec![Method::OPTIONS];
        for method in ROUTES.iter().flat_map(Route::methods) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        let layer = CorsLayer::new()
            .allow_origin(origin)
            .allow_methods(methods)
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([HeaderName::from_static(REQUEST_ID)])
            .max_age(MAX_AGE)
            .vary(vary);
        Cors { layer, any_origin }
    }

    /// The answer to a preflight request, or the answer of `next` with CORS headers.
    pub async fn answer(&self, method: &Method, headers: &HeaderMap, next: impl Future<Output = Response>) -> Response {
        let cross_origin = headers.contains_key(header::ORIGIN);
        let options = method == Method::OPTIONS;
        let preflight = options && cross_origin && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        // The layer answers every OPTIONS request, and marks answers to requests that are not cross-origin, too.
        if (options && !preflight) || (self.any_origin && !cross_origin) {
            return next.await;
        }
        let mut call = Request::new(next);
        *call.method_mut() = method.clone();
        *call.headers_mut() = headers.clone();
        let answer = self.layer.layer(Continue).call(call).await;
        let mut response = answer.unwrap_or_else(|never| match never {});
        if preflight && !response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        response
    }
}

/// The service behind the layer: awaits the body of its request, which is the rest of the pipeline.
struct Continue;

impl<F: Future<Output = Response>> Service<Request<F>> for Continue {
    type Response = Response;
    type Error = Infallible;
    type Future = Map<F, fn(Response) -> Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<F>) -> Self::Future {
        request.into_body().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(origins: &str, method: Method, headers: &[(&'static str, &'static str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let next = async {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        };
        Cors::new(&origins.parse().unwrap()).answer(&method, &headers.collect(), next).await
    }

    #[tokio::test]
    async fn any_origin_is_a_star_without_credentials() {
        let response = ask("*", Method::GET, &[("origin", "https://a.example")]).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert_eq!(response.headers()["access-control-expose-headers"], "x-request-id");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        assert!(ask("*", Method::GET, &[]).await.headers().is_empty());
    }

    #[tokio::test]
    async fn listed_origins_are_echoed_and_others_are_not() {
        let origins = "https://a.example/, https://b.example";
        for (origin, allowed) in
            [("https://a.example", true), ("https://b.example", true), ("https://c.example", false)]
        {
            let response = ask(origins, Method::GET, &[("origin", origin)]).await;
            let sent = response.headers().get("access-control-allow-origin");
            assert_eq!(sent.map(|v| v.to_str().unwrap()), allowed.then_some(origin));
            assert_eq!(response.headers()["vary"], "origin");
        }
        assert_eq!(ask(origins, Method::GET, &[]).await.headers()["vary"], "origin");
    }

    #[tokio::test]
    async fn preflights_are_answered_and_plain_options_are_not() {
        let preflight = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        let answer = ask("*", Method::OPTIONS, &preflight).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["access-control-allow-headers"], "content-type");
        let methods = answer.headers()["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.contains("GET") && methods.contains("POST"), "{methods}");
        assert_eq!(ask("*", Method::GET, &preflight).await.status(), StatusCode::METHOD_NOT_ALLOWED);
        let plain = ask("*", Method::OPTIONS, &[("origin", "x")]).await;
        assert_eq!(plain.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask("None", Method::OPTIONS, &preflight).await.status(), StatusCode::FORBIDDEN);
    }
}
