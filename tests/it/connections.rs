//! Connections that are slow, silent, too many, or without a valid request: each is answered, or closed in time.

use crate::support::*;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Reads until the connection is closed.
pub fn rest(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "still connected after {text:?}");
    text
}

/// Reads exactly one answer with status 200.
pub fn read_answer(stream: &mut TcpStream) {
    let head = read_head(stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{head:?}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
}

/// Checks an answer: its status, a reason, and the headers of every answer.
pub fn is_answer(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    for header in ["content-type: application/json", "x-request-id: ", "x-content-type-options: nosniff"] {
        assert!(head.contains(header), "{header} is not in {answer}");
    }
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{answer}: {error}"));
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{answer}");
}

/// An answer of the connection itself: this status, no body, and the end of the connection.
pub fn is_refusal(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\n"), "{answer:?}");
}

#[test]
fn invalid_requests_are_answered_with_their_status() {
    let service = Service::start(|_| {});
    let long = "a".repeat(2_000_000);
    for (head, status) in [
        ("GARBAGE\r\n\r\n".to_string(), 400),
        ("GET /info HTTP/1.1\r\nhost: x\r\nbad header: y\r\n\r\n".into(), 400),
        ("GET /info HTTP/7.1\r\nhost: x\r\n\r\n".into(), 400),
        ("POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n".into(), 400),
        (format!("GET /info HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET /info HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(150)), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", &long[..70_000]), 414),
    ] {
        let mut stream = TcpStream::connect(service.address).unwrap();
        // The service need not read all of a head that is too long.
        let _ = stream.write_all(head.as_bytes());
        is_refusal(&rest(&mut stream), status);
    }
    for (status, count) in [(400, 4.0), (431, 2.0), (414, 1.0)] {
        assert_eq!(metric(&service, &format!("ifr_requests_total{{route=\"other\",status=\"{status}\"}}")), count);
    }
    // A head that is too long is refused also when all of it has been read at once.
    let mut stream = TcpStream::connect(service.address).unwrap();
    let _ = write!(stream, "GET /info HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n", &long[..140_000]);
    is_answer(&rest(&mut stream), 431);
    // The same after a valid request.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream.write_all(b"\x00\x01\r\n\r\n").unwrap();
    let answers = rest(&mut stream);
    is_refusal(&answers[answers.find("HTTP/1.1 400").unwrap()..], 400);
    // HTTP/2 is not spoken.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    is_refusal(&rest(&mut stream), 400);
}

#[test]
fn probes_are_answered_beyond_max_connections() {
    let service = Service::start(|settings| {
        settings.limits.max_connections = 4;
        // Idle connections keep their places during the test.
        settings.limits.header_timeout = Duration::from_secs(60);
    });
    service.get("/health");
    // More idle connections than places.
    let idle: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    let fresh = || reqwest::blocking::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    for path in ["/health/live", "/health/ready", "/health"] {
        let response = fresh().get(service.url(path)).send().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["connection"], "close", "{path}");
    }
    let body = serde_json::json!({"images": data()});
    for refused in [fresh().get(service.url("/info")).send(), fresh().post(service.url("/extract")).json(&body).send()]
    {
        let refused = refused.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after") && refused.headers().contains_key("x-request-id"));
        assert!(refused.json::<Value>().unwrap()["detail"].as_str().unwrap().contains("too many connections"));
    }
    drop(idle);
    until(&service, "ifr_requests_total{route=\"/extract\",status=\"503\"}", |count| count == 1.0);
}

#[cfg(target_os = "linux")]
#[test]
fn few_file_descriptors_limit_connections() {
    // A hard limit cannot be raised. Connections beyond it are refused with an answer.
    let program = Program::start_by_shell("ulimit -n 200 && exec \"$0\" serve", &[("HEADER_TIMEOUT", "60")]);
    let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(program.address).unwrap()).collect();
    let asked = Instant::now();
    let live = program.get("/health/live");
    assert_eq!(live.status(), 200);
    // A blocked service would not answer until the idle connections time out.
    assert!(asked.elapsed() < Duration::from_secs(15), "/health/live took {:?}", asked.elapsed());
    drop(idle);
    // A soft limit is raised.
    let program = Program::start_by_shell("ulimit -Sn 200 && exec \"$0\" serve", &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    let hard: u64 = line.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(soft > 2048 || soft == hard, "{line}");
}

#[cfg(unix)]
#[test]
fn every_request_is_logged() {
    let program = Program::start(&[("HEADER_TIMEOUT", "2"), ("NUM_WORKERS", "1")]);
    let line = |status: u16| {
        let line = program.line("request");
        assert_eq!(line["status"], status, "{line}");
        assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()) && line["ms"].is_number(), "{line}");
        line
    };
    let mut stream = TcpStream::connect(program.address).unwrap();
    stream.write_all(b"no request\r\n\r\n").unwrap();
    is_refusal(&rest(&mut stream), 400);
    line(400);
    let mut stream = TcpStream::connect(program.address).unwrap();
    stream.write_all(b"GET /in").unwrap();
    is_refusal(&rest(&mut stream), 408);
    line(408);
    // A client that disconnects before the answer.
    let body = serde_json::json!({"images": {"data": vec![portrait64(); 200]}}).to_string();
    let head = "POST /extract HTTP/1.1\r\nhost: x\r\nx-request-id: gone";
    let mut stream = TcpStream::connect(program.address).unwrap();
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    until(&program, "ifr_queue_images", |waiting| waiting > 50.0);
    drop(stream);
    let line = line(499);
    assert_eq!((&line["request_id"], &line["path"]), (&"gone".into(), &"/extract".into()), "{line}");
    // A connection without a request is closed without an answer.
    let mut silent = TcpStream::connect(program.address).unwrap();
    assert_eq!(rest(&mut silent), "");
}

#[test]
fn clients_that_do_not_read_are_disconnected() {
    let service = Service::start(|settings| settings.limits.keep_alive_timeout = Duration::from_secs(1));
    let mut stream = TcpStream::connect(service.address).unwrap();
    // Ten thousand unread answers fill every buffer.
    let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
    let started = Instant::now();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    loop {
        if stream.write_all(request).is_err() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "still writing");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(service.get("/health").status(), 200);
}

#[test]
fn connections_beyond_the_limit_are_503() {
    let service = Service::start(|settings| {
        settings.limits.max_connections = 3;
        settings.limits.header_timeout = Duration::from_secs(60);
    });
    let held: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    let mut turned_away = TcpStream::connect(service.address).unwrap();
    let answer = rest(&mut turned_away);
    is_refusal(&answer, 503);
    assert!(answer.contains("retry-after"), "{answer}");
    drop(held);
    // The places are free after the service has noticed the closed connections.
    let started = Instant::now();
    while service.get("/info").status() != 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "no place is free");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a head and a body of 20 MB before it reads, like simple clients.
fn answer_after_20_megabytes(service: &Service, head: &str) -> String {
    const BODY: usize = 20_000_000;
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{head}\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {BODY}\r\n\r\n").unwrap();
    stream.write_all(&vec![b' '; BODY]).unwrap_or_else(|error| panic!("{head}: the body was not taken: {error}"));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    rest(&mut stream)
}

#[test]
fn early_answers_reach_clients_with_a_large_body() {
    let guarded = Service::start(|settings| {
        settings.access.api_key = ifr::config::Setting(Some(ifr::config::Secret::new("swordfish")));
    });
    is_answer(&answer_after_20_megabytes(&guarded, "POST /extract HTTP/1.1\r\nx-api-key: wrong"), 401);
    let key = "x-api-key: swordfish";
    for (line, status) in
        [("POST /nothing HTTP/1.1", "404"), ("PUT /extract HTTP/1.1", "405"), ("POST /info HTTP/1.1", "405")]
    {
        let answer = answer_after_20_megabytes(&guarded, &format!("{line}\r\n{key}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer:?}");
    }
    let redirect = answer_after_20_megabytes(&guarded, &format!("POST /extract/ HTTP/1.1\r\n{key}"));
    assert!(redirect.starts_with("HTTP/1.1 307 "), "{redirect:?}");
    // A body that no handler reads must not prevent the answer.
    let info = answer_after_20_megabytes(&guarded, &format!("GET /info HTTP/1.1\r\n{key}"));
    assert!(info.starts_with("HTTP/1.1 200 "), "{info:?}");
}

#[test]
fn a_connection_is_usable_after_an_early_answer() {
    let service = Service::start(|settings| settings.limits.header_timeout = Duration::from_secs(1));
    let mut stream = TcpStream::connect(service.address).unwrap();
    write!(stream, "POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n").unwrap();
    for _ in 0..3 {
        stream.write_all(&vec![b' '; 1_000_000]).unwrap();
        // In total longer than HEADER_TIMEOUT, which does not apply to the rest of a body.
        std::thread::sleep(Duration::from_millis(600));
    }
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answers = rest(&mut stream);
    assert!(answers.starts_with("HTTP/1.1 404 ") && answers.contains("HTTP/1.1 200 OK"), "{answers:?}");
}

#[test]
fn a_refused_client_that_waits_for_100_continue_is_told_to_close() {
    let service = service();
    let mut stream = TcpStream::connect(service.address).unwrap();
    let head = "POST /nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 20000000\r\n\r\n";
    let asked = Instant::now();
    stream.write_all(head.as_bytes()).unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close"), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn slow_self_checks_beyond_the_limit_do_not_delay_liveness() {
    let service = Service::start(|settings| {
        settings.limits.max_connections = 1;
        settings.limits.header_timeout = Duration::from_secs(60);
    });
    let _held = TcpStream::connect(service.address).unwrap();
    let mut checks: Vec<TcpStream> = vec![];
    for _ in 0..64 {
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        checks.push(stream);
    }
    for _ in 0..5 {
        let asked = Instant::now();
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(1), "/health/live took {:?}", asked.elapsed());
    }
}

#[test]
fn ipv6_addresses() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skipped("this machine has no IPv6");
    }
    for host in ["::1", "::"] {
        let program = Program::start(&[("HOST", host)]);
        assert!(program.address.is_ipv6(), "{}", program.address);
        let reached = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, program.address.port()));
        let mut stream = TcpStream::connect(reached).unwrap();
        write!(stream, "GET /health/ready HTTP/1.1\r\nhost: {reached}\r\nconnection: close\r\n\r\n").unwrap();
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
}

#[test]
fn requests_pipelined_after_an_error_are_answered() {
    let service = service();
    let next = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let body = "{\"images\": 5}";
    for (first, status) in [
        ("GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".to_string(), 404),
        (format!("POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()), 404),
        (format!("POST /info HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()), 405),
        (format!("POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()), 422),
        ("POST /extract HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".into(), 422),
    ] {
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.write_all(format!("{first}{next}").as_bytes()).unwrap();
        let answers = rest(&mut stream);
        assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{first:?}: {answers}");
        let second = answers.find("HTTP/1.1 200 OK").unwrap_or_else(|| panic!("{first:?}: {answers}"));
        assert_eq!(answers[second..].matches("HTTP/1.1").count(), 1, "{answers}");
    }
}
