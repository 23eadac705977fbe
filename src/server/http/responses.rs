//! Answers that several routes share.

use crate::server::api::schema::value::Encoding;
use crate::server::http::error::ApiError;
use bytes::Bytes;
use serde::Serialize;
use std::error::Error;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

/// A temporary redirect that keeps method and body. Without effect if `target` is not a valid header value.
pub fn redirect(target: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(target) = HeaderValue::from_str(target) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

/// A body with its Content-Type.
pub fn with_type(body: impl Into<Bytes>, content_type: &'static str) -> Response {
    let mut response = Response::new(body.into().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer in the given encoding. Errs with 500 if the type cannot be serialized.
pub fn encoded<T: Serialize>(answer: &T, encoding: Encoding) -> Result<Response, ApiError> {
    let failed = |error: &dyn Error| ApiError::Internal(format!("the answer could not be written: {error}"));
    Ok(match encoding {
        Encoding::Json => with_type(serde_json::to_vec(answer).map_err(|error| failed(&error))?, "application/json"),
        Encoding::MessagePack => {
            with_type(rmp_serde::to_vec_named(answer).map_err(|error| failed(&error))?, "application/x-msgpack")
        }
    })
}

/// An answer as JSON.
pub fn json<T: Serialize>(answer: &T) -> Result<Response, ApiError> {
    encoded(answer, Encoding::Json)
}
