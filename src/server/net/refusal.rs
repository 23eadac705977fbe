//! Answers of a connection to clients whose request was not read. There is no request to negotiate with, so they are
//! constants without a body.

use std::io::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a client may take to read a refusal.
const MAX_WRITE_TIME: Duration = Duration::from_secs(1);
/// How long the rest of what a client sends is read. If the connection were closed at once, the client's system would
/// discard the answer.
const LINGER: Duration = Duration::from_secs(1);

/// A complete answer.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The status, for metrics and the log.
    pub(super) status: u16,
    bytes: &'static [u8],
}

/// The head of the request did not arrive in time.
pub(super) static SLOW_HEAD: Refusal =
    Refusal { status: 408, bytes: b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" };

/// The number of connections is at its limit.
pub(super) static TOO_MANY_CONNECTIONS: Refusal = Refusal {
    status: 503,
    bytes: b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
};

/// The client speaks HTTP/2 without having been told that the service does.
pub(super) static NOT_HTTP_1: Refusal =
    Refusal { status: 400, bytes: b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" };

impl Refusal {
    /// Writes the answer and ends the writing half of the connection. The client may be gone already.
    pub(super) async fn send(&self, stream: &mut TcpStream) {
        let write = async {
            stream.write_all(self.bytes).await?;
            stream.shutdown().await
        };
        if !matches!(timeout(MAX_WRITE_TIME, write).await, Ok(Ok(()))) {
            tracing::debug!(status = self.status, "a client did not take its refusal");
        }
    }

    /// Writes as much of the answer as the socket buffer has room for, and closes the connection.
    pub(super) fn send_at_once(&self, stream: TcpStream) {
        let written = stream.into_std().and_then(|mut stream| stream.write_all(self.bytes));
        if let Err(error) = written {
            tracing::debug!(%error, status = self.status, "a refusal could not be written");
        }
    }
}

/// Reads and drops what the client still sends, for a limited time, and closes the connection.
pub(super) async fn linger(mut stream: TcpStream) {
    let mut rest = vec![0; 16 << 10];
    let read = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(LINGER, read).await;
}
