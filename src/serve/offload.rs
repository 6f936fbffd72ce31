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
    run_in(&PLACES, work).await
}

async fn run_in<T: Send + 'static>(
    places: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let defect = |what: &str| {
        tracing::error!(what, "work beside the event loop failed");
        ApiError::new(Fault::Internal, "the server failed on this request")
    };
    let place = places.acquire().await.map_err(|_| defect("no places"))?;
    let work = move || {
        // Held for as long as the work takes, whether or not the one who asked is still there.
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| defect(&error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_gives_its_place_back() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let failed = run_in(&PLACES, || panic!("on purpose")).await.map(|()| "done");
        assert_eq!(failed.unwrap_err().fault, Fault::Internal);
        assert_eq!(PLACES.available_permits(), 1);
        assert_eq!(run_in(&PLACES, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_keeps_its_place_when_the_one_who_asked_goes_away_and_gives_it_back_at_its_end() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        let asked = tokio::spawn(run_in(&PLACES, move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        }));
        begins.await.unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        assert_eq!(PLACES.available_permits(), 0, "the work goes on");
        let next = tokio::spawn(run_in(&PLACES, || 7));
        end.send(()).unwrap();
        let next = timeout(Duration::from_secs(20), next).await.expect("a place is given back");
        assert_eq!(next.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_for_a_place_takes_none() {
        static PLACES: Semaphore = Semaphore::const_new(1);
        let taken = PLACES.acquire().await.unwrap();
        let waiting = timeout(Duration::from_millis(20), run_in(&PLACES, || 7));
        assert!(waiting.await.is_err(), "there is no place");
        drop(taken);
        assert_eq!(PLACES.available_permits(), 1);
    }
}
