//! The type of an endpoint's handler, and the warp filters that handlers share.

use crate::server::http::context::{Context, PathParams};
use crate::server::http::error::ApiError;
use std::convert::Infallible;
use std::sync::Arc;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Rejection};

/// The result of a handler function.
pub type Answer = Result<Response, ApiError>;

/// A handler as the route table holds it: a warp filter that extracts what the handler function needs from the request
/// and calls it. The router has compared path and method before.
pub type Handler = BoxedFilter<(Answer,)>;

/// Passes a value that all requests share to the handler function.
pub fn shared<T: Send + Sync + 'static>(
    value: &Arc<T>,
) -> impl Filter<Extract = (Arc<T>,), Error = Infallible> + Clone + Send + Sync + 'static {
    let value = value.clone();
    warp::any().map(move || value.clone())
}

/// Extracts the context of the request.
pub fn context() -> impl Filter<Extract = (Context,), Error = Rejection> + Copy + Send + Sync + 'static {
    warp::ext::get::<Context>()
}

/// Extracts the values of the path's parameters.
pub fn path_params() -> impl Filter<Extract = (PathParams,), Error = Rejection> + Copy + Send + Sync + 'static {
    warp::ext::get::<PathParams>()
}
