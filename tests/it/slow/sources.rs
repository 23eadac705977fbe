//! Hosts that do not answer, and the number of concurrent fetches.

use crate::support::*;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
#[ignore = "slow"]
fn hanging_host_is_tried_twice() {
    let once = HttpHost::start("127.0.0.2", |_, number, stream| match number {
        0 => std::thread::sleep(Duration::from_secs(30)),
        _ => respond(stream, "200 OK", "", portrait()),
    });
    let always = HttpHost::start("127.0.0.2", |_, _, _| std::thread::sleep(Duration::from_secs(30)));
    let trickle = HttpHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let service =
        with_internet(FakeNames::default(), |settings| settings.sources.fetch_timeout = Duration::from_secs(4));
    assert_eq!(service.extract_url(&once.url())["status"], "ok");
    for host in [&always, &trickle] {
        let started = Instant::now();
        assert!(service.refusal(&host.url()).contains("not fetched in time"));
        // One host answers after thirty seconds, the other sends for a hundred.
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}

#[test]
#[ignore = "slow"]
fn concurrent_fetches_are_bounded() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (inside, peak) = (now.clone(), most.clone());
    let host = HttpHost::start("127.0.0.2", move |_, _, stream| {
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        inside.fetch_sub(1, Ordering::SeqCst);
        respond(stream, "200 OK", "", b"no picture");
    });
    let service = with_internet(FakeNames::default(), |settings| settings.sources.fetch_concurrency = 20);
    let urls: Vec<String> = (0..200).map(|number| format!("{}?{number}", host.url())).collect();
    let started = Instant::now();
    let answer = service.extract(json!({"images": {"urls": urls}}));
    assert_eq!(answer["data"].as_array().unwrap().len(), 200);
    assert_eq!(host.count(), 200);
    let most = most.load(Ordering::SeqCst);
    assert!((10..=20).contains(&most), "{most} at once");
    // Sequentially they would take twenty seconds.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}
