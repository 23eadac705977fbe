//! Answers that several routes share.

use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

/// A temporary redirect that keeps method and body.
pub fn redirect(target: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(target));
    response
}
