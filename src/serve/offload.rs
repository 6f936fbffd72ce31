//! Work that would hold the event loop up, on threads beside it.

use std::sync::LazyLock;

use s2s_runtime::translator::default_workers;
use tokio::sync::Semaphore;

use super::error::{ApiError, Fault};

/// Half of the processors: what one request costs here must not keep the others' decoding waiting.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new((default_workers() / 2).max(1)));

/// Runs `work` on a thread of its own when one of a few places is free, so that requests which need much of
/// it wait for one another and hold up nobody else.
///
/// # Errors
/// `Internal` if it panics.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let defect = |what: &str| {
        tracing::error!(what, "work beside the event loop failed");
        ApiError::new(Fault::Internal, "the server failed on this request")
    };
    let place = PLACES.acquire().await.map_err(|_| defect("no places"))?;
    let work = move || {
        // Held for as long as the work takes, whether or not the one who asked is still there.
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| defect(&error.to_string()))
}
