//! One connection: requests to the router, and what becomes of bodies that nobody has read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::body::SMALL;
use super::client::ClientAddress;
use super::limits::READ_BUFFER;
use super::server::Server;
use super::timed::{Gate, Timed};

/// After the signal, a connection whose next request has not arrived whole within this time is closed.
const HALF_REQUEST: Duration = Duration::from_millis(500);
/// After the signal, a request on an idle connection that the kernel has already is still taken.
const ARRIVED: Duration = Duration::from_millis(20);

/// The body of a request, of which the connection keeps hold: what the handler leaves is there afterwards.
#[derive(Clone)]
struct Lent(Arc<Mutex<Left>>);

struct Left {
    /// `None` when it is being drained.
    body: Option<Incoming>,
    is_begun: bool,
    is_ended: bool,
}

impl Lent {
    fn new(body: Incoming) -> Self {
        let is_ended = body.is_end_stream();
        Self(Arc::new(Mutex::new(Left { body: Some(body), is_begun: false, is_ended })))
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let left = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.is_begun = true;
        let Some(body) = &mut left.body else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        left.is_ended |= matches!(frame, Poll::Ready(None)) || body.is_end_stream();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_ended
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Lent {
    /// After an answer to a request whose body was not read to its end: a small rest is read beside the
    /// answer, so that the connection can be used again. Otherwise the answer says that the connection
    /// closes, and it lingers.
    fn settle(&self, is_awaited: bool, answer: &mut HeaderMap, gate: &Gate, body_timeout: Duration) {
        let left = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(body) = left.body.take().filter(|_| !left.is_ended) else { return };
        let closes = answer
            .get(header::CONNECTION)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        // Reading would ask a client for the body that it holds back until it is asked.
        let is_held_back = is_awaited && !left.is_begun;
        if !closes && !is_held_back && body.size_hint().exact().is_some_and(|rest| rest <= SMALL as u64) {
            let draining = gate.drain();
            tokio::spawn(async move {
                let _draining = draining;
                let mut body = body;
                // Dropping a body that is not read to its end closes the connection.
                let _ = timeout(body_timeout, async { while let Some(Ok(_)) = body.frame().await {} }).await;
            });
            return;
        }
        answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
        gate.linger();
    }
}

/// Serves requests until the other side closes, is too slow, or the server drains.
pub(super) async fn connection(
    stream: TcpStream,
    client: ClientAddress,
    gate: Gate,
    router: Router,
    server: Arc<Server>,
    mut draining: watch::Receiver<bool>,
) {
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let limits = server.limits();
    let refusal = Box::new({
        let server = Arc::clone(&server);
        move |head: &[u8]| server.refused_head(head)
    });
    let io = TokioIo::new(Timed::new(stream, gate.clone(), limits, refusal));
    let (requests, is_draining, body_timeout) = (gate.clone(), draining.clone(), limits.body_timeout);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        let (gate, is_draining) = (requests.clone(), is_draining.clone());
        let answering = gate.enter();
        let router = router.clone();
        async move {
            let is_awaited = request.headers().contains_key(header::EXPECT);
            let (head, body) = request.into_parts();
            let body = Lent::new(body);
            let mut response = router.oneshot(Request::from_parts(head, Body::new(body.clone()))).await?;
            if *is_draining.borrow() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            body.settle(is_awaited, response.headers_mut(), &gate, body_timeout);
            Ok::<_, Infallible>(response.map(|body| answering.until_sent(body)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(READ_BUFFER)
        .serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
        _ = draining.wait_for(|&draining| draining) => {}
    }
    // hyper closes a connection of which it has read nothing, even if a request lies in the kernel.
    let arrives = async {
        let patience = if gate.is_fresh() { HALF_REQUEST } else { ARRIVED };
        let until = tokio::time::Instant::now() + patience;
        while !gate.is_busy() && tokio::time::Instant::now() < until {
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = arrives => connection.as_mut().graceful_shutdown(),
    }
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(HALF_REQUEST) => if !gate.is_busy() { return },
        }
    }
}
