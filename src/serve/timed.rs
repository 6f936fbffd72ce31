//! A connection that closes itself when the other side is too slow.
//!
//! hyper has one timer, for headers. This wrapper knows four situations: no byte yet, headers under way, a request being
//! answered (the body has a timer of its own, in the handler), and idle between requests; and it watches that answers
//! are taken.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::limits::Limits;

/// Counts the requests of a connection that are being answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    in_flight: AtomicUsize,
    /// hyper does not read again by itself after an answer, so that the idle time would never begin.
    reader: Mutex<Option<Waker>>,
}

/// One request that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Gate);

impl Gate {
    /// A request has arrived.
    pub(super) fn enter(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.clone())
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.0.in_flight.load(Ordering::Acquire) > 0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let requests = &self.0.0;
        requests.in_flight.fetch_sub(1, Ordering::AcqRel);
        if let Some(reader) = requests.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.wake();
        }
    }
}

impl InFlight {
    /// The request counts as being answered until `body` is sent or dropped.
    pub(super) fn until_sent(self, body: Body) -> Body {
        Body::new(Guarded { body, _in_flight: self })
    }
}

struct Guarded {
    body: Body,
    _in_flight: InFlight,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Situation {
    FirstByte,
    Headers,
    Busy,
    Idle,
}

/// A stream with the timeouts of [`Limits`].
pub(super) struct Timed<S> {
    stream: S,
    gate: Gate,
    situation: Situation,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    /// Whether the last write found no room.
    stalled: bool,
    header_timeout: Duration,
    idle_timeout: Duration,
    write_timeout: Duration,
}

impl<S> Timed<S> {
    pub(super) fn new(stream: S, gate: Gate, limits: &Limits) -> Self {
        Self {
            stream,
            gate,
            situation: Situation::FirstByte,
            reading: Box::pin(sleep(limits.first_byte_timeout)),
            writing: Box::pin(sleep(limits.write_timeout)),
            stalled: false,
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            write_timeout: limits.write_timeout,
        }
    }

    fn enter(&mut self, situation: Situation, timeout: Duration) {
        self.situation = situation;
        self.reading.as_mut().reset(Instant::now() + timeout);
    }

    fn watch_write<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = false;
            return progress;
        }
        if !self.stalled {
            self.stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.write_timeout);
        }
        ready!(self.writing.as_mut().poll(cx));
        Poll::Ready(Err(timed_out("the client does not take the answer")))
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let progress = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        match (this.gate.is_busy(), this.situation) {
            (true, _) => {
                this.situation = Situation::Busy;
                *this.gate.0.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
                return progress;
            }
            (false, Situation::Busy) if bytes == 0 => this.enter(Situation::Idle, this.idle_timeout),
            (false, Situation::Busy | Situation::Idle | Situation::FirstByte) if bytes > 0 => {
                this.enter(Situation::Headers, this.header_timeout);
            }
            (false, _) => {}
        }
        if progress.is_pending() && this.reading.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(timed_out("the client is too slow")));
        }
        progress
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_write(cx, progress)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch_write(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_write(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
