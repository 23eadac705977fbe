//! Slow clients, and the timeouts of connections.

use crate::connections::{is_refusal, read_answer, rest};
use crate::support::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
#[ignore = "slow"]
fn five_hundred_slow_clients_delay_no_request() {
    let service = Service::start(|settings| settings.limits.header_timeout = Duration::from_secs(4));
    service.get("/health");
    let mut slow: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    let started = Instant::now();
    let mut took = vec![];
    let head = b"POST /extract HTTP/1.1\r\nhost: x\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut bytes = head.iter().cycle();
    // Single bytes do not extend HEADER_TIMEOUT: in the end the service reads no more.
    loop {
        let byte = [*bytes.next().unwrap()];
        let open = slow.iter_mut().filter_map(|stream| stream.write_all(&byte).ok()).count();
        let requests: [&dyn Fn() -> reqwest::StatusCode; 3] =
            [&|| service.get("/health").status(), &|| service.get("/info").status(), &|| {
                service.post("/extract", &portraits(1)).status()
            }];
        for request in requests {
            let asked = Instant::now();
            assert_eq!(request(), 200);
            took.push(asked.elapsed());
        }
        if open == 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{open} are still there");
        std::thread::sleep(Duration::from_millis(200));
    }
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    // The machine can be busy for a moment. A service that waits for slow clients would wait until their timeout.
    assert!(median < Duration::from_millis(500), "a request took {median:?} beside 500 slow clients");
    assert!(worst < Duration::from_secs(3), "a request took {worst:?} beside 500 slow clients");
    for stream in &mut slow {
        let told = rest(stream);
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told} after {:?}", started.elapsed());
    }
}

#[test]
#[ignore = "slow"]
fn slow_readers_get_the_whole_answer() {
    let service = Service::start(|settings| settings.limits.keep_alive_timeout = Duration::from_secs(2));
    let request = "GET /demo/models/centerface.onnx HTTP/1.1\r\nhost: x\r\n";
    let mut stream = TcpStream::connect(service.address).unwrap();
    write!(stream, "{request}\r\n{request}connection: close\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Continuous, for more than twice the idle timeout.
    let (started, mut total, mut chunk) = (Instant::now(), 0, vec![0; 512 << 10]);
    loop {
        let mut read = 0;
        while read < chunk.len() {
            match stream.read(&mut chunk[read..]).unwrap() {
                0 => break,
                more => read += more,
            }
        }
        total += read;
        if read < chunk.len() {
            break;
        }
        std::thread::sleep(Duration::from_millis(160));
    }
    let model = std::fs::metadata(concat!(env!("CARGO_MANIFEST_DIR"), "/models/onnx/centerface/centerface.onnx"));
    assert!(total as u64 > 2 * model.unwrap().len(), "{total} bytes in {:?}", started.elapsed());
    assert!(started.elapsed() > Duration::from_secs(4), "too fast to tell: {:?}", started.elapsed());
}

#[test]
#[ignore = "slow"]
fn idle_and_slow_connections_have_different_timeouts() {
    let service = Service::start(|settings| {
        settings.limits.header_timeout = Duration::from_secs(1);
        settings.limits.keep_alive_timeout = Duration::from_secs(5);
    });
    let mut stream = TcpStream::connect(service.address).unwrap();
    let request = b"GET /info HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request).unwrap();
        read_answer(&mut stream);
        // Longer than HEADER_TIMEOUT, much shorter than the idle timeout.
        std::thread::sleep(Duration::from_millis(1500));
    }
    let asked = Instant::now();
    assert_eq!(rest(&mut stream), "", "closed when idle");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    // The second head of a kept connection has the same timeout as the first.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(request).unwrap();
    read_answer(&mut stream);
    stream.write_all(b"GET /info HT").unwrap();
    let asked = Instant::now();
    is_refusal(&rest(&mut stream), 408);
    // Before the idle timeout.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}
