//! `/docs`: Swagger UI from files stored in the program.
//!
//! The page and the script that starts it are in `assets/swagger`; the other files are those of Swagger UI's release,
//! compressed by `build.rs`.

use crate::server::State;
use crate::server::http::context::PathParams;
use crate::server::http::error::ApiError;
use crate::server::http::handler::{Answer, Handler, path_params};
use crate::server::http::responses::{redirect, with_type};
use crate::server::pages::encoding::{Coding, Packed};
use std::sync::Arc;
use warp::Filter;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::reply::Response;

/// The page. Its address is `/docs` without a slash at the end, so its files are below `docs/`. All addresses are
/// relative, because a proxy may add a prefix.
const PAGE: &str = include_str!("../../../assets/swagger/index.html");

/// One file of the page.
struct SwaggerFile {
    name: &'static str,
    content_type: &'static str,
    packed: Packed,
}

/// A file of the release.
macro_rules! released {
    ($name:literal: $content_type:literal) => {
        SwaggerFile {
            name: $name,
            content_type: $content_type,
            packed: Packed::new(Coding::Gzip, include_bytes!(concat!(env!("OUT_DIR"), "/swagger/", $name, ".gz"))),
        }
    };
}

static FILES: [SwaggerFile; 7] = [
    released!("swagger-ui.css": "text/css"),
    released!("index.css": "text/css"),
    released!("favicon-16x16.png": "image/png"),
    released!("favicon-32x32.png": "image/png"),
    released!("swagger-ui-bundle.js": "text/javascript"),
    released!("swagger-ui-standalone-preset.js": "text/javascript"),
    SwaggerFile {
        name: "swagger-initializer.js",
        content_type: "text/javascript",
        packed: Packed::new(Coding::Plain, include_bytes!("../../../assets/swagger/swagger-initializer.js")),
    },
];

/// The route of `GET /`: a redirect to the page.
pub fn root_route(_: &Arc<State>) -> Handler {
    warp::any().map(|| -> Answer { Ok(redirect("/docs")) }).boxed()
}

/// The route of `GET /docs`.
pub fn page_route(_: &Arc<State>) -> Handler {
    warp::any().map(|| -> Answer { Ok(with_type(PAGE, "text/html; charset=utf-8")) }).boxed()
}

/// The route of `GET /docs/`: a redirect to the page.
pub fn slash_route(_: &Arc<State>) -> Handler {
    warp::any().map(|| -> Answer { Ok(redirect("../docs")) }).boxed()
}

/// The route of `GET /docs/{*file}`.
pub fn file_route(_: &Arc<State>) -> Handler {
    let params = path_params().and(warp::header::headers_cloned());
    params.then(async |params: PathParams, headers: HeaderMap| file(params.get("file"), &headers).await).boxed()
}

/// The file with this name, in a coding that the client accepts. Errs with 404.
async fn file(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let file = FILES.iter().find(|file| file.name == name).ok_or(ApiError::NotFound)?;
    let mut response = file.packed.respond(headers).await?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_but_its_files_and_for_each_of_them() {
        let asked = PAGE.split('"').filter_map(|part| part.strip_prefix("docs/"));
        let mut asked: Vec<&str> = asked.collect();
        let mut there: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        asked.sort_unstable();
        there.sort_unstable();
        assert_eq!(asked, there);
        assert!(!PAGE.contains("://"));
    }

    #[tokio::test]
    async fn a_client_that_takes_gzip_gets_what_is_stored() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip"));
        let packed = file("swagger-ui.css", &headers).await.unwrap();
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        let plain = file("swagger-ui.css", &HeaderMap::new()).await.unwrap();
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        for answer in [packed, plain] {
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/css");
            assert_eq!(answer.headers()[header::VARY], "accept-encoding");
        }
        assert_eq!(file("swagger-ui.js", &headers).await.unwrap_err(), ApiError::NotFound);
    }

    #[test]
    fn every_file_unpacks() {
        for file in &FILES {
            let plain = file.packed.body(Coding::Plain).unwrap();
            let start: &[u8] = match file.content_type {
                "image/png" => b"\x89PNG",
                _ => &plain[..1],
            };
            assert!(plain.starts_with(start), "{}", file.name);
        }
        let stored: usize = FILES.iter().map(|file| file.packed.stored().len()).sum();
        assert!(stored < 600_000, "{stored} bytes of the program");
    }
}
