//! `/demo`: the page that detects faces in the browser, and its networks, from files stored in the program.
//!
//! `wasm/build.sh` makes the files in `wasm/dist`, compressed with brotli. They are sent unchanged to clients that accept
//! brotli (browsers: over HTTPS and from localhost only), and with gzip or plain to others.

use crate::models;
use crate::server::State;
use crate::server::http::error::ApiError;
use crate::server::http::handler::Handler;
use crate::server::http::responses::redirect;
use crate::server::pages::encoding::{Coding, Packed};
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use warp::Filter;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::path::FullPath;
use warp::reply::Response;

/// One file of the page.
struct DemoFile {
    name: &'static str,
    content_type: &'static str,
    packed: Packed,
    etag: OnceLock<HeaderValue>,
}

macro_rules! files {
    ($($name:literal: $content_type:literal),* $(,)?) => {
        [$(DemoFile {
            name: $name,
            content_type: $content_type,
            packed: Packed::new(Coding::Brotli, include_bytes!(concat!("../../../wasm/dist/", $name, ".br"))),
            etag: OnceLock::new(),
        }),*]
    };
}

static FILES: [DemoFile; 11] = files! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "worker.js": "text/javascript; charset=utf-8",
    "thread.js": "text/javascript; charset=utf-8",
    "sw.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.webmanifest": "application/manifest+json",
    "ifr_simd.wasm": "application/wasm",
    "ifr_relaxed.wasm": "application/wasm",
    "ifr_threads.wasm": "application/wasm",
};

/// The page connects to this server only, and runs only its own scripts and WebAssembly.
const POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; \
                      media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// The route of `/demo`, `/demo/` and `/demo/{*file}`. hyper sends the answer to `HEAD` without its body.
pub fn route(_: &Arc<State>) -> Handler {
    let path = warp::path::full().and(warp::header::headers_cloned());
    path.then(async |path: FullPath, headers: HeaderMap| respond(path.as_str(), &headers).await).boxed()
}

async fn respond(path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    // Addresses in the page are relative, because a proxy may add a prefix.
    let Some(name) = path.strip_prefix("/demo/") else {
        return Ok(redirect("demo/"));
    };
    if let Some(model) = name.strip_prefix("models/") {
        return model_file(model, headers).await;
    }
    let name = if name.is_empty() { "index.html" } else { name };
    let file = FILES.iter().find(|file| file.name == name).ok_or(ApiError::NotFound)?;
    let etag = file.etag.get_or_init(|| etag(file.packed.stored()));
    if let Some(unchanged) = not_modified(headers, etag) {
        return Ok(unchanged);
    }
    let mut response = file.packed.respond(headers).await?;
    decorate(&mut response, file.content_type, etag);
    Ok(response)
}

/// `/demo/models/NAME.onnx`: a network of the default pack, not compressed, because weights do not get smaller.
async fn model_file(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let bytes = name.strip_suffix(".onnx").and_then(models::embedded).ok_or(ApiError::NotFound)?;
    let etag = tokio::task::spawn_blocking(move || model_tag(bytes)).await;
    let etag = etag.map_err(|error| ApiError::Internal(error.to_string()))?;
    if let Some(unchanged) = not_modified(headers, &etag) {
        return Ok(unchanged);
    }
    let mut response = Response::new(Bytes::from_static(bytes).into());
    decorate(&mut response, "application/octet-stream", &etag);
    Ok(response)
}

/// The tag of an embedded network, from all of its bytes, because networks of one family have equal beginnings.
/// Computed once, in about 20 ms.
fn model_tag(bytes: &'static [u8]) -> HeaderValue {
    static KNOWN: Mutex<Vec<(usize, HeaderValue)>> = Mutex::new(vec![]);
    let mut known = KNOWN.lock();
    if let Some((_, tag)) = known.iter().find(|(start, _)| *start == bytes.as_ptr().addr()) {
        return tag.clone();
    }
    let tag = etag(bytes);
    known.push((bytes.as_ptr().addr(), tag.clone()));
    tag
}

fn decorate(response: &mut Response, content_type: &'static str, etag: &HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ETAG, etag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Cross-origin isolation, which the shared memory of the build with threads needs.
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-embedder-policy", HeaderValue::from_static("require-corp"));
}

fn etag(bytes: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let hex: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    // Weak: one tag for all codings of a file.
    HeaderValue::from_str(&format!("W/\"{hex}\"")).unwrap_or_else(|_| HeaderValue::from_static("W/\"0\""))
}

/// The answer 304 if the client has this version of the file.
fn not_modified(headers: &HeaderMap, etag: &HeaderValue) -> Option<Response> {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tag = etag.to_str().ok()?;
    known.flat_map(|line| line.split(',')).any(|known| known.trim() == tag).then(|| {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(header::ETAG, etag.clone());
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn every_file_unpacks_and_the_codings_agree() {
        for file in &FILES {
            let plain = file.packed.body(Coding::Plain).unwrap();
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&file.packed.body(Coding::Gzip).unwrap()[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(!plain.is_empty() && plain == unpacked, "{}", file.name);
            let start: &[u8] = match file.name.rsplit('.').next() {
                Some("wasm") => b"\0asm",
                Some("html") => b"<!doctype html>",
                _ => &plain[..1],
            };
            assert!(plain.starts_with(start), "{}", file.name);
        }
    }

    /// Clients that ask and do not read hold one copy between them, not one each.
    #[test]
    fn answers_share_their_bytes() {
        let file = FILES.iter().find(|file| file.name == "ifr_simd.wasm").unwrap();
        for coding in [Coding::Brotli, Coding::Gzip, Coding::Plain] {
            let first = file.packed.body(coding).unwrap();
            assert_eq!(first.as_ptr(), file.packed.body(coding).unwrap().as_ptr(), "{coding:?}");
        }
        let plain = file.packed.body(Coding::Plain).unwrap();
        let again = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| file.packed.body(Coding::Plain).unwrap())).collect();
            asked.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(again.iter().all(|bytes| bytes.as_ptr() == plain.as_ptr()));
    }

    #[test]
    fn the_tag_of_a_network_is_of_all_its_bytes() {
        let bytes = models::embedded("centerface").unwrap();
        let mut changed = bytes.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        assert_ne!(model_tag(bytes), model_tag(changed.leak()));
        assert_eq!(model_tag(bytes), model_tag(bytes));
    }

    #[test]
    fn the_page_is_within_its_budget() {
        for file in FILES.iter().filter(|file| file.name.ends_with(".wasm")) {
            assert!(file.packed.stored().len() <= 2_000_000, "{} has {} bytes", file.name, file.packed.stored().len());
        }
    }

    async fn get(path: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
        respond(path, &headers).await.unwrap_or_else(ApiError::into_response)
    }

    #[tokio::test]
    async fn the_page_its_files_and_its_networks_are_there() {
        let page = get("/demo/").await;
        assert_eq!(page.headers()[header::CONTENT_ENCODING], "br");
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(get("/demo").await.headers()[header::LOCATION], "demo/");
        assert_eq!(get("/demo/ifr_simd.wasm").await.headers()[header::CONTENT_TYPE], "application/wasm");
        for name in ["centerface", "mobilefacenet"] {
            let model = get(&format!("/demo/models/{name}.onnx")).await;
            assert_eq!(model.status(), StatusCode::OK);
            assert!(model.headers().get(header::CONTENT_ENCODING).is_none());
        }
        let mut known = HeaderMap::new();
        known.insert(header::IF_NONE_MATCH, page.headers()[header::ETAG].clone());
        assert_eq!(respond("/demo/", &known).await.unwrap().status(), StatusCode::NOT_MODIFIED);
        for missing in
            ["/demo/nothing", "/demo/models/", "/demo/models/..", "/demo/../Cargo.toml", "/demo/models/glintr100.onnx"]
        {
            assert_eq!(get(missing).await.status(), StatusCode::NOT_FOUND, "{missing}");
        }
    }
}
