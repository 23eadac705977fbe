//! What the service must withstand: requests that reach for other hosts and files, floods, and clients that stall.

mod api_support;

use api_support::*;
use futures_util::future::BoxFuture;
use ifr::config::{Secret, Setting, Settings};
use ifr::server::fetch::Lookup;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Name servers that say what a test wants, a different answer each time if there are several.
#[derive(Default)]
struct FakeNames {
    answers: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: Mutex<HashMap<String, usize>>,
}

impl FakeNames {
    fn with(mut self, host: &str, answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        self.answers.insert(host.into(), answers.iter().map(parse).collect());
        self
    }
}

impl Lookup for FakeNames {
    fn lookup(&self, host: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>>> {
        let mut asked = self.asked.lock().unwrap();
        let number = asked.entry(host.clone()).or_default();
        let answer = self.answers.get(&host).map(|answers| answers[(*number).min(answers.len() - 1)].clone());
        *number += 1;
        Box::pin(async move { answer.ok_or_else(|| format!("{host} is unknown").into()) })
    }
}

/// A service as it comes: no image directory, no networks allowed.
fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::start(|settings| settings.sources.fetch_timeout = Duration::from_secs(4)))
}

/// A service that may fetch from 127.0.0.2, which stands for the public internet; 127.0.0.1 stays forbidden.
fn with_internet(names: FakeNames, change: impl FnOnce(&mut Settings)) -> Service {
    Service::start_with(Arc::new(names), |settings| {
        settings.sources.allow_nets = "127.0.0.2".parse().unwrap();
        settings.sources.fetch_timeout = Duration::from_secs(4);
        change(settings);
    })
}

// ---- Where URLs may lead -------------------------------------------------------------------------------------------

#[test]
fn no_spelling_of_a_local_address_is_fetched() {
    let victim = ImageHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
    let port = victim.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "user:password@127.0.0.1",
        "example.com@127.0.0.1",
    ] {
        let reason = service().refusal(&format!("http://{host}:{port}/face.jpg"));
        assert!(reason.contains("is not allowed"), "{host}: {reason}");
    }
    assert_eq!(victim.count(), 0);
}

#[test]
fn every_class_of_address_is_refused() {
    for (host, class) in [
        ("127.0.0.1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.0.1", "private"),
        ("169.254.169.254", "link-local"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("192.0.0.1", "reserved"),
        ("198.18.0.1", "benchmarking"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("[::1]", "loopback"),
        ("[fe80::1]", "link-local"),
        ("[fc00::1]", "private"),
        ("[ff02::1]", "multicast"),
        ("[::ffff:169.254.169.254]", "link-local"),
        ("[64:ff9b::a9fe:a9fe]", "link-local"),
        ("[2002:a9fe:a9fe::]", "link-local"),
        ("[2001:0:a9fe:a9fe::]", "link-local"),
    ] {
        for scheme in ["http", "https"] {
            let reason = service().refusal(&format!("{scheme}://{host}/latest/meta-data"));
            assert!(reason.contains(&format!("a {class} address")), "{host}: {reason}");
        }
    }
}

#[test]
fn names_are_judged_by_what_they_resolve_to() {
    let victim = ImageHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
    let names = FakeNames::default()
        .with("localhost", &[&["127.0.0.1", "::1"]])
        .with("internal.test", &[&["10.0.0.5"]])
        .with("metadata.test", &[&["169.254.169.254"]])
        .with("mapped.test", &[&["::ffff:127.0.0.1"]])
        .with("empty.test", &[&[]]);
    let service = with_internet(names, |_| {});
    for (host, expected) in [
        ("localhost", "loopback"),
        ("LOCALHOST", "loopback"),
        ("internal.test", "private"),
        ("metadata.test", "link-local"),
        ("mapped.test", "loopback"),
        ("empty.test", "cannot be resolved"),
        ("unknown.test", "cannot be resolved"),
    ] {
        let reason = service.refusal(&format!("http://{host}:{}/face.jpg", victim.address.port()));
        assert!(reason.contains(expected), "{host}: {reason}");
    }
    assert_eq!(victim.count(), 0);
}

#[test]
fn a_name_that_changes_its_address_gains_nothing() {
    let victim = ImageHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
    let port = victim.address.port();
    // First an address that is allowed, where nothing listens; then the forbidden one.
    let names = FakeNames::default()
        .with("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]])
        .with("mixed.test", &[&["127.0.0.1", "127.0.0.2"]]);
    let service = with_internet(names, |_| {});
    for host in ["rebind.test", "rebind.test", "mixed.test"] {
        service.refusal(&format!("http://{host}:{port}/face.jpg"));
    }
    assert_eq!(victim.count(), 0);
}

#[test]
fn redirects_are_judged_like_first_requests() {
    let victim = ImageHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
    let target = format!("http://{}/face.jpg", victim.address);
    let names = FakeNames::default().with("inside.test", &[&["127.0.0.1"]]);
    let by_name = format!("http://inside.test:{}/", victim.address.port());
    for location in [
        target.as_str(),
        &by_name,
        &target.replace("http://", "//"),
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://[::1]/",
    ] {
        let location = location.to_string();
        let header = format!("location: {location}\r\n");
        let host = ImageHost::start("127.0.0.2", move |_, _, stream| respond(stream, "302 Found", &header, b""));
        let service = with_internet(FakeNames::default().with("inside.test", &[&["127.0.0.1"]]), |_| {});
        let reason = service.refusal(&host.url());
        assert!(reason.contains("is not allowed"), "{location}: {reason}");
        assert_eq!(host.count(), 1);
    }
    drop(names);
    assert_eq!(victim.count(), 0);
}

#[test]
fn redirects_are_followed_three_times() {
    for (redirects, works) in [(3, true), (4, false)] {
        let host = ImageHost::start("127.0.0.2", move |_, number, stream| match number < redirects {
            true => respond(stream, "302 Found", "location: /again.jpg\r\n", b""),
            false => respond(stream, "200 OK", "", portrait()),
        });
        let service = with_internet(FakeNames::default(), |_| {});
        let image = service.extract_url(&host.url());
        assert_eq!(image["status"] == "ok", works, "{redirects}: {image}");
    }
    let host = ImageHost::serving("127.0.0.2", "302 Found", "", vec![]);
    let service = with_internet(FakeNames::default(), |_| {});
    assert!(service.refusal(&host.url()).contains("without a valid location"));
}

#[test]
fn credentials_do_not_follow_redirects_to_strangers() {
    let seen: Arc<Mutex<String>> = Arc::default();
    let heard = seen.clone();
    let stranger = ImageHost::start("127.0.0.2", move |head, _, stream| {
        *heard.lock().unwrap() = head.to_ascii_lowercase();
        respond(stream, "200 OK", "", portrait());
    });
    let header = format!("location: {}\r\n", stranger.url());
    let host = ImageHost::start("127.0.0.2", move |_, _, stream| respond(stream, "302 Found", &header, b""));
    let service = with_internet(FakeNames::default(), |_| {});
    let headers = json!({"Authorization": "Bearer swordfish", "X-Key": "swordfish", "User-Agent": "me"});
    let answer = service.extract(json!({"images": {"urls": [host.url()]}, "img_req_headers": headers}));
    assert_eq!(answer["data"][0]["status"], "ok");
    let seen = seen.lock().unwrap();
    assert!(seen.contains("user-agent: me") && !seen.contains("swordfish"), "{seen}");
}

#[test]
fn only_http_and_https_are_urls() {
    for url in [
        "file:///etc/passwd",
        "ftp://example.com/a.jpg",
        "gopher://example.com",
        "FILE:///etc/passwd",
        "data://x",
        "dict://127.0.0.1:11211/",
    ] {
        let reason = service().refusal(url);
        assert!(reason.contains("only http and https"), "{url}: {reason}");
    }
    for url in ["http://", "http://[", "https://exa mple/", "http://a:99999/"] {
        let reason = service().refusal(url);
        assert!(reason.contains("not a valid URL"), "{url}: {reason}");
    }
}

// ---- What URLs may bring -------------------------------------------------------------------------------------------

#[test]
fn endless_and_oversized_bodies_are_cut_off() {
    let small = |settings: &mut Settings| settings.sources.max_image_size = 1 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let endless = ImageHost::start("127.0.0.2", move |_, _, stream| {
        let chunk = [0u8; 64 << 10];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        while stream.write_all(&chunk).is_ok() {
            counter.fetch_add(chunk.len(), Ordering::SeqCst);
        }
    });
    let honest = ImageHost::serving("127.0.0.2", "200 OK", "", vec![0; (1 << 20) + 1]);
    let exact = ImageHost::serving("127.0.0.2", "200 OK", "", vec![0; 1 << 20]);
    let chunked = ImageHost::start("127.0.0.2", |_, _, stream| {
        // A length that lies beside chunks that do not end.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while stream
            .write_all(b"10000\r\n")
            .and_then(|()| stream.write_all(&[0; 0x10000]))
            .and_then(|()| stream.write_all(b"\r\n"))
            .is_ok()
        {}
    });
    let service = with_internet(FakeNames::default(), small);
    let started = Instant::now();
    for host in [&endless, &honest, &chunked] {
        let reason = service.refusal(&host.url());
        assert!(reason.contains("more than 1048576 bytes"), "{reason}");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(sent.load(Ordering::SeqCst) < 16 << 20, "{} bytes", sent.load(Ordering::SeqCst));
    assert!(service.refusal(&exact.url()).contains("not a picture"), "a body of just the limit is read");
}

#[test]
fn a_lying_content_length_changes_nothing() {
    // Claims less than it sends, claims more, claims a petabyte.
    let less = ImageHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(portrait());
    });
    let more = ImageHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5000000\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(&portrait()[..1000]);
    });
    let petabyte = ImageHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\nabc");
    });
    let service = with_internet(FakeNames::default(), |settings| settings.sources.fetch_attempts = 1);
    assert!(service.refusal(&less.url()).contains("picture"));
    assert!(service.refusal(&more.url()).contains("connection failed"));
    assert!(service.refusal(&petabyte.url()).contains("more than 10485760 bytes"));
    assert_eq!(service.get("/health").status(), 200);
}

#[test]
fn server_errors_are_tried_again_and_client_errors_are_not() {
    let service = with_internet(FakeNames::default(), |_| {});
    let flaky = ImageHost::start("127.0.0.2", |_, number, stream| match number {
        0 => respond(stream, "500 Internal Server Error", "", b""),
        1 => respond(stream, "503 Service Unavailable", "", b""),
        2 => {} // closes without an answer
        _ => respond(stream, "200 OK", "", portrait()),
    });
    assert_eq!(service.extract_url(&flaky.url())["status"], "ok");
    assert_eq!(flaky.count(), 4);
    for status in ["400 Bad Request", "403 Forbidden", "404 Not Found", "410 Gone", "429 Too Many Requests"] {
        let host = ImageHost::serving("127.0.0.2", status, "", vec![]);
        let reason = service.refusal(&host.url());
        assert!(reason.contains(&format!("status {}", &status[..3])), "{reason}");
        assert_eq!(host.count(), 1, "{status}");
    }
}

#[test]
fn a_host_that_hangs_once_gets_a_second_chance_and_then_none() {
    let once = ImageHost::start("127.0.0.2", |_, number, stream| match number {
        0 => std::thread::sleep(Duration::from_secs(30)),
        _ => respond(stream, "200 OK", "", portrait()),
    });
    let always = ImageHost::start("127.0.0.2", |_, _, _| std::thread::sleep(Duration::from_secs(30)));
    let trickle = ImageHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let service =
        with_internet(FakeNames::default(), |settings| settings.sources.fetch_timeout = Duration::from_secs(2));
    assert_eq!(service.extract_url(&once.url())["status"], "ok");
    for host in [&always, &trickle] {
        let started = Instant::now();
        assert!(service.refusal(&host.url()).contains("not fetched in time"));
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn hundreds_of_urls_are_fetched_at_once_up_to_a_bound() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (inside, peak) = (now.clone(), most.clone());
    let host = ImageHost::start("127.0.0.2", move |_, _, stream| {
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
    assert!(started.elapsed() < Duration::from_secs(6), "one after the other: {:?}", started.elapsed());
}

#[test]
fn tls_is_verified() {
    let address = tls_host();
    let names = || FakeNames::default().with("images.test", &[&["127.0.0.2"]]).with("other.test", &[&["127.0.0.2"]]);
    let url = |host: &str| format!("https://{host}:{}/face.jpg", address.port());
    let strict = with_internet(names(), |_| {});
    let reason = strict.refusal(&url("images.test"));
    assert!(reason.contains("TLS failed"), "{reason}");

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/certificate.pem");
    let trusting = with_internet(names(), |settings| settings.sources.image_ca_file = Setting(Some(file.into())));
    assert_eq!(trusting.extract_url(&url("images.test"))["status"], "ok");
    let reason = trusting.refusal(&url("other.test"));
    assert!(reason.contains("TLS failed") && reason.contains("name"), "{reason}");
}

/// A TLS server with a certificate that nobody has signed.
fn tls_host() -> std::net::SocketAddr {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");
    let certificate = CertificateDer::from_pem_file(format!("{directory}/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{directory}/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = std::net::TcpListener::bind(("127.0.0.2", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            if !read_head(&mut stream).is_empty() {
                respond(&mut stream, "200 OK", "", portrait());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

// ---- Files ---------------------------------------------------------------------------------------------------------

#[test]
fn paths_lead_nowhere_but_below_the_image_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("images");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("face.jpg"), portrait()).unwrap();
    std::fs::write(directory.path().join("secret.jpg"), portrait()).unwrap();
    std::os::unix::fs::symlink("../secret.jpg", root.join("link.jpg")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
    let service = Service::start(|settings| settings.sources.root_images_dir = Setting(Some(root.clone())));
    assert_eq!(service.extract_url("face.jpg")["status"], "ok");
    assert_eq!(service.extract_url(root.join("face.jpg").to_str().unwrap())["status"], "ok");

    let outside = directory.path().join("secret.jpg");
    for path in [
        "../secret.jpg",
        "./../secret.jpg",
        "a/../../secret.jpg",
        "..",
        "/etc/passwd",
        "//etc/passwd",
        outside.to_str().unwrap(),
        "link.jpg",
        "etc/passwd",
        "etc/no-such-file",
        "face.jpg\0",
        "\0",
        "",
        "/proc/self/environ",
        "/dev/zero",
    ] {
        let reason = service.refusal(path);
        assert!(reason.contains("is not below ROOT_IMAGES_DIR"), "{path:?}: {reason}");
    }
    for path in ["%2e%2e/secret.jpg", "..%2fsecret.jpg", "%2fetc%2fpasswd", "..\\secret.jpg", "face.jpg%00", "nope.jpg"]
    {
        let reason = service.refusal(path);
        assert_eq!(reason, format!("File: '{path}' not found"));
    }
    assert!(service.refusal(".").contains("not a regular file"));
}

#[test]
fn without_an_image_directory_no_path_is_read() {
    for path in ["/etc/passwd", "etc/passwd", "../../etc/passwd", "README.md", "."] {
        assert!(service().refusal(path).contains("ROOT_IMAGES_DIR is not set"), "{path}");
    }
}

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
    // Without a length: chunks.
    let reader = std::io::Cursor::new(too_large.to_string().into_bytes());
    let chunked =
        service.client.post(service.url("/extract")).body(reqwest::blocking::Body::new(reader)).send().unwrap();
    assert_eq!(chunked.status(), 413);
    // Much more than the limit, of a client that only listens when it has sent everything.
    let huge = service.client.post(service.url("/extract")).body(vec![b' '; 30_000_000]).send().unwrap();
    assert_eq!(huge.status(), 413);
    assert_eq!(service.get("/health").status(), 200);
}

#[test]
fn all_bodies_together_are_bounded() {
    let service = Service::start(|settings| settings.limits.max_bodies_in_memory = 100_000);
    let response = service.post("/extract", &json!({"images": {"data": ["A".repeat(200_000)]}}));
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    // Given back: nothing is held when the request is over.
    assert_eq!(service.post("/extract", &json!({"images": {"data": ["A".repeat(90_000)]}})).status(), 200);
    assert_eq!(service.post("/extract", &json!({"images": {"data": ["A".repeat(90_000)]}})).status(), 200);
}

#[test]
fn a_lying_content_length_from_a_client_is_no_allocation() {
    let service = service();
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000000000000000\r\n\r\n{").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Less than the body: the rest is read as a request of its own, and refused as none.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream
        .write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}garbage garbage\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 422");
}

#[test]
fn what_is_no_request_is_422_with_the_place() {
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
    // Every million of these small values would take forty megabytes.
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

// ---- Time ----------------------------------------------------------------------------------------------------------

#[test]
fn requests_that_take_too_long_are_ended() {
    let host = ImageHost::start("127.0.0.2", |_, _, _| std::thread::sleep(Duration::from_secs(30)));
    let service = with_internet(FakeNames::default(), |settings| {
        settings.limits.request_timeout = Duration::from_secs(1);
        settings.sources.fetch_timeout = Duration::from_secs(10);
    });
    let started = Instant::now();
    let response = service.post("/extract", &json!({"images": {"urls": [host.url()]}}));
    assert_eq!(response.status(), 504);
    assert!(response.json::<Value>().unwrap()["detail"].as_str().unwrap().contains("1 seconds"));
    assert!(started.elapsed() < Duration::from_secs(3));
    // A body that does not come.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(b"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn five_hundred_slow_clients_delay_nobody() {
    let service = Service::start(|settings| settings.limits.header_timeout = Duration::from_secs(4));
    service.get("/health");
    let mut slow: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    let started = Instant::now();
    let mut worst = Duration::ZERO;
    let head = b"POST /extract HTTP/1.1\r\nhost: x\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for byte in head.iter().cycle().take(30) {
        for stream in &mut slow {
            let _ = stream.write_all(&[*byte]);
        }
        for path in ["/health", "/info"] {
            let asked = Instant::now();
            assert_eq!(service.get(path).status(), 200);
            worst = worst.max(asked.elapsed());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(worst < Duration::from_secs(1), "/health took {worst:?} beside 500 slow clients");
    // One byte at a time does not extend the time for a head: all are gone.
    std::thread::sleep(Duration::from_secs(5).saturating_sub(started.elapsed()));
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let closed = match stream.read(&mut [0; 16]) {
            Ok(0) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            Ok(_) => false,
        };
        assert!(closed, "a slow client is still connected after {:?}", started.elapsed());
    }
}

#[test]
fn idle_connections_are_closed_later_than_slow_heads() {
    let service = Service::start(|settings| {
        settings.limits.header_timeout = Duration::from_millis(500);
        settings.limits.keep_alive_timeout = Duration::from_millis(1500);
    });
    let mut stream = TcpStream::connect(service.address).unwrap();
    let request = b"GET /info HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut buffer = [0; 4096];
    for _ in 0..2 {
        stream.write_all(request).unwrap();
        assert!(stream.read(&mut buffer).unwrap() > 100);
        // Longer than a head may take, shorter than a connection may be idle.
        std::thread::sleep(Duration::from_millis(900));
    }
    let asked = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(stream.read(&mut buffer).unwrap(), 0, "closed when idle");
    assert!(asked.elapsed() < Duration::from_secs(2));
    // The second head on a kept connection has as little time as the first.
    let mut stream = TcpStream::connect(service.address).unwrap();
    stream.write_all(request).unwrap();
    assert!(stream.read(&mut buffer).unwrap() > 100);
    stream.write_all(b"GET /info HT").unwrap();
    let asked = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.read(&mut buffer);
    assert!(asked.elapsed() < Duration::from_millis(1200), "{:?}", asked.elapsed());
}

#[test]
fn clients_that_do_not_read_their_answer_are_dropped() {
    let service = Service::start(|settings| settings.limits.keep_alive_timeout = Duration::from_secs(1));
    let mut stream = TcpStream::connect(service.address).unwrap();
    // Ten thousand answers that nobody takes fill every buffer on the way.
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
fn too_many_connections_are_turned_away() {
    let service = Service::start(|settings| settings.limits.max_connections = 3);
    let held: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(200));
    let mut turned_away = TcpStream::connect(service.address).unwrap();
    let mut answer = String::new();
    turned_away.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = turned_away.read_to_string(&mut answer);
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after") && answer.contains("detail"),
        "{answer}"
    );
    drop(held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(service.get("/info").status(), 200);
}

#[test]
fn heads_are_bounded() {
    let service = service();
    for head in [
        format!("GET /info HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET /info HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(10_000)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)),
    ] {
        let mut stream = TcpStream::connect(service.address).unwrap();
        let _ = stream.write_all(head.as_bytes());
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(service.get("/info").status(), 200);
}

// ---- Access --------------------------------------------------------------------------------------------------------

#[test]
fn the_api_key_guards_everything_but_health_and_docs() {
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
    // The key is not looked for in addresses, which end up in logs.
    assert_eq!(service.get("/info?api_key=swordfish").status(), 401);
}

#[test]
fn browsers_may_call_from_anywhere_or_from_where_it_is_set() {
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
    // Errors, too, must reach the page that asked.
    let refused = strict.client.get(strict.url("/info")).header("origin", "https://a.example").send().unwrap();
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["access-control-allow-origin"].to_str().unwrap()),
        (401, "https://a.example")
    );
}

#[test]
fn every_answer_carries_a_request_id() {
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
fn models_are_switched_only_when_allowed_and_only_to_what_is_installed() {
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
    }
    // A hundred at once: each is answered.
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || service.post("/extract", &json!({"data": [], "rec_name": "other_recognizer"})).status().as_u16();
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
}
