//! Protection against clients: large bodies, floods, stalled clients, missing keys.

use crate::support::*;
use ifr::config::{Secret, Setting};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

// ---- Bodies --------------------------------------------------------------------------------------------------------

#[test]
fn bodies_over_the_limit_are_413() {
    let service = Service::start(|settings| settings.limits.max_body_size = 200_000);
    let too_large = json!({"images": {"data": ["A".repeat(200_000)]}});
    for path in ["/extract", "/draw_detections", "/multipart/draw_detections"] {
        let response = service.post(path, &too_large);
        assert_eq!(response.status(), 413, "{path}");
        assert_eq!(response.json::<Value>().unwrap()["detail"], "the request body has more than 200000 bytes");
    }
    // Chunked, without a length.
    let reader = std::io::Cursor::new(too_large.to_string().into_bytes());
    let chunked =
        service.client.post(service.url("/extract")).body(reqwest::blocking::Body::new(reader)).send().unwrap();
    assert_eq!(chunked.status(), 413);
    // Far beyond the limit, from a client that reads only after it has sent everything.
    let huge = service.client.post(service.url("/extract")).body(vec![b' '; 30_000_000]).send().unwrap();
    assert_eq!(huge.status(), 413);
    assert_eq!(service.get("/health").status(), 200);
}

#[test]
fn bodies_in_memory_are_bounded() {
    let service = Service::start(|settings| settings.limits.max_bodies_in_memory = 100_000);
    let response = service.post("/extract", &json!({"images": {"data": ["A".repeat(200_000)]}}));
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    // The budget is free again at the end of the request.
    assert_eq!(service.post("/extract", &json!({"images": {"data": ["A".repeat(90_000)]}})).status(), 200);
    assert_eq!(service.post("/extract", &json!({"images": {"data": ["A".repeat(90_000)]}})).status(), 200);
}

#[test]
fn wrong_content_length_allocates_nothing() {
    let service = service();
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000000000000000\r\n\r\n{").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Shorter than the body: the rest is parsed as the next request, and refused.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream
        .write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}garbage garbage\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 422");
}

#[test]
fn invalid_bodies_are_422_with_their_place() {
    let service = service();
    let post = |content_type: &str, body: &[u8]| {
        let request = service.client.post(service.url("/extract")).body(body.to_vec());
        let response = request.header("content-type", content_type).send().unwrap();
        (response.status().as_u16(), response.json::<Value>().unwrap())
    };
    for (body, kind) in [
        (&b""[..], "json_invalid"),
        (b"{", "json_invalid"),
        (b"{\"images\": {\"data\": [}}", "json_invalid"),
        (b"\xff\xfe", "json_invalid"),
        (b"{\"a\": NaN}", "json_invalid"),
        (b"{\"a\": 1} trailing", "json_invalid"),
        (b"null", "model_attributes_type"),
        (b"5", "model_attributes_type"),
        (b"[]", "model_attributes_type"),
        (b"{}", "missing"),
        (b"{\"images\": null}", "missing"),
        (b"{\"images\": 5}", "model_attributes_type"),
        (b"{\"images\": {\"data\": {}}}", "list_type"),
        (b"{\"images\": {\"data\": [{}]}}", "string_type"),
        (b"{\"images\": {\"data\": [null]}}", "string_type"),
        (b"{\"images\": {\"urls\": [[]]}}", "string_type"),
        (b"{\"images\": {}, \"limit_faces\": 1.5}", "int_from_float"),
        (b"{\"images\": {}, \"limit_faces\": []}", "int_type"),
        (b"{\"images\": {}, \"msgpack\": 7}", "bool_parsing"),
        (b"{\"images\": {}, \"det_name\": 7}", "string_type"),
        (b"{\"images\": {}, \"img_req_headers\": 7}", "dict_type"),
    ] {
        let (status, answer) = post("application/json", body);
        assert_eq!(status, 422, "{}", String::from_utf8_lossy(body));
        let error = &answer["detail"][0];
        assert_eq!(error["type"], kind, "{}: {answer}", String::from_utf8_lossy(body));
        assert_eq!(error["loc"][0], "body");
        assert!(error["msg"].is_string());
    }
    for body in [&b""[..], b"\xc1", b"\x82\xa6images", b"\xdf\xff\xff\xff\xff", b"{}", b"\x80\x80"] {
        let (status, answer) = post("application/msgpack", body);
        assert_eq!((status, &answer["detail"][0]["type"]), (422, &json!("msgpack_invalid")), "{body:?}");
    }
    assert_eq!(post("application/msgpack", b"\x80").1["detail"][0]["type"], "missing");
    assert_eq!(post("text/plain", b"{}").0, 415);
    let deep = "[".repeat(5_000_000);
    assert_eq!(post("application/json", deep.as_bytes()).0, 422);
    let many = json!({"images": {"data": vec!["YQ=="; 257]}}).to_string();
    assert_eq!(post("application/json", many.as_bytes()).1["detail"][0]["type"], "too_long");
    // A million of these small values would take 40 MB.
    let wide = format!("{{\"images\": {{\"data\": [{}1]}}}}", "1,".repeat(20_000_000));
    assert_eq!(post("application/json", wide.as_bytes()).0, 422);
}

#[test]
fn pictures_over_the_pixel_limit_fail_alone() {
    let service = Service::start(|settings| settings.limits.max_megapixels = 1);
    let wide = base64(&encode(&image::RgbImage::new(2000, 600), image::ImageFormat::Png));
    let answer = service.extract(json!({"images": {"data": [wide, portrait64()]}, "extract_embedding": false}));
    assert!(answer["data"][0]["traceback"].as_str().unwrap().contains("limit of 1 megapixels"), "{answer}");
    assert_eq!(answer["data"][1]["faces"].as_array().unwrap().len(), 1);
}

#[test]
fn img_req_headers_are_bounded() {
    let service = service();
    let many = |count: usize| (0..count).map(|n| (format!("x-{n}"), json!("y"))).collect::<Value>();
    for headers in [many(65), many(26_000), json!({"x": "a".repeat(5_000_000)})] {
        let response = service.post("/extract", &json!({"images": {"urls": []}, "img_req_headers": headers}));
        assert_eq!(response.status(), 422);
        let error = &response.json::<Value>().unwrap()["detail"][0];
        assert_eq!((&error["loc"], &error["type"]), (&json!(["body", "img_req_headers"]), &json!("too_long")));
    }
    assert_eq!(service.post("/extract", &json!({"images": {"urls": []}, "img_req_headers": many(64)})).status(), 200);
}

#[test]
fn forms_with_too_many_parts_are_400() {
    for name in ["file", "other", ""] {
        let part = format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n\r\n");
        let request = service().client.post(service().url("/multipart/draw_detections"));
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        let response = request.body(format!("{}--x--\r\n", part.repeat(200_000))).send().unwrap();
        assert_eq!(response.status(), 400, "{name}");
        let detail = response.json::<Value>().unwrap()["detail"].as_str().unwrap().to_string();
        assert!(detail.contains("more than 64 fields"), "{detail}");
    }
}

// ---- Time ----------------------------------------------------------------------------------------------------------

#[test]
fn request_timeout() {
    let host = HttpHost::start("127.0.0.2", |_, _, _| std::thread::sleep(Duration::from_secs(30)));
    let service = with_internet(FakeNames::default(), |settings| {
        settings.limits.request_timeout = Duration::from_secs(1);
        settings.sources.fetch_timeout = Duration::from_secs(20);
    });
    let started = Instant::now();
    let response = service.post("/extract", &json!({"images": {"urls": [host.url()]}}));
    assert_eq!(response.status(), 504);
    assert!(response.json::<Value>().unwrap()["detail"].as_str().unwrap().contains("1 seconds"));
    // The connection to the host is given up after half of the time for a fetch.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // A body that never arrives.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

// ---- Access --------------------------------------------------------------------------------------------------------

#[test]
fn api_key_guards_all_but_health_and_docs() {
    let service = Service::start(|settings| settings.access.api_key = Setting(Some(Secret::new("swordfish"))));
    for path in ["/info", "/nothing"] {
        let response = service.get(path);
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert!(response.json::<Value>().unwrap()["detail"].as_str().unwrap().contains("API key"));
    }
    for path in ["/extract", "/draw_detections", "/multipart/draw_detections"] {
        assert_eq!(service.post(path, &json!({})).status(), 401, "{path}");
    }
    for path in ["/health", "/docs", "/openapi.json", "/docs/swagger-ui.css"] {
        assert_eq!(service.get(path).status(), 200, "{path}");
    }
    let with =
        |name: &str, value: &str| service.client.get(service.url("/info")).header(name, value).send().unwrap().status();
    assert_eq!(with("authorization", "Bearer swordfish"), 200);
    assert_eq!(with("x-api-key", "swordfish"), 200);
    assert_eq!(with("x-api-key", "wrong"), 401);
    assert_eq!(with("authorization", "Basic swordfish"), 401);
    // A key in a URL is not accepted, because URLs are logged.
    assert_eq!(service.get("/info?api_key=swordfish").status(), 401);
}

#[test]
fn cors_origins() {
    let ask = |service: &Service, origin: &str| {
        let request =
            service.client.request(reqwest::Method::OPTIONS, service.url("/extract")).header("origin", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
            .unwrap()
    };
    let any = ask(service(), "https://a.example");
    assert_eq!((any.status().as_u16(), any.headers()["access-control-allow-origin"].to_str().unwrap()), (200, "*"));
    assert!(!any.headers().contains_key("access-control-allow-credentials"));
    let get = service().client.get(service().url("/info")).header("origin", "https://a.example").send().unwrap();
    assert_eq!(get.headers()["access-control-allow-origin"], "*");

    let strict = Service::start(|settings| {
        settings.access.cors_origins = "https://a.example".parse().unwrap();
        settings.access.api_key = Setting(Some(Secret::new("k")));
    });
    let known = ask(&strict, "https://a.example");
    assert_eq!(
        (known.status().as_u16(), known.headers()["access-control-allow-origin"].to_str().unwrap()),
        (200, "https://a.example")
    );
    let unknown = ask(&strict, "https://b.example");
    assert_eq!(unknown.status(), 403);
    assert!(!unknown.headers().contains_key("access-control-allow-origin"));
    // Pages must be able to read errors, too.
    let refused = strict.client.get(strict.url("/info")).header("origin", "https://a.example").send().unwrap();
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["access-control-allow-origin"].to_str().unwrap()),
        (401, "https://a.example")
    );
}

#[test]
fn answers_carry_a_request_id() {
    let service = service();
    let own = service.client.get(service.url("/info")).header("x-request-id", "mine-1").send().unwrap();
    assert_eq!(own.headers()["x-request-id"], "mine-1");
    for response in
        [service.get("/info"), service.get("/nothing"), service.post("/extract", &json!(5)), service.get("/extract")]
    {
        assert_eq!(response.headers()["x-request-id"].len(), 36);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}

// ---- Models --------------------------------------------------------------------------------------------------------

#[test]
fn model_switch_takes_installed_models_only() {
    let directory = tempfile::tempdir().unwrap();
    let install = |name: &str, source: &str| {
        let folder = directory.path().join("onnx").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let source = format!("{}/models/onnx/{source}/{source}.onnx", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(source, folder.join(format!("{name}.onnx"))).unwrap();
    };
    install("other_detector", "centerface");
    install("other_recognizer", "mobilefacenet");
    let broken = directory.path().join("onnx/broken");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(broken.join("broken.onnx"), b"no model").unwrap();
    let service = Service::start(|settings| {
        settings.models.models_dir = Setting(Some(directory.path().into()));
        settings.models.allow_model_switch = true;
        settings.models.max_loaded_models = 1;
    });
    let body = |field: &str, name: &str| json!({"data": [portrait64()], field: name});
    let plain = service.extract(json!({"data": [portrait64()]}));
    for (field, name) in
        [("det_name", "other_detector"), ("rec_name", "other_recognizer"), ("det_name", "other_detector")]
    {
        let answer = service.extract(body(field, name));
        assert_eq!(answer["data"][0]["faces"][0]["bbox"], plain["data"][0]["faces"][0]["bbox"], "{name}");
    }
    for (field, name, expected) in [
        ("det_name", "nothing", "installed: broken, centerface, mobilefacenet, other_detector, other_recognizer"),
        ("det_name", "../../../etc/passwd", "is not installed"),
        ("det_name", "broken", "cannot be used"),
        ("det_name", "mobilefacenet", "cannot be used"),
        ("rec_name", "centerface", "cannot be used"),
    ] {
        let response = service.post("/extract", &body(field, name));
        assert_eq!(response.status(), 400, "{field} {name}");
        let detail = response.json::<Value>().unwrap()["detail"].as_str().unwrap().to_string();
        assert!(detail.contains(expected), "{detail}");
        assert!(!detail.contains('\n'), "{detail}");
        // No path of the models directory and no message of the engine.
        let inner = [directory.path().to_str().unwrap(), "/onnx", ".onnx", "node", "shape"];
        assert!(!inner.iter().any(|word| detail.contains(word)), "{detail}");
    }
    // A hundred concurrent requests are all answered.
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || service.post("/extract", &json!({"data": [], "rec_name": "other_recognizer"})).status().as_u16();
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
}
