//! A socket and a response body that record the progress of a connection in its phase.

use crate::server::http::body::UnreadBody;
use crate::server::net::phase::SharedPhase;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket that records when bytes move.
pub(crate) struct WatchedStream {
    stream: TcpStream,
    phase: SharedPhase,
}

impl WatchedStream {
    /// Watches `stream`.
    pub(crate) fn new(stream: TcpStream, phase: SharedPhase) -> Self {
        WatchedStream { stream, phase }
    }

    /// The socket.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an answer. Records when hyper has taken all of it, then discards the rest of the request's body.
pub(crate) struct WatchedBody<B> {
    body: B,
    phase: SharedPhase,
    unread: Option<UnreadBody>,
}

impl<B> WatchedBody<B> {
    /// Watches `body`. `unread` is discarded after hyper has taken the answer.
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
