//! The service under load, and as operators see it: turns, refusals, clients that leave, batches, metrics, stopping.
#![cfg(unix)]

mod api_support;

use api_support::program::Program;
use api_support::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Detection alone of the portrait, so many times.
fn portraits(count: usize) -> Value {
    json!({"images": {"data": vec![portrait64(); count]}, "extract_embedding": false})
}

#[test]
fn one_image_overtakes_two_hundred() {
    let service = Service::start(|_| {});
    service.extract(portraits(1));
    std::thread::scope(|scope| {
        let large = scope.spawn(|| {
            let started = Instant::now();
            let answer = service.extract(portraits(200));
            assert!(answer["data"].as_array().unwrap().iter().all(|image| image["faces"][0]["prob"].is_number()));
            started.elapsed()
        });
        until(&service, "ifr_queue_images", |waiting| waiting > 100.0);
        // More than once, as a machine may be busy with other things for a moment: who waits for all is asked but once.
        let mut small = vec![];
        while small.len() < 5 && metric(&service, "ifr_queue_images") > 50.0 {
            let asked = Instant::now();
            let answer = service.extract(portraits(1));
            small.push(asked.elapsed());
            assert_eq!(answer["data"][0]["status"], "ok");
            assert!(small.len() > 1 || !large.is_finished());
        }
        let (small, large) = (small.into_iter().min().unwrap(), large.join().unwrap());
        assert!(small * 5 < large, "one image took {small:?} beside two hundred in {large:?}");
    });
}

#[test]
fn a_full_queue_is_429_at_once_with_a_time_to_come_back() {
    let service = Service::start(|settings| {
        settings.limits.queue_size = 4;
        settings.models.num_workers = 1;
    });
    std::thread::scope(|scope| {
        // More than fits, but nobody else waits.
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
        // Nobody waited until there was room.
        assert!(metric(&service, "ifr_queue_images") > 4.0);
        assert_eq!(metric(&service, "ifr_images_refused_total"), 2.0);
        assert_eq!(large.join().unwrap(), 200);
    });
    // There is room again.
    assert_eq!(service.post("/extract", &portraits(1)).status(), 200);
}

#[test]
fn images_of_clients_that_have_gone_are_dropped_and_counted() {
    let service = Service::start(|settings| {
        settings.models.num_workers = 1;
        // As slow as it may be: the client goes long before most of its images have had their turn.
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
fn what_comes_together_is_batched_and_answered_as_before() {
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

/// The same but for the noise of another order of additions.
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
fn metrics_are_what_happened() {
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
        // Three photos and a crop had their turn; of the crops, one was none, and one image was no picture.
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
    // Nothing on the page but comments and values, and every value below its family.
    let mut family = "";
    for line in page.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(rest) => family = rest.split(' ').next().unwrap(),
            None => assert!(line.starts_with('#') || line.starts_with(family), "{line} below {family}"),
        }
    }
}

#[test]
fn probes_are_answered_without_a_key_and_metrics_are_not() {
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

/// Sends a request and does not wait for the answer.
fn send(address: SocketAddr, body: &Value) -> std::io::Result<TcpStream> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address)?;
    let head = "POST /extract HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: the-one";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    Ok(stream)
}

#[test]
fn a_request_in_flight_is_answered_before_the_process_ends() {
    for signal in ["-TERM", "-INT"] {
        let times = [("HEADER_TIMEOUT", "60"), ("SHUTDOWN_TIMEOUT", "60")];
        let mut program = Program::start(&[&times[..], &[("NUM_WORKERS", "1")]].concat());
        // A connection that asks nothing must not hold the process up.
        let silent = TcpStream::connect(program.address).unwrap();
        let mut asked = send(program.address, &portraits(200)).unwrap();
        until(&program, "ifr_queue_images", |waiting| waiting > 100.0);
        program.signal(signal);
        program.log.iter().find(|line| line["message"].as_str().is_some_and(|m| m.contains("in flight"))).unwrap();
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
fn a_request_that_does_not_end_is_given_up_on() {
    let mut program = Program::start(&[("SHUTDOWN_TIMEOUT", "1"), ("NUM_WORKERS", "1")]);
    // A body of which most is missing.
    let mut stuck = TcpStream::connect(program.address).unwrap();
    stuck.write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    // It, and the one that asks.
    until(&program, "ifr_requests_in_flight", |requests| requests == 2.0);
    let asked = Instant::now();
    program.signal("-TERM");
    assert_eq!(program.exit_code(Duration::from_secs(10)), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_accepted() {
    let mut program = Program::start(&[]);
    let (address, stopped) = (program.address, OnceLock::new());
    // When each request had been sent, and what came of it.
    let ask = || {
        let mut answers = Vec::new();
        while stopped.get().is_none() {
            let Ok(mut stream) = send(address, &portraits(2)) else { break };
            let sent = Instant::now();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answers.push((sent, Instant::now(), answer));
        }
        answers
    };
    let answers: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        std::thread::sleep(Duration::from_secs(1));
        stopped.set(Instant::now()).unwrap();
        program.signal("-TERM");
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let stopped = stopped.into_inner().unwrap();
    let accepted: Vec<_> = answers.iter().filter(|(sent, ..)| *sent < stopped).collect();
    for (_, _, answer) in &accepted {
        let complete = answer.starts_with("HTTP/1.1 200") && answer.matches("\"status\":\"ok\"").count() == 2;
        assert!(complete, "an accepted request was answered {answer:?}");
    }
    let in_flight = accepted.iter().filter(|(_, answered, _)| *answered > stopped).count();
    assert!(in_flight >= 8, "{in_flight} of {} requests were in flight", accepted.len());
    assert_eq!(program.exit_code(Duration::from_secs(20)), Some(0));
}

#[test]
fn overload_gives_answers_and_429_and_nothing_else() {
    let program = Program::start(&[("QUEUE_SIZE", "4"), ("NUM_WORKERS", "1")]);
    let until = Instant::now() + Duration::from_secs(3);
    let (mut answered, mut refused) = (Vec::new(), 0);
    let mut live = Vec::new();
    let (client, extract, body) = (client(), program.url("/extract"), portraits(1).to_string());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let mut statuses = Vec::new();
                    while Instant::now() < until {
                        let asked = Instant::now();
                        let response = client.post(&extract).body(body.clone()).send().unwrap();
                        statuses.push((response.status().as_u16(), asked.elapsed()));
                    }
                    statuses
                })
            })
            .collect();
        while Instant::now() < until {
            let asked = Instant::now();
            assert_eq!(client.get(program.url("/health/live")).send().unwrap().status(), 200);
            live.push(asked.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        for (status, took) in clients.into_iter().flat_map(|client| client.join().unwrap()) {
            match status {
                200 => answered.push(took),
                429 => refused += 1,
                other => panic!("{other} under load"),
            }
        }
    });
    assert!(!answered.is_empty(), "none answered, {refused} refused");
    answered.sort();
    live.sort();
    // The medians: a test's machine may be busy with other things for a moment.
    let (count, typical, alive) = (answered.len(), answered[answered.len() / 2], live[live.len() / 2]);
    println!(
        "{count} answered in {typical:?}, {refused} refused, /health/live in {alive:?}, at most {:?}",
        live.last()
    );
    assert!(count > 5 && refused > 9 * count, "{count} answered, {refused} refused: not ten times what it can do");
    // Where everything is slow, it is still quicker than what has to wait.
    assert!(alive < typical.max(Duration::from_millis(50)), "{alive:?}, answers {typical:?}: {live:?}");
}

#[test]
fn five_hundred_slow_heads_do_not_keep_the_program_from_pictures() {
    let program = Program::start(&[("HEADER_TIMEOUT", "4")]);
    let mut slow: Vec<_> = (0..500).map(|_| TcpStream::connect(program.address).unwrap()).collect();
    let started = Instant::now();
    let client = client();
    let mut answered = 0;
    // A byte now and then from each, until their time is over.
    while started.elapsed() < Duration::from_secs(5) {
        for stream in &mut slow {
            let _ = stream.write_all(b"P");
        }
        let asked = Instant::now();
        assert_eq!(client.post(program.url("/extract")).json(&portraits(1)).send().unwrap().status(), 200);
        assert!(asked.elapsed() < Duration::from_secs(3), "a picture took {:?}", asked.elapsed());
        answered += 1;
    }
    assert!(answered > 3, "only {answered} pictures");
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out && !rest.starts_with(b"HTTP/1.1 2"), "still connected after {:?}", started.elapsed());
    }
}
