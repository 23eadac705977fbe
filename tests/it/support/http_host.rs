//! A small HTTP server under the test's control: image URLs and links of models point to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The head of a request.
pub struct Request {
    pub head: String,
}

impl Request {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        pairs.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first byte that the request asks for.
    pub fn start(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
    }
}

/// Answers every connection on a thread of its own, and counts the requests.
pub struct HttpHost {
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl HttpHost {
    /// Listens on `ip`. `answer` gets the request, its number (from 0) and the stream to write to; the connection then
    /// closes.
    pub fn start(ip: &str, answer: impl Fn(&Request, usize, &mut TcpStream) + Send + Sync + 'static) -> HttpHost {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (answer, counter) = (answer.clone(), counter.clone());
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    if head.is_empty() {
                        return;
                    }
                    let number = counter.fetch_add(1, Ordering::SeqCst);
                    answer(&Request { head }, number, &mut stream);
                });
            }
        });
        HttpHost { address, requests }
    }

    /// Always gives the same answer.
    pub fn serving(ip: &str, status: &'static str, headers: &'static str, body: Vec<u8>) -> HttpHost {
        HttpHost::start(ip, move |_, _, stream| respond(stream, status, headers, &body))
    }

    pub fn url(&self) -> String {
        self.link("/face.jpg")
    }

    pub fn link(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The number of requests so far.
    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Reads up to the empty line after a head, or to the end.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Writes a whole answer. Ignores a client that has closed the connection: often that is the point of the test.
pub fn respond(stream: &mut impl Write, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}
