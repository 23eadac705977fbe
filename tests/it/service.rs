//! The service under load: fairness, refusals, disconnected clients, batches, metrics, shutdown.
#![cfg(unix)]

use crate::support::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn full_queue_is_429_with_retry_after() {
    let service = Service::start(|settings| {
        settings.limits.queue_size = 4;
        settings.models.num_workers = 1;
    });
    std::thread::scope(|scope| {
        // Larger than the queue, but the queue is empty.
        let large = scope.spawn(|| service.post("/extract", &portraits(200)).status());
        until(&service, "ifr_queue_images", |waiting| waiting > 50.0);
        for (path, body) in
            [("/extract", portraits(1)), ("/draw_detections", json!({"images": {"data": [portrait64()]}}))]
        {
            let asked = Instant::now();
            let refused = service.post(path, &body);
            assert_eq!(refused.status(), 429, "{path}");
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds));
            assert!(refused.json::<Value>().unwrap()["detail"].as_str().unwrap().contains("try again"));
        }
        // The refusals were immediate.
        assert!(metric(&service, "ifr_queue_images") > 4.0);
        assert_eq!(metric(&service, "ifr_images_refused_total"), 2.0);
        assert_eq!(large.join().unwrap(), 200);
    });
    // The queue accepts requests again.
    assert_eq!(service.post("/extract", &portraits(1)).status(), 200);
}

#[test]
fn images_of_gone_clients_are_dropped() {
    let service = Service::start(|settings| {
        settings.models.num_workers = 1;
        // The client disconnects long before most of its images are processed, on slow machines, too.
        settings.models.max_size = "640,640".parse().unwrap();
    });
    let body = portraits(150).to_string();
    let mut stream = TcpStream::connect(service.address).unwrap();
    write!(stream, "POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    until(&service, "ifr_queue_images", |waiting| waiting > 100.0);
    drop(stream);
    until(&service, "ifr_requests_total{route=\"/extract\",status=\"499\"}", |gone| gone == 1.0);
    let dropped = until(&service, "ifr_images_dropped_total{reason=\"client_gone\"}", |dropped| dropped > 0.0);
    assert!((75.0..=150.0).contains(&dropped), "{dropped}");
    assert_eq!(metric(&service, "ifr_queue_images"), 0.0);
    until(&service, "ifr_decoded_pixels", |pixels| pixels == 0.0);
    let looked_at = metric(&service, "ifr_stage_seconds_count{stage=\"detect\"}");
    assert!(looked_at <= 150.0 - dropped, "{looked_at} of 150 although {dropped} were dropped");
    assert_eq!(service.extract(portraits(1))["data"][0]["status"], "ok");
}

#[test]
fn concurrent_requests_are_batched_with_equal_answers() {
    let body = |n: usize| {
        let pictures = [portrait64(), base64(&three_faces()), base64(&empty_scene())];
        json!({"images": {"data": [pictures[n % 3]]}, "return_landmarks": true})
    };
    let single = Service::start(|_| {});
    let expected: Vec<Value> = (0..3).map(|n| single.extract(body(n))).collect();
    let service = Service::start(|settings| {
        settings.models.num_workers = 1;
        settings.models.det_batch_size = 4;
        settings.models.rec_batch_size = 4;
    });
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|client| {
                let (service, body) = (&service, &body);
                scope.spawn(move || (0..8).map(|n| service.extract(body(client + n))).collect::<Vec<_>>())
            })
            .collect();
        for (client, answers) in clients.into_iter().enumerate() {
            for (n, answer) in answers.join().unwrap().into_iter().enumerate() {
                same_faces(&answer["data"][0], &expected[(client + n) % 3]["data"][0]);
            }
        }
    });
    for stage in ["detect", "recognise"] {
        let passes = metric(&service, &format!("ifr_batch_size_count{{stage=\"{stage}\"}}"));
        let single = metric(&service, &format!("ifr_batch_size_bucket{{stage=\"{stage}\",le=\"1\"}}"));
        let bounded = metric(&service, &format!("ifr_batch_size_bucket{{stage=\"{stage}\",le=\"4\"}}"));
        assert!(single < passes, "{stage}: {single} of {passes} passes were of one");
        assert_eq!(bounded, passes, "{stage}");
    }
    assert_eq!(metric(&service, "ifr_batch_size_sum{stage=\"detect\"}"), 96.0);
}

/// Equal except for rounding differences.
fn same_faces(ours: &Value, expected: &Value) {
    let faces = |image: &Value| image["faces"].as_array().unwrap().clone();
    assert_eq!(faces(ours).len(), faces(expected).len());
    for (a, b) in faces(ours).iter().zip(faces(expected)) {
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        for (a, b) in numbers(&a["bbox"]).into_iter().zip(numbers(&b["bbox"])) {
            assert!((a - b).abs() <= 1.0, "{a} {b}");
        }
        let cosine: f64 = numbers(&a["vec"]).iter().zip(numbers(&b["vec"])).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.9999, "{cosine}");
        assert!((a["prob"].as_f64().unwrap() - b["prob"].as_f64().unwrap()).abs() < 1e-3);
    }
}

#[test]
fn metrics_count_requests_images_and_faces() {
    let service = Service::start(|settings| settings.limits.queue_size = 77);
    service.extract(json!({"images": {"data": [portrait64()]}, "return_face_data": true}));
    let crop = service.extract(json!({"images": {"data": [portrait64(), "!", "YQ=="]}, "return_face_data": true}));
    let crop = crop["data"][0]["faces"][0]["facedata"].clone();
    service.extract(json!({"images": {"data": [crop, portrait64()]}, "embed_only": true}));
    service.post("/draw_detections", &json!({"images": {"data": [portrait64()]}}));
    service.get("/nothing");
    service.get("/made/up");
    service.post("/extract", &json!({}));
    service.get("/docs/swagger-ui.css");

    let response = service.get("/metrics");
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = response.text().unwrap();
    for (name, expected) in [
        ("ifr_requests_total{route=\"/extract\",status=\"200\"}", 3.0),
        ("ifr_requests_total{route=\"/extract\",status=\"422\"}", 1.0),
        ("ifr_requests_total{route=\"/draw_detections\",status=\"200\"}", 1.0),
        ("ifr_requests_total{route=\"other\",status=\"404\"}", 2.0),
        ("ifr_requests_total{route=\"/docs\",status=\"200\"}", 1.0),
        ("ifr_requests_in_flight", 1.0),
        ("ifr_images_total", 7.0),
        ("ifr_faces_total", 4.0),
        ("ifr_image_failures_total{kind=\"read\"}", 1.0),
        ("ifr_image_failures_total{kind=\"decode\"}", 1.0),
        ("ifr_image_failures_total{kind=\"crop\"}", 1.0),
        ("ifr_image_failures_total{kind=\"inference\"}", 0.0),
        ("ifr_image_failures_total{kind=\"panic\"}", 0.0),
        ("ifr_images_dropped_total{reason=\"client_gone\"}", 0.0),
        ("ifr_images_dropped_total{reason=\"deadline\"}", 0.0),
        ("ifr_images_refused_total", 0.0),
        ("ifr_queue_images", 0.0),
        ("ifr_queue_capacity", 77.0),
        ("ifr_models_loaded", 2.0),
        ("ifr_ready", 1.0),
        // Three photos and one crop were processed. One crop was not a crop, and one image was not a picture.
        ("ifr_stage_seconds_count{stage=\"queue\"}", 4.0),
        ("ifr_stage_seconds_count{stage=\"read\"}", 4.0),
        ("ifr_stage_seconds_count{stage=\"decode\"}", 6.0),
        ("ifr_stage_seconds_count{stage=\"detect\"}", 3.0),
        ("ifr_stage_seconds_count{stage=\"align\"}", 2.0),
        ("ifr_stage_seconds_count{stage=\"recognise\"}", 3.0),
        ("ifr_stage_seconds_count{stage=\"encode\"}", 4.0),
        ("ifr_stage_seconds_count{stage=\"total\"}", 4.0),
        ("ifr_batch_size_count{stage=\"detect\"}", 3.0),
        ("ifr_batch_size_sum{stage=\"recognise\"}", 3.0),
    ] {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value: f64 = value.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap();
        assert_eq!(value, expected, "{name} in\n{page}");
    }
    until(&service, "ifr_workers_busy", |busy| busy == 0.0);
    assert!(metric(&service, "process_resident_memory_bytes") > 1e7);
    assert!(metric(&service, "ifr_stage_seconds_sum{stage=\"detect\"}") > 0.0);
    // The page has only comments and values, and every value follows the header of its family.
    let mut family = "";
    for line in page.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => family = rest.split(' ').next().unwrap(),
            None => assert!(line.starts_with('#') || line.starts_with(family), "{line} below {family}"),
        }
    }
}

/// Dashboards and alerts of users depend on these names, so the snapshot must not change.
#[test]
fn metrics_names_types_and_labels() {
    let program = Program::start(&[]);
    assert_eq!(program.post("/extract", &json!({"images": data()})).status(), 200);
    assert_eq!(program.post("/extract", &json!({})).status(), 422);
    assert_eq!(program.get("/nothing").status(), 404);
    assert_eq!(program.get("/health").status(), 200);
    let response = program.get("/metrics");
    let mut lines = vec![format!("content-type: {}", response.headers()["content-type"].to_str().unwrap())];
    let page = response.text().unwrap();
    for line in page.lines().filter(|line| !line.starts_with("# HELP ")) {
        let line = if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 };
        lines.push(line.replace(env!("CARGO_PKG_VERSION"), "[version]"));
    }
    lines.sort();
    insta::assert_snapshot!("metrics", lines.join("\n"));
}

#[test]
fn probes_need_no_key_metrics_do() {
    use ifr::config::{Secret, Setting};
    let service = Service::start(|settings| settings.access.api_key = Setting(Some(Secret::new("swordfish"))));
    for path in ["/health/live", "/health/ready", "/health"] {
        let response = service.get(path);
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.json::<Value>().unwrap(), json!({"status": "ok"}), "{path}");
    }
    assert_eq!(service.get("/metrics").status(), 401);
    assert_eq!(service.post("/health/ready", &json!({})).status(), 405);
}

/// Sends a request without waiting for the answer.
pub fn send(address: SocketAddr, body: &Value) -> std::io::Result<TcpStream> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address)?;
    let head = "POST /extract HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: the-one";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    Ok(stream)
}

#[test]
fn shutdown_answers_requests_in_flight() {
    for signal in ["-TERM", "-INT"] {
        let times = [("HEADER_TIMEOUT", "60"), ("SHUTDOWN_TIMEOUT", "60")];
        let mut program = Program::start(&[&times[..], &[("NUM_WORKERS", "1")]].concat());
        // A connection without a request must not delay the end of the process.
        let silent = TcpStream::connect(program.address).unwrap();
        let mut asked = send(program.address, &portraits(200)).unwrap();
        until(&program, "ifr_queue_images", |waiting| waiting > 100.0);
        program.signal(signal);
        program.line_with("in flight");
        let told = Instant::now();
        while TcpStream::connect(program.address).is_ok() {
            assert!(told.elapsed() < Duration::from_secs(10), "still takes connections");
            std::thread::sleep(Duration::from_millis(5));
        }
        asked.set_nonblocking(true).unwrap();
        let early = asked.peek(&mut [0]);
        assert!(early.is_err(), "took connections as long as there was something to do: {early:?}");
        asked.set_nonblocking(false).unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["data"].as_array().unwrap().len(), 200);
        assert!(answer["data"].as_array().unwrap().iter().all(|image| image["status"] == "ok"));
        let line = program.line("request");
        assert_eq!(
            (&line["request_id"], &line["status"], &line["images"]),
            (&json!("the-one"), &json!(200), &json!(200))
        );
        assert!(line["ms"].as_f64().unwrap() > 1.0 && line["path"] == "/extract" && line["level"] == "INFO", "{line}");
        assert_eq!(program.exit_code(Duration::from_secs(20)), Some(0));
        drop(silent);
    }
}

#[test]
fn shutdown_timeout_ends_stuck_requests() {
    let mut program = Program::start(&[("SHUTDOWN_TIMEOUT", "1"), ("NUM_WORKERS", "1")]);
    // A request whose body is incomplete.
    let mut stuck = TcpStream::connect(program.address).unwrap();
    stuck.write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    // That request, and the one for the metrics.
    until(&program, "ifr_requests_in_flight", |requests| requests == 2.0);
    let asked = Instant::now();
    program.signal("-TERM");
    assert_eq!(program.exit_code(Duration::from_secs(10)), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
}
