//! A connection that closes itself when the other side is too slow, and never without an answer.
//!
//! hyper has one timer, for headers. This wrapper knows four situations: no byte yet, headers under way, a
//! request being answered (the body has a timer of its own, in the handler), and idle between requests; and
//! it watches that answers are taken. It also gives a body to hyper's own refusals of heads, and closes so
//! that a client which still sends can read its answer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::limits::Limits;

/// A connection that lingers is closed when no byte came for this long,
const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// when it has lingered this long,
const LINGER_TIME: Duration = Duration::from_secs(30);
/// or when so many bytes have come.
const LINGER_BYTES: usize = 64 << 20;

/// Counts the requests of a connection that are being answered.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Requests>);

#[derive(Debug)]
struct Requests {
    in_flight: AtomicUsize,
    /// Requests that hyper has handed over, and those whose answer it has taken over entirely.
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Whether the other side may still send when this one has said everything.
    lingers: AtomicBool,
    /// Since when nothing is being answered.
    quiet: Mutex<Instant>,
    /// hyper does not read again by itself after an answer, so that the idle time would never begin.
    reader: Mutex<Option<Waker>>,
}

/// Work on a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    gate: Gate,
    is_answer: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Requests {
            in_flight: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            lingers: AtomicBool::new(false),
            quiet: Mutex::new(Instant::now()),
            reader: Mutex::default(),
        }))
    }
}

impl Gate {
    /// A request has arrived.
    pub(super) fn enter(&self) -> InFlight {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        self.work(true)
    }

    /// What is left of a body is being read, beside its answer.
    pub(super) fn drain(&self) -> InFlight {
        self.work(false)
    }

    fn work(&self, is_answer: bool) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight { gate: self.clone(), is_answer }
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.0.in_flight.load(Ordering::Acquire) > 0
    }

    /// Whether no request has arrived yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.0.begun.load(Ordering::Acquire) == 0
    }

    /// Since when nothing is being answered; `None` while something is.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        (!self.is_busy()).then(|| *self.0.quiet.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the connection is shut down, what the other side still sends is read and dropped for a while:
    /// closing a socket with unread bytes resets the connection, and a client that is reset may never see its
    /// answer.
    pub(super) fn linger(&self) {
        self.0.lingers.store(true, Ordering::Release);
    }

    /// All answers, if none is on its way to hyper.
    fn answers(&self) -> Option<usize> {
        let begun = self.0.begun.load(Ordering::Acquire);
        (self.0.ended.load(Ordering::Acquire) == begun).then_some(begun)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let requests = &self.gate.0;
        if self.is_answer {
            requests.ended.fetch_add(1, Ordering::AcqRel);
        }
        *requests.quiet.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
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

/// What a client is told whose head hyper cannot read, in place of `head`, hyper's answer without a body.
pub(super) type Refusal = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A stream with the timeouts of [`Limits`].
pub(super) struct Timed<S> {
    stream: S,
    refusal: Refusal,
    /// Answers that have been written to the end: whatever is written while there are no others is a refusal
    /// by hyper.
    written: usize,
    /// The refusal that is written in place of hyper's, and how much of it has been.
    refusing: Option<(Vec<u8>, usize)>,
    /// Bytes that came while lingering, after this side was closed.
    lingered: Option<usize>,
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
    pub(super) fn new(stream: S, gate: Gate, limits: &Limits, refusal: Refusal) -> Self {
        Self {
            stream,
            refusal,
            written: 0,
            refusing: None,
            lingered: None,
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
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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

impl<S: AsyncWrite + Unpin> Timed<S> {
    /// Writes a refusal in place of the one that hyper writes: it has no hook for this.
    ///
    /// hyper writes by itself only after it could not read a head, and then nothing but that answer: "100
    /// Continue" comes within a request. Behind an answer that a client does not take, hyper's goes out as it
    /// is.
    fn poll_refusal(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.gate.answers() != Some(self.written) {
            return None;
        }
        if self.refusing.is_none() {
            self.gate.linger();
            let head: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.refusing = Some(((self.refusal)(&head), 0));
        }
        let (refusal, sent) = self.refusing.as_mut()?;
        while *sent < refusal.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &refusal[*sent..]) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(n)) => *sent += n,
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        Some(Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum())))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let refused = self.poll_refusal(cx, &[io::IoSlice::new(bytes)]);
        let progress = refused.unwrap_or_else(|| Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.watch_write(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let refused = self.poll_refusal(cx, parts);
        let progress = refused.unwrap_or_else(|| Pin::new(&mut self.stream).poll_write_vectored(cx, parts));
        self.watch_write(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper flushes when it has nothing left to write.
        if let (true, Some(answers)) = (progress.is_ready(), self.gate.answers()) {
            self.written = answers;
        }
        self.watch_write(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingered.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if !this.gate.0.lingers.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            this.lingered = Some(0);
            this.reading.as_mut().reset(Instant::now() + LINGER_SILENCE);
            this.writing.as_mut().reset(Instant::now() + LINGER_TIME);
        }
        let lingered = this.lingered.get_or_insert_default();
        let mut scratch = [0; 8192];
        while *lingered < LINGER_BYTES && this.writing.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    *lingered += buffer.filled().len();
                    this.reading.as_mut().reset(Instant::now() + LINGER_SILENCE);
                }
                // The other side has closed too.
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(this.reading.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}
