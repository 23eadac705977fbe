//! The route table: everything that the pipeline, the access log and the metrics need to know of an endpoint.

/// One endpoint, or the files below one path.
#[derive(Debug)]
pub struct Route {
    /// The path; it also names the route in metrics.
    pub path: &'static str,
    /// The methods, as in an Allow header.
    pub methods: &'static str,
    /// Paths below `path` belong to the route.
    pub files: bool,
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
pub const ROUTES: &[Route] = &[
    Route::post("/extract").documented().slash_redirect(),
    Route::post("/draw_detections").documented().slash_redirect(),
    Route::post("/multipart/draw_detections").documented().slash_redirect(),
    Route::get("/info").documented().slash_redirect(),
    Route::get("/health").documented().public().slash_redirect().overflow(Overflow::Limited),
    Route::get("/health/live").documented().public().quiet().overflow(Overflow::Answered),
    Route::get("/health/ready").documented().public().quiet().overflow(Overflow::Answered),
    Route::get("/metrics").documented().quiet(),
    Route::get("/openapi.json").public(),
    Route::get("/").public(),
    Route::get("/docs").public().files(),
    Route::new("/demo", "GET, HEAD").public().files(),
];

impl Route {
    const fn new(path: &'static str, methods: &'static str) -> Self {
        Route {
            path,
            methods,
            files: false,
            public: false,
            quiet: false,
            overflow: Overflow::Refused,
            slash_redirect: false,
            documented: false,
        }
    }

    const fn get(path: &'static str) -> Self {
        Route::new(path, "GET")
    }

    const fn post(path: &'static str) -> Self {
        Route::new(path, "POST")
    }

    const fn files(self) -> Self {
        Route { files: true, ..self }
    }

    const fn public(self) -> Self {
        Route { public: true, ..self }
    }

    const fn quiet(self) -> Self {
        Route { quiet: true, ..self }
    }

    const fn overflow(self, overflow: Overflow) -> Self {
        Route { overflow, ..self }
    }

    const fn slash_redirect(self) -> Self {
        Route { slash_redirect: true, ..self }
    }

    const fn documented(self) -> Self {
        Route { documented: true, ..self }
    }

    fn matches(&self, path: &str) -> bool {
        path.strip_prefix(self.path).is_some_and(|below| below.is_empty() || self.files && below.starts_with('/'))
    }
}

/// The route of a path.
pub fn find(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.matches(path))
}

/// The path as metrics name it: the route's path, or `other`.
pub fn label(path: &str) -> &'static str {
    find(path).map_or("other", |route| route.path)
}

/// Whether a path needs no API key. Unknown paths below `/health/` need none either: they are answered 404.
pub fn is_public(path: &str) -> bool {
    find(path).map_or(path.starts_with("/health/"), |route| route.public)
}

/// The path that a request with a slash at its end is redirected to.
pub fn slash_redirect(path: &str) -> Option<&'static str> {
    find(path.strip_suffix('/')?).filter(|route| route.slash_redirect).map(|route| route.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::api::openapi;
    use std::collections::BTreeSet;

    #[test]
    fn only_health_and_docs_are_public() {
        for path in ["/", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/health", "/health/live", "/health/other"]
        {
            assert!(is_public(path), "{path}");
        }
        for path in ["/extract", "/info", "/docsx", "/healthz", "//docs", "/draw_detections", "/metrics"] {
            assert!(!is_public(path), "{path}");
        }
    }

    #[test]
    fn paths_lead_to_their_routes() {
        assert_eq!(label("/demo/pkg/ifr.js"), "/demo");
        assert_eq!(label("/docs/"), "/docs");
        for path in ["", "/extract/", "/demos", "/x"] {
            assert_eq!(label(path), "other", "{path}");
        }
        assert_eq!(slash_redirect("/extract/"), Some("/extract"));
        assert_eq!(slash_redirect("/extract"), None);
        assert_eq!(slash_redirect("/metrics/"), None);
    }

    #[test]
    fn the_openapi_document_lists_the_documented_routes() {
        let methods = |value: &serde_json::Value| {
            let methods: Vec<String> = value.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
            methods.join(", ")
        };
        let document = openapi::description(&crate::config::Settings::defaults());
        let listed: BTreeSet<(String, String)> =
            document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), methods(item))).collect();
        let documented = ROUTES.iter().filter(|route| route.documented);
        let documented = documented.map(|route| (route.path.to_string(), route.methods.to_string())).collect();
        assert_eq!(listed, documented);
    }
}
