//! A socket and an answer that note what moves through them.

use crate::server::http::body::UnreadBody;
use crate::server::net::phase::SharedPhase;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that notes when bytes move, and keeps back what hyper says on its own.
///
/// To a head that it cannot read hyper answers with a status and nothing else. That answer is not sent: its status is noted, and the
/// connection's owner writes one that says what is wrong.
pub(crate) struct WatchedStream {
    stream: TcpStream,
    phase: SharedPhase,
    refused: Option<u16>,
}

impl WatchedStream {
    /// Watches `stream`.
    pub(crate) fn new(stream: TcpStream, phase: SharedPhase) -> Self {
        WatchedStream { stream, phase, refused: None }
    }

    /// The socket, and the status with which hyper has refused the last head.
    pub(crate) fn into_parts(self) -> (TcpStream, Option<u16>) {
        (self.stream, self.refused)
    }

    /// Notes the answer that starts like this, if it is none of ours.
    fn keeps_back(&mut self, start: &[u8]) -> bool {
        if self.refused.is_some() {
            return true;
        }
        if !self.phase.is_between_requests() {
            return false;
        }
        let status = start.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|digits| str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
        self.refused = status.filter(|status| *status >= 400);
        self.refused.is_some()
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.phase.read_bytes();
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keeps_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = polled {
            self.phase.wrote_bytes();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bufs.first().map_or(&[], |buf| buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(1..)) = polled {
            self.phase.wrote_bytes();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the socket when its own buffers are empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.phase.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused.is_some() {
            // The answer has yet to be written.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an answer. Records when hyper has taken all of it; then discards what is left of the request's body.
pub(crate) struct WatchedBody<B> {
    body: B,
    phase: SharedPhase,
    unread: Option<UnreadBody>,
}

impl<B> WatchedBody<B> {
    /// Watches `body`; `unread` is discarded once the answer has been handed over.
    pub(crate) fn new(body: B, phase: SharedPhase, unread: Option<UnreadBody>) -> Self {
        WatchedBody { body, phase, unread }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the connection with it.
        match self.unread.take().zip(tokio::runtime::Handle::try_current().ok()) {
            Some((unread, runtime)) => {
                self.phase.discarding(unread.until());
                let phase = self.phase.clone();
                runtime.spawn(async move {
                    unread.discard().await;
                    phase.discarded();
                });
            }
            None => self.phase.handed(),
        }
    }
}
