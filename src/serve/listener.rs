//! The accept loop: connection limits, and a drain that ends.
//!
//! `axum::serve` has no timeouts: half a header, an idle or a dribbling client holds a connection for ever,
//! and one of them is enough to block shutting down. This loop gives each connection to hyper inside a
//! `Timed` stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use s2s_runtime::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::app::app;
use super::client::ClientAddress;
use super::connection::connection;
use super::connections::{Connections, Place};
use super::server::Server;
use super::timed::Gate;

/// Connections that may be closing to make room while others are accepted; their files count among those that
/// may be open.
const LEAVING: usize = 16;
/// Between two times that memory is given back.
const TIDYING: Duration = Duration::from_secs(10);
/// How many times it is given back after the last request.
const AFTERWARDS: usize = 5;
/// How long to wait before looking again for a place or a file descriptor.
const AGAIN: Duration = Duration::from_millis(50);
/// Connections that are told at once that their address has too many.
const REFUSALS: usize = 32;
/// How long they are told.
const REFUSING: Duration = Duration::from_secs(1);
/// More connections than the kernel holds for a listener.
const BACKLOG: usize = 4096;

/// Binds `host:port`; port 0 takes a free one.
///
/// # Errors
/// `Bind`: in use, not permitted, or no such address.
pub async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr)> {
    let failed = |cause: std::io::Error| {
        let (why, help) = match cause.kind() {
            std::io::ErrorKind::AddrInUse => {
                ("the port is in use".to_owned(), "choose another with --port, or --port 0 for any free one")
            }
            std::io::ErrorKind::PermissionDenied => (
                "not permitted".to_owned(),
                "ports below 1024 belong to the administrator; choose a higher one",
            ),
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

/// Serves until `stop`, then takes no more connections and lets requests in flight end: until the grace time
/// is over, or until `cut`.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    stop: impl Future<Output = ()>,
    cut: impl Future<Output = ()>,
) -> Ended {
    let router = app(Arc::clone(&server));
    let limits = server.limits();
    let (drain, draining) = watch::channel(false);
    let mut connections = Connections::new(limits.max_connections, limits.max_connections_per_address);
    let mut refusals = JoinSet::new();
    // The one that has no place yet.
    let mut waiting: Option<(TcpStream, ClientAddress)> = None;
    let spawn = |connections: &mut Connections, stream, client| {
        let gate = Gate::default();
        let serving =
            connection(stream, client, gate.clone(), router.clone(), Arc::clone(&server), draining.clone());
        connections.spawn(client, gate, serving);
    };
    let tidying = tokio::spawn(give_memory_back(Arc::clone(&server)));
    tokio::pin!(stop, cut);
    loop {
        tokio::select! {
            accepted = listener.accept(), if waiting.is_none() && connections.leaving() < LEAVING => match accepted {
                Ok((stream, peer)) => waiting = Some((stream, ClientAddress(peer.ip().to_canonical()))),
                // Out of file descriptors, or a connection that is gone already.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(AGAIN).await;
                }
            },
            Some(()) = connections.ended() => {}
            Some(_) = refusals.join_next() => {}
            // A connection falls quiet without ending.
            () = sleep(AGAIN), if waiting.is_some() => {}
            () = &mut stop => break,
        }
        let Some((stream, client)) = waiting.take() else { continue };
        match connections.place(client) {
            Place::Free => spawn(&mut connections, stream, client),
            Place::None => waiting = Some((stream, client)),
            Place::Denied if refusals.len() < REFUSALS => {
                drop(refusals.spawn(refuse(stream, server.refused_connection())));
            }
            Place::Denied => {}
        }
    }
    tidying.abort();
    let deadline = Instant::now() + limits.grace;
    let schedulers = server.drain();
    let accepted = waiting.into_iter().chain(backlog(listener));
    accepted.for_each(|(stream, client)| spawn(&mut connections, stream, client));
    // Every receiver is a connection; without one there is nobody to tell.
    let _ = drain.send(true);
    tracing::info!(connections = connections.len(), "draining");
    let all_closed = async { while connections.ended().await.is_some() {} };
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

/// Now and then, while requests come and for a while after: what large ones have left behind would otherwise
/// stay with the process for good. Slow clients hold theirs until their timeouts.
async fn give_memory_back(server: Arc<Server>) {
    let (mut seen, mut quiet) = (0, AFTERWARDS);
    loop {
        sleep(TIDYING).await;
        let arrived = server.metrics().arrived.load(Ordering::Relaxed);
        quiet = if std::mem::replace(&mut seen, arrived) == arrived { quiet + 1 } else { 0 };
        if quiet < AFTERWARDS {
            // It cannot fail; a thread that cannot be had is no reason to stop.
            let _ = tokio::task::spawn_blocking(s2s_kernels::give_memory_back).await;
        }
    }
}

/// Closes the listener after taking what the kernel has accepted already: closing alone would reset those
/// clients.
fn backlog(listener: TcpListener) -> Vec<(TcpStream, ClientAddress)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut taken = Vec::new();
    // Clients that go on connecting do not keep the server from stopping.
    for _ in 0..BACKLOG {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                taken.extend(stream.ok().map(|stream| (stream, ClientAddress(peer.ip().to_canonical()))));
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(_) => break,
        }
    }
    taken
}

/// Tells a client why it is not served, and waits a moment that it may read that.
async fn refuse(mut stream: TcpStream, answer: Vec<u8>) {
    let _ = timeout(REFUSING, async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 4096];
        while stream.read(&mut scratch).await? > 0 {}
        Ok::<_, std::io::Error>(())
    })
    .await;
}
