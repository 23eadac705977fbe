//! The service under load.

use crate::service::send;
use crate::support::*;
use std::io::Read;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[test]
#[ignore = "slow"]
fn small_request_overtakes_a_large_one() {
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
        // Repeated, because the machine can be busy for a moment. A request that waits for the large one is sent only
        // once.
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
#[ignore = "slow"]
fn shutdown_under_load_answers_accepted_requests() {
    let mut program = Program::start(&[]);
    let (address, stopped) = (program.address, OnceLock::new());
    // For each request: the times of sending and answer, and the answer.
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
#[ignore = "slow"]
fn overload_gives_200_and_429_only() {
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
    // Medians, because the machine can be busy for a moment.
    let (count, typical, alive) = (answered.len(), answered[answered.len() / 2], live[live.len() / 2]);
    println!(
        "{count} answered in {typical:?}, {refused} refused, /health/live in {alive:?}, at most {:?}",
        live.last()
    );
    assert!(count > 5 && refused > 9 * count, "{count} answered, {refused} refused: not ten times what it can do");
    // On a slow machine it must still be faster than a request that waits.
    assert!(alive < typical.max(Duration::from_millis(50)), "{alive:?}, answers {typical:?}: {live:?}");
}
