//! `GET /health`: at most one self check runs at a time, for any number of requests and disconnected clients.

use crate::support::{Program, client, metric, portraits, until};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Resident memory of the process in bytes.
#[cfg(target_os = "linux")]
fn resident(process: u32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Runs `work` while two clients send pictures to `/extract`, one after the other. Returns how long each answer took.
fn with_extract(program: &Program, work: impl FnOnce()) -> Vec<Duration> {
    let done = AtomicBool::new(false);
    let (client, address, body) = (client(), program.url("/extract"), portraits(1));
    let ask = || {
        let mut took = vec![];
        while !done.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let answer = client.post(&address).json(&body).send().unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.text().unwrap().contains("\"status\":\"ok\""));
            took.push(asked.elapsed());
        }
        took
    };
    std::thread::scope(|scope| {
        let clients = [scope.spawn(ask), scope.spawn(ask)];
        work();
        done.store(true, Ordering::SeqCst);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

#[test]
#[cfg(target_os = "linux")]
fn aborted_checks_leave_no_memory_behind_and_pictures_are_answered() {
    let program = Program::start(&[("NUM_WORKERS", "2")]);
    assert_eq!(program.get("/health").status(), 200);
    with_extract(&program, || std::thread::sleep(Duration::from_secs(2)));
    let before = resident(program.id());
    let passes = || metric(&program, "ifr_stage_seconds_count{stage=\"detect\"}");
    let (started, passes_before) = (Instant::now(), passes());
    let answers = with_extract(&program, || {
        for _ in 0..1000 {
            let mut client = TcpStream::connect(program.address).unwrap();
            client.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            // Time for the service to start the check.
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    // Only the request for the metrics remains.
    until(&program, "ifr_requests_in_flight", |requests| requests == 1.0);
    let after = resident(program.id());
    let answered = answers.len();
    let slowest = answers.iter().max().copied().unwrap_or_default();
    println!("{} MiB before, {} MiB after; {answered} pictures, slowest {slowest:?}", before >> 20, after >> 20);
    assert!(after * 10 <= before * 12, "{} MiB before, {} MiB after", before >> 20, after >> 20);
    assert!(answered > 20 && slowest < Duration::from_secs(5), "{answered} pictures, slowest {slowest:?}");
    // A successful result is reused for a second, and one check runs at a time.
    let checks = passes() - passes_before - answered as f64;
    let allowed = started.elapsed().as_secs_f64() + 2.0;
    assert!((1.0..=allowed).contains(&checks), "{checks} checks in {allowed} s");
    assert_eq!(program.get("/health").json::<serde_json::Value>().unwrap(), json!({"status": "ok"}));
}

#[test]
fn a_check_is_answered_while_the_queue_is_full() {
    let program = Program::start(&[("QUEUE_SIZE", "4"), ("NUM_WORKERS", "1"), ("MAX_SIZE", "640,640")]);
    let (client, address) = (client(), program.url("/extract"));
    std::thread::scope(|scope| {
        let large = scope.spawn(|| client.post(address).json(&portraits(200)).send().unwrap().status());
        until(&program, "ifr_queue_images", |waiting| waiting > 100.0);
        assert_eq!(program.post("/extract", &portraits(1)).status(), 429);
        assert_eq!(program.get("/health").status(), 200);
        assert!(metric(&program, "ifr_queue_images") > 4.0, "the check did not wait for the whole queue");
        assert_eq!(large.join().unwrap(), 200);
    });
}
