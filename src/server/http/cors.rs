//! Cross-origin requests of browsers: any origin by default, never with credentials.

use crate::config::List;
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use warp::reply::Response;

/// Which origins a browser may call from.
#[derive(Clone, Debug)]
pub enum Cors {
    /// Every one: `*`.
    Any,
    /// These; an empty list switches cross-origin calls off.
    Only(Vec<String>),
}

impl Cors {
    /// `*` anywhere in the list allows every origin.
    pub fn new(origins: &List<String>) -> Self {
        if origins.0.iter().any(|origin| origin == "*") {
            return Cors::Any;
        }
        Cors::Only(origins.0.iter().map(|origin| origin.trim_end_matches('/').to_string()).collect())
    }

    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        match self {
            Cors::Any => Some(HeaderValue::from_static("*")),
            Cors::Only(origins) => {
                origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }

    /// The answer to a browser's question before the request itself; None if this is no such question.
    pub fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Response> {
        let asked = request.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        if method != Method::OPTIONS || asked.is_none() || !request.contains_key(header::ORIGIN) {
            return None;
        }
        let mut response = Response::default();
        if self.allowed(request).is_none() {
            *response.status_mut() = StatusCode::FORBIDDEN;
            return Some(response);
        }
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        // As the original: whatever headers the page wants to send.
        let wanted = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let wanted = wanted.cloned().unwrap_or(HeaderValue::from_static("content-type, authorization, x-api-key"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        Some(response)
    }

    /// Adds what the browser needs to hand the answer to the page.
    pub fn decorate(&self, request: &HeaderMap, response: &mut Response) {
        let headers = response.headers_mut();
        if let Cors::Only(_) = self {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = self.allowed(request) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn cors(text: &str) -> Cors {
        Cors::new(&text.parse().unwrap())
    }

    #[test]
    fn any_origin_is_a_star_without_credentials() {
        let request = headers(&[("origin", "https://a.example")]);
        let mut response = Response::default();
        cors("*").decorate(&request, &mut response);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        let mut plain = Response::default();
        cors("*").decorate(&HeaderMap::new(), &mut plain);
        assert!(plain.headers().is_empty());
    }

    #[test]
    fn listed_origins_are_echoed_and_others_are_not() {
        let policy = cors("https://a.example/, https://b.example");
        for (origin, allowed) in
            [("https://a.example", true), ("https://b.example", true), ("https://c.example", false)]
        {
            let mut response = Response::default();
            policy.decorate(&headers(&[("origin", origin)]), &mut response);
            let sent = response.headers().get("access-control-allow-origin");
            assert_eq!(sent.map(|v| v.to_str().unwrap()), allowed.then_some(origin));
            assert_eq!(response.headers()["vary"], "origin");
        }
    }

    #[test]
    fn preflights_are_answered_and_plain_options_are_not() {
        let ask = headers(&[
            ("origin", "https://a.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ]);
        let answer = cors("*").preflight(&Method::OPTIONS, &ask).unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["access-control-allow-headers"], "content-type");
        assert!(cors("*").preflight(&Method::GET, &ask).is_none());
        assert!(cors("*").preflight(&Method::OPTIONS, &headers(&[("origin", "x")])).is_none());
        assert_eq!(cors("None").preflight(&Method::OPTIONS, &ask).unwrap().status(), StatusCode::FORBIDDEN);
    }
}
