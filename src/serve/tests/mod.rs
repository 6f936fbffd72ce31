//! The server over a scripted model: [`router`] without a socket, [`socket`] on loopback.
#![allow(clippy::unwrap_used)]

mod apps;
mod costs;
mod crowd;
mod files;
mod hostile;
mod lines;
mod protocols;
mod router;
mod scripted;
mod socket;
mod unread;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::ApiKey;
use super::limits::Limits;
use super::scheduler::Scheduler;
use super::server::Server;
use scripted::{Record, Scripted};

/// A server that is ready, and what its model goes through.
fn server(limits: &Limits, model: Scripted, key: Option<&str>) -> (Arc<Server>, Arc<Record>) {
    let record = Arc::clone(&model.record);
    let server = Server::new(limits.clone(), key.map(ApiKey::new));
    let metrics = server.metrics().model("");
    server.ready([Scheduler::start(Arc::new(model), 1, limits, &metrics).unwrap()]);
    (Arc::new(server), record)
}

/// Waits until `holds`, which must come true well before a minute.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
