//! Pictures by URL and path: permitted addresses, answers of hosts, files.

use crate::support::*;
use ifr::config::{Setting, Settings};
use serde_json::json;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A service with default settings: no image directory, no permitted networks.
fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::start(|settings| settings.sources.fetch_timeout = Duration::from_secs(30)))
}

// ---- Where URLs may lead -------------------------------------------------------------------------------------------

#[test]
fn spellings_of_local_addresses_are_refused() {
    let victim = HttpHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
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
fn special_address_classes_are_refused() {
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
fn host_names_are_checked_by_address() {
    let victim = HttpHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
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
fn dns_rebinding_is_refused() {
    let victim = HttpHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
    let port = victim.address.port();
    // The first answer is a permitted address without a listener, the second a forbidden one.
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
fn redirects_are_checked_like_first_requests() {
    let victim = HttpHost::serving("127.0.0.1", "200 OK", "", portrait().to_vec());
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
        let host = HttpHost::start("127.0.0.2", move |_, _, stream| respond(stream, "302 Found", &header, b""));
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
        let host = HttpHost::start("127.0.0.2", move |_, number, stream| match number < redirects {
            true => respond(stream, "302 Found", "location: /again.jpg\r\n", b""),
            false => respond(stream, "200 OK", "", portrait()),
        });
        let service = with_internet(FakeNames::default(), |_| {});
        let image = service.extract_url(&host.url());
        assert_eq!(image["status"] == "ok", works, "{redirects}: {image}");
    }
    let host = HttpHost::serving("127.0.0.2", "302 Found", "", vec![]);
    let service = with_internet(FakeNames::default(), |_| {});
    assert!(service.refusal(&host.url()).contains("without a valid location"));
}

#[test]
fn redirects_to_other_hosts_carry_no_credentials() {
    let seen: Arc<Mutex<String>> = Arc::default();
    let heard = seen.clone();
    let stranger = HttpHost::start("127.0.0.2", move |request, _, stream| {
        *heard.lock().unwrap() = request.head.to_ascii_lowercase();
        respond(stream, "200 OK", "", portrait());
    });
    let header = format!("location: {}\r\n", stranger.url());
    let host = HttpHost::start("127.0.0.2", move |_, _, stream| respond(stream, "302 Found", &header, b""));
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
fn oversized_pictures_are_cut_off() {
    let small = |settings: &mut Settings| settings.sources.max_image_size = 1 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let endless = HttpHost::start("127.0.0.2", move |_, _, stream| {
        let chunk = [0u8; 64 << 10];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        while stream.write_all(&chunk).is_ok() {
            counter.fetch_add(chunk.len(), Ordering::SeqCst);
        }
    });
    let honest = HttpHost::serving("127.0.0.2", "200 OK", "", vec![0; (1 << 20) + 1]);
    let exact = HttpHost::serving("127.0.0.2", "200 OK", "", vec![0; 1 << 20]);
    let chunked = HttpHost::start("127.0.0.2", |_, _, stream| {
        // Chunks without an end.
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
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    // Socket buffers hold a few megabytes. Without the limit, gigabytes would be sent within seconds.
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "{} bytes", sent.load(Ordering::SeqCst));
    assert!(service.refusal(&exact.url()).contains("not a picture"), "a body of just the limit is read");
}

#[test]
fn wrong_content_length_of_a_picture_is_an_error() {
    // The length is too small, too large, a petabyte.
    let less = HttpHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(portrait());
    });
    let more = HttpHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5000000\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(&portrait()[..1000]);
    });
    let petabyte = HttpHost::start("127.0.0.2", |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\nabc");
    });
    let service = with_internet(FakeNames::default(), |settings| settings.sources.fetch_attempts = 1);
    assert!(service.refusal(&less.url()).contains("picture"));
    assert!(service.refusal(&more.url()).contains("connection failed"));
    assert!(service.refusal(&petabyte.url()).contains("more than 10485760 bytes"));
    assert_eq!(service.get("/health").status(), 200);
}

#[test]
fn server_errors_are_retried_but_not_client_errors() {
    let service = with_internet(FakeNames::default(), |_| {});
    let flaky = HttpHost::start("127.0.0.2", |_, number, stream| match number {
        0 => respond(stream, "500 Internal Server Error", "", b""),
        1 => respond(stream, "503 Service Unavailable", "", b""),
        2 => {} // closes without an answer
        _ => respond(stream, "200 OK", "", portrait()),
    });
    assert_eq!(service.extract_url(&flaky.url())["status"], "ok");
    assert_eq!(flaky.count(), 4);
    for status in ["400 Bad Request", "403 Forbidden", "404 Not Found", "410 Gone", "429 Too Many Requests"] {
        let host = HttpHost::serving("127.0.0.2", status, "", vec![]);
        let reason = service.refusal(&host.url());
        assert!(reason.contains(&format!("status {}", &status[..3])), "{reason}");
        assert_eq!(host.count(), 1, "{status}");
    }
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

/// A TLS server with a self-signed certificate.
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
fn paths_stay_below_the_image_directory() {
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
fn paths_need_an_image_directory() {
    for path in ["/etc/passwd", "etc/passwd", "../../etc/passwd", "README.md", "."] {
        assert!(service().refusal(path).contains("ROOT_IMAGES_DIR is not set"), "{path}");
    }
}
