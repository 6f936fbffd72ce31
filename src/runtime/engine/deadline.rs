//! A time limit on what engines do while a bundle is opened: a graph may loop 2^63 times.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// How long opening a bundle may take, all graphs and the self test together. Models of a gigabyte take some
/// ten seconds.
pub(super) const OPENING: Duration = Duration::from_secs(60);
/// How long an engine that was asked to stop is waited for.
const STOPPING: Duration = Duration::from_secs(2);
/// As much as a program's first thread has: tract's passes recurse.
const STACK: usize = 8 << 20;

/// Asks an engine to stop.
type Stop = Box<dyn Fn() + Send>;

/// The end of a time, and what stops those who work towards it.
#[derive(Clone)]
pub(super) struct Deadline {
    end: Instant,
    limit: Duration,
    stops: Arc<Mutex<Vec<Stop>>>,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, limit, stops: Arc::default() }
    }

    /// What is called when the time is over.
    #[cfg(feature = "ort")]
    pub(super) fn on_end(&self, stop: impl Fn() + Send + 'static) {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(stop));
    }

    /// Does `work` on a thread of its own. When the time is over it is asked to stop, and left behind if it
    /// does not: its thread ends with the process at the latest.
    ///
    /// - `graph`, `what`: for the error.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`]; what `work` gives.
    pub(super) fn run<T: Send + 'static>(
        &self,
        graph: &str,
        what: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = mpsc::channel();
        let worker = move || drop(sender.send(work()));
        let thread = std::thread::Builder::new().name("s2s-open".to_owned()).stack_size(STACK).spawn(worker);
        thread.map_err(|e| {
            Error::new(ErrorKind::Engine, "no thread can be started").in_graph(graph, None).caused_by(e)
        })?;
        match receiver.recv_timeout(self.end.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(Error::new(ErrorKind::Engine, format!("{what} ended in a panic")).in_graph(graph, None))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.stops.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|stop| stop());
                let _ = receiver.recv_timeout(STOPPING);
                let message = format!("{what} takes longer than {:.0} s", self.limit.as_secs_f64());
                Err(Error::new(ErrorKind::Timeout, message)
                    .in_graph(graph, None)
                    .help("a Loop in the graph may never end; is this the right file?"))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn work_that_does_not_end_is_stopped_and_becomes_an_error_that_names_the_graph() {
        let stopped = Arc::new(AtomicBool::new(false));
        let deadline = Deadline::after(Duration::from_millis(50));
        let flag = Arc::clone(&stopped);
        deadline.stops.lock().unwrap().push(Box::new(move || flag.store(true, Ordering::Relaxed)));
        let flag = Arc::clone(&stopped);
        let endless = move || {
            while !flag.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        };
        let error = deadline.run("encoder.onnx", "loading it", endless).unwrap_err();
        assert_eq!((error.kind(), stopped.load(Ordering::Relaxed)), (ErrorKind::Timeout, true));
        assert!(error.to_string().starts_with("encoder.onnx: loading it takes longer than"), "{error}");
        assert_eq!(Deadline::after(OPENING).run("g", "adding", || Ok(1 + 1)).unwrap(), 2);
    }
}
