//! The route table: one line per endpoint, with everything that the service needs to know of it.

use crate::server::State;
use crate::server::api::{draw, extract, health, info, metrics, openapi};
use crate::server::http::handler::Handler;
use crate::server::pages::{demo, swagger};
use std::sync::Arc;
use warp::http::Method;

/// One endpoint: a path, a method and the handler.
///
/// Routes of one path differ in their methods. Facts about the path (`label`, `public`, `quiet`, `overflow` and
/// `slash_redirect`) are the same in all of them.
#[derive(Debug)]
pub struct Route {
    /// The path. A segment `{name}` matches any one segment, `{*name}` at the end matches the rest of the path. Fixed
    /// segments have precedence over parameters; paths with no order between them are refused at the start.
    pub path: &'static str,
    /// The method.
    pub method: Method,
    /// Also answers HEAD. The handler is the same; hyper leaves the body out.
    pub head: bool,
    /// Makes the handler from the state of the service, once at the start.
    pub handler: fn(&Arc<State>) -> Handler,
    /// The name in metrics; by default the path.
    pub label: &'static str,
    /// Needs no API key.
    pub public: bool,
    /// Successful requests are logged at debug level only: monitoring sends them every few seconds.
    pub quiet: bool,
    /// Treatment on connections beyond MAX_CONNECTIONS.
    pub overflow: Overflow,
    /// The path with a slash at its end redirects to `path`, as in the original.
    pub slash_redirect: bool,
    /// Part of the OpenAPI document.
    pub documented: bool,
}

/// Treatment of a route on connections beyond MAX_CONNECTIONS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Answered 503.
    Refused,
    /// Answered, up to a maximum number at the same time.
    Limited,
    /// Answered.
    Answered,
}

/// All endpoints of the service.
pub static ROUTES: &[Route] = &[
    post("/extract", extract::route).documented().slash_redirect(),
    post("/draw_detections", draw::route).documented().slash_redirect(),
    post("/multipart/draw_detections", draw::form_route).documented().slash_redirect(),
    get("/info", info::route).documented().slash_redirect(),
    get("/health", health::route).documented().public().slash_redirect().overflow(Overflow::Limited),
    get("/health/live", health::live_route).documented().public().quiet().overflow(Overflow::Answered),
    get("/health/ready", health::ready_route).documented().public().quiet().overflow(Overflow::Answered),
    get("/metrics", metrics::route).documented().quiet(),
    get("/openapi.json", openapi::route).public(),
    get("/", swagger::root_route).public(),
    get("/docs", swagger::page_route).public(),
    get("/docs/", swagger::slash_route).public().label("/docs"),
    get("/docs/{*file}", swagger::file_route).public().label("/docs"),
    get("/demo", demo::route).head().public(),
    get("/demo/", demo::route).head().public().label("/demo"),
    get("/demo/{*file}", demo::route).head().public().label("/demo"),
];

const fn new(method: Method, path: &'static str, handler: fn(&Arc<State>) -> Handler) -> Route {
    Route {
        path,
        method,
        head: false,
        handler,
        label: path,
        public: false,
        quiet: false,
        overflow: Overflow::Refused,
        slash_redirect: false,
        documented: false,
    }
}

/// A route for GET.
pub const fn get(path: &'static str, handler: fn(&Arc<State>) -> Handler) -> Route {
    new(Method::GET, path, handler)
}

/// A route for POST.
pub const fn post(path: &'static str, handler: fn(&Arc<State>) -> Handler) -> Route {
    new(Method::POST, path, handler)
}

impl Route {
    /// Also answers HEAD.
    pub const fn head(mut self) -> Self {
        self.head = true;
        self
    }

    const fn label(mut self, label: &'static str) -> Self {
        self.label = label;
        self
    }

    const fn public(mut self) -> Self {
        self.public = true;
        self
    }

    const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    const fn slash_redirect(mut self) -> Self {
        self.slash_redirect = true;
        self
    }

    const fn documented(mut self) -> Self {
        self.documented = true;
        self
    }

    /// The methods that the route answers.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        std::iter::once(&self.method).chain(self.head.then_some(&Method::HEAD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_openapi_document_lists_the_documented_routes() {
        let document = openapi::description(&crate::config::Settings::defaults());
        let mut listed = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            listed.extend(item.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase())));
        }
        let documented = ROUTES.iter().filter(|route| route.documented);
        let documented = documented.map(|route| (route.path.to_string(), route.method.to_string())).collect();
        assert_eq!(listed, documented);
    }

    #[test]
    fn routes_of_one_path_agree_on_its_facts() {
        let facts = |route: &Route| (route.label, route.public, route.quiet, route.overflow, route.slash_redirect);
        for route in ROUTES {
            let same_path = ROUTES.iter().filter(|other| other.path == route.path);
            assert!(same_path.clone().all(|other| facts(other) == facts(route)), "{}", route.path);
            let methods: Vec<&Method> = same_path.flat_map(Route::methods).collect();
            let different: BTreeSet<&str> = methods.iter().map(|method| method.as_str()).collect();
            assert_eq!(methods.len(), different.len(), "{}: {methods:?}", route.path);
        }
    }
}
