//! Errors for clients: a status and `{"detail": ...}`, in the format of the original's framework.

use serde::Serialize;
use serde_json::Value as Json;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

/// Maximum size of a request's head (request line and headers) in bytes; also the size of reads.
pub(crate) const MAX_HEAD_BYTES: usize = 128 << 10;
/// Maximum number of headers in a request.
pub(crate) const MAX_HEADERS: usize = 100;

/// An error as a client sees it.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum ApiError {
    /// 422: the body has wrong fields.
    #[error("{} invalid field(s), first: {}", .0.len(), .0.first().map_or("", |f| f.msg.as_str()))]
    Invalid(Vec<FieldError>),
    /// 400: content of the request is missing or invalid, such as an unknown model; the text names it.
    #[error("{0}")]
    BadRequest(String),
    /// 401: the API key is missing or wrong.
    #[error("a valid API key is required: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'")]
    Unauthorized,
    /// 404: the path is unknown.
    #[error("Not Found")]
    NotFound,
    /// 405: the path has other methods, listed as in an Allow header.
    #[error("Method Not Allowed")]
    MethodNotAllowed(String),
    /// 408: the client was too slow in sending its request.
    #[error("the request did not arrive within {0} seconds")]
    SlowRequest(u64),
    /// 413: the body is longer than the limit, in bytes.
    #[error("the request body has more than {0} bytes")]
    BodyTooLarge(u64),
    /// 415: neither JSON nor MessagePack (or not multipart, where a form is expected).
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// 429: the queue is full.
    #[error("too many images are waiting; try again in {retry_after} s")]
    Busy {
        /// Seconds after which the client may try again.
        retry_after: u64,
    },
    /// 431: the head of the request is longer than the limits.
    #[error("the request line and headers have more than {bytes} bytes, or are more than {headers} headers")]
    HeadTooLarge {
        /// Maximum number of bytes.
        bytes: usize,
        /// Maximum number of headers.
        headers: usize,
    },
    /// 500: a failure of this program.
    #[error("{0}")]
    Internal(String),
    /// 503: the service has too much to do; the client may try again later.
    #[error("{0}")]
    Overloaded(String),
    /// 504: the request was started, but not finished in time.
    #[error("the request was not finished within {0} seconds")]
    Timeout(u64),
}

/// One wrong field, in the shape of `detail` entries of the original.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct FieldError {
    /// A stable name of the kind of error, such as `missing` or `int_parsing`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where: "body", then field names and list positions.
    pub loc: Vec<Loc>,
    /// One sentence.
    pub msg: String,
    /// The offending value, shortened.
    pub input: Json,
    /// Numbers that the message mentions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Json>,
}

/// A step on the way to a field.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(untagged)]
pub enum Loc {
    /// A field's name.
    Name(String),
    /// A position in a list, or a byte of a text that is not JSON.
    Index(u64),
}

impl From<&str> for Loc {
    fn from(name: &str) -> Self {
        Loc::Name(name.to_string())
    }
}

impl ApiError {
    /// 503: the number of connections is at its limit.
    pub(crate) fn too_many_connections() -> Self {
        ApiError::Overloaded("too many connections; try again later".into())
    }

    /// 431: the request's head is longer than the limits.
    pub(crate) fn head_too_large() -> Self {
        ApiError::HeadTooLarge { bytes: MAX_HEAD_BYTES, headers: MAX_HEADERS }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            ApiError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApiError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ApiError::Unauthorized => StatusCode::UNAUTHORIZED,
            ApiError::NotFound => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::SlowRequest(_) => StatusCode::REQUEST_TIMEOUT,
            ApiError::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ApiError::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            ApiError::Overloaded(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The body of the answer: JSON, independently of the Accept header.
    pub fn body(&self) -> String {
        let detail = match self {
            ApiError::Invalid(fields) => serde_json::to_value(fields).unwrap_or(Json::Null),
            other => Json::String(other.to_string()),
        };
        serde_json::json!({ "detail": detail }).to_string()
    }

    /// The headers of the answer that belong to the error.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            ApiError::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ApiError::MethodNotAllowed(allowed) => {
                headers.extend(HeaderValue::from_str(allowed).ok().map(|allowed| (header::ALLOW, allowed)));
            }
            ApiError::Busy { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
            }
            ApiError::Overloaded(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        headers
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let mut response = Response::new(self.body().into());
        *response.status_mut() = self.status();
        *response.headers_mut() = self.headers();
        response
    }
}
