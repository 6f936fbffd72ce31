//! The accept loop: connection limit, timeouts, and a drain that ends.
//!
//! `axum::serve` has no timeouts: half a header, an idle or a dribbling client holds a connection for ever, and one of
//! them is enough to block shutting down. This loop gives each connection to hyper inside a
//! `Timed` stream.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s2s_runtime::{Error, ErrorKind, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tower::ServiceExt;

use super::app::{Server, app};
use super::limits::Limits;
use super::timed::{Gate, Timed};

/// Largest request head, and the buffer that hyper reads into.
const READ_BUFFER: usize = 64 * 1024;
/// After the signal, a connection whose next request has not arrived whole within this time is closed.
const HALF_REQUEST: Duration = Duration::from_millis(500);

/// Where a request came from, among its extensions; what a proxy in between tells of its clients is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ClientAddress(pub(super) IpAddr);

/// Binds `host:port`; port 0 takes a free one.
///
/// # Errors
/// `Bind`: in use, not permitted, or no such address.
pub async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr)> {
    let failed = |cause: std::io::Error| {
        let (why, help) = match cause.kind() {
            std::io::ErrorKind::AddrInUse => ("the port is in use".to_owned(), "choose another with --port, or --port 0 for any free one"),
            std::io::ErrorKind::PermissionDenied => {
                ("not permitted".to_owned(), "ports below 1024 belong to the administrator; choose a higher one")
            }
            _ => (cause.to_string(), "--host takes an address of this machine, such as 127.0.0.1 or 0.0.0.0"),
        };
        Error::new(ErrorKind::Bind, format!("cannot bind {host}:{port}: {why}")).help(help).caused_by(cause)
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every accepted request was answered.
    Drained,
    /// The deadline passed, or the second signal came, with this many connections open.
    Cut(usize),
}

/// Serves until `stop`, then takes no more connections and lets requests in flight end: until the grace time is over, or
/// until `cut`.
pub async fn serve(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>, cut: impl Future<Output = ()>) -> Ended {
    let router = app(Arc::clone(&server));
    let limits = Arc::new(server.limits().clone());
    let (drain, draining) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop, cut);
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < limits.max_connections => match accepted {
                Ok((stream, peer)) => {
                    let client = ClientAddress(peer.ip().to_canonical());
                    connections.spawn(connection(stream, client, router.clone(), Arc::clone(&limits), draining.clone()));
                }
                // Out of file descriptors, or a connection that is gone already.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    let deadline = Instant::now() + limits.grace;
    let schedulers = server.drain();
    // Every receiver is a connection; without one there is nobody to tell.
    let _ = drain.send(true);
    tracing::info!(connections = connections.len(), "draining");
    let all_closed = async { while connections.join_next().await.is_some() {} };
    let drained = tokio::select! {
        done = timeout_at(deadline, all_closed) => done.is_ok(),
        () = &mut cut => false,
    };
    let open = connections.len();
    connections.abort_all();
    for scheduler in &*schedulers {
        scheduler.close();
    }
    if !drained {
        return Ended::Cut(open);
    }
    let workers_end = async {
        while !schedulers.iter().all(|scheduler| scheduler.is_finished()) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    // Nobody waits for an answer any more: a worker that has not ended is inside its last step.
    let _ = timeout_at(deadline, workers_end).await;
    Ended::Drained
}

async fn connection(stream: TcpStream, client: ClientAddress, router: Router, limits: Arc<Limits>, mut draining: watch::Receiver<bool>) {
    // Answers are small and written whole.
    let _ = stream.set_nodelay(true);
    let gate = Gate::default();
    let io = TokioIo::new(Timed::new(stream, gate.clone(), &limits));
    let requests = gate.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        let in_flight = requests.enter();
        let router = router.clone();
        async move {
            let response = router.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(response.map(|body| in_flight.until_sent(body)))
        }
    });
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(READ_BUFFER).serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
        _ = draining.wait_for(|&draining| draining) => connection.as_mut().graceful_shutdown(),
    }
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(HALF_REQUEST) => if !gate.is_busy() { return },
        }
    }
}
