//! Finds the route of a request in the route table and calls its handler.

use crate::server::State;
use crate::server::http::context::{Context, PathParams};
use crate::server::http::error::ApiError;
use crate::server::http::handler::{Answer, Handler};
use crate::server::http::routes::{ROUTES, Route};
use bytes::Bytes;
use http_body_util::Full;
use std::convert::Infallible;
use std::sync::Arc;
use tower_service::Service;
use warp::filters::BoxedFilter;
use warp::http::request::Parts;
use warp::http::{Method, Request};
use warp::reply::Response;
use warp::{Filter, Rejection};

/// The routes of a table by path.
pub(super) struct RouteIndex {
    table: &'static [Route],
    /// Positions in the table of the routes of each path.
    paths: matchit::Router<Vec<usize>>,
}

impl RouteIndex {
    /// Indexes `table`.
    ///
    /// # Panics
    /// If two paths of the table can match the same path and neither has precedence.
    pub(super) fn new(table: &'static [Route]) -> Self {
        let mut paths = matchit::Router::new();
        for (position, route) in table.iter().enumerate() {
            if table[..position].iter().any(|earlier| earlier.path == route.path) {
                continue;
            }
            let positions = (position..table.len()).filter(|&other| table[other].path == route.path).collect();
            if let Err(error) = paths.insert(route.path, positions) {
                panic!("route {}: {error}", route.path);
            }
        }
        RouteIndex { table, paths }
    }

    pub(super) fn find(&self, path: &str) -> Option<PathMatch<'_>> {
        let found = self.paths.at(path).ok()?;
        let params = PathParams::new(found.params.iter());
        Some(PathMatch { table: self.table, positions: found.value, params })
    }
}

/// The routes of one path.
pub struct PathMatch<'a> {
    table: &'static [Route],
    /// Positions in the table, at least one.
    positions: &'a [usize],
    params: PathParams,
}

/// The route of one request.
pub struct RouteMatch {
    position: usize,
    params: PathParams,
}

impl PathMatch<'_> {
    /// Any route of the path, for the facts that all of them share.
    pub fn route(&self) -> &'static Route {
        &self.table[self.positions[0]]
    }

    /// The route that answers `method`. Errs with 405.
    pub fn with_method(self, method: &Method) -> Result<RouteMatch, ApiError> {
        let answers = |position: &&usize| self.table[**position].methods().any(|known| known == method);
        match self.positions.iter().find(answers) {
            Some(&position) => Ok(RouteMatch { position, params: self.params }),
            None => {
                let methods = self.positions.iter().flat_map(|&position| self.table[position].methods());
                Err(ApiError::MethodNotAllowed(methods.map(Method::as_str).collect::<Vec<_>>().join(", ")))
            }
        }
    }
}

/// The route table with its handlers.
pub struct Router {
    index: RouteIndex,
    /// The handlers, in the order of the table.
    filters: Vec<BoxedFilter<(Response,)>>,
}

impl Router {
    /// Makes the handlers of all routes.
    pub fn new(state: &Arc<State>) -> Self {
        let filters = ROUTES.iter().map(|route| answering((route.handler)(state))).collect();
        Router { index: RouteIndex::new(ROUTES), filters }
    }

    /// The routes of a path.
    pub fn find(&self, path: &str) -> Option<PathMatch<'_>> {
        self.index.find(path)
    }

    /// The path without the slash at its end, if requests are redirected to it.
    pub fn slash_redirect<'a>(&self, path: &'a str) -> Option<&'a str> {
        let target = path.strip_suffix('/')?;
        self.find(target).filter(|found| found.route().slash_redirect).map(|_| target)
    }

    /// Calls the handler of a request whose body has been read.
    pub async fn call(&self, route: RouteMatch, mut head: Parts, context: Context, body: Bytes) -> Response {
        head.extensions.insert(context);
        head.extensions.insert(route.params);
        let mut service = warp::service(self.filters[route.position].clone());
        let answer = service.call(Request::from_parts(head, Full::new(body)));
        answer.await.unwrap_or_else(|never: Infallible| match never {})
    }
}

/// A filter that turns the errors and rejections of a handler into answers.
fn answering(handler: Handler) -> BoxedFilter<(Response,)> {
    handler.map(|answer: Answer| answer.unwrap_or_else(ApiError::into_response)).recover(rejected).unify().boxed()
}

/// The answer if a filter could not extract an argument of the handler function.
async fn rejected(rejection: Rejection) -> Result<Response, Infallible> {
    tracing::debug!(?rejection, "a request was rejected before its handler");
    let error = match rejection.is_not_found() {
        true => ApiError::NotFound,
        false => ApiError::BadRequest("the request cannot be understood".into()),
    };
    Ok(error.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::api::health::live_route;
    use crate::server::http::routes::{get, post};

    fn label(path: &str) -> Option<&'static str> {
        RouteIndex::new(ROUTES).find(path).map(|found| found.route().label)
    }

    #[test]
    fn paths_lead_to_their_routes() {
        assert_eq!(label("/demo/pkg/ifr.js"), Some("/demo"));
        assert_eq!(label("/demo/"), Some("/demo"));
        assert_eq!(label("/docs/"), Some("/docs"));
        assert_eq!(label("/health/live"), Some("/health/live"));
        for path in ["", "/extract/", "/demos", "/x", "//docs", "/health/other"] {
            assert_eq!(label(path), None, "{path}");
        }
    }

    /// The shape of routes with parameters: several methods per path, and a fixed segment beside a parameter.
    static PEOPLE: &[Route] = &[
        get("/collections/{id}/people", live_route),
        post("/collections/{id}/people", live_route),
        get("/collections/{id}/people/{person}", live_route).head(),
        get("/collections/{id}/people/search", live_route),
    ];

    #[test]
    fn path_parameters_are_extracted() {
        let index = RouteIndex::new(PEOPLE);
        let found = index.find("/collections/staff/people/J%C3%B6rg").unwrap();
        assert_eq!(found.route().label, "/collections/{id}/people/{person}");
        let route = found.with_method(&Method::HEAD).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((route.position, route.params.get("id"), route.params.get("person")), (2, "staff", "Jörg"));
        assert_eq!(index.find("/collections/staff/people/search").unwrap().route().path, PEOPLE[3].path);
        for path in ["/collections//people", "/collections/staff/people/", "/collections/a/b/people"] {
            assert!(index.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn methods_select_among_the_routes_of_a_path() {
        let index = RouteIndex::new(PEOPLE);
        let position = |method: Method| {
            index.find("/collections/staff/people").unwrap().with_method(&method).map(|route| route.position)
        };
        assert_eq!((position(Method::GET), position(Method::POST)), (Ok(0), Ok(1)));
        assert_eq!(position(Method::HEAD), Err(ApiError::MethodNotAllowed("GET, POST".into())));
    }

    #[test]
    #[should_panic(expected = "route /{b}/x")]
    fn ambiguous_paths_are_refused() {
        RouteIndex::new(const { &[get("/{a}/x", live_route), get("/{b}/x", live_route)] });
    }
}
