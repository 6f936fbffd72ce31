//! One graph of a bundle as a model of its own: tensors in, tensors out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use s2s_runtime::bundle::Bundle;
use s2s_runtime::engine::graph::{Graph, Tensor, TensorView};
use s2s_runtime::engine::{EngineKind, load_graph};
use s2s_runtime::graph_info::GraphInfo;
use s2s_runtime::manifest::Role;
use s2s_runtime::{Error, ErrorKind, Result, panics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, Fault};

/// A graph and the engines that run it.
pub struct RawGraph {
    bundle: Arc<Bundle>,
    role: Role,
    kind: EngineKind,
    info: GraphInfo,
    /// Loaded and not running.
    idle: Mutex<Vec<Box<dyn Graph>>>,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place among those that wait; given back when this is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RawGraph {
    /// - `workers`: how many calls may run at once.
    ///
    /// # Errors
    /// The bundle has no such graph.
    pub fn new(bundle: Arc<Bundle>, role: Role, kind: EngineKind, workers: usize) -> Result<Self> {
        let info = bundle.graph_info(role)?.clone();
        Ok(Self {
            bundle,
            role,
            kind,
            info,
            idle: Mutex::default(),
            running: Arc::new(Semaphore::new(workers.max(1))),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Which graph it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Inputs and outputs.
    pub fn info(&self) -> &GraphInfo {
        &self.info
    }

    /// Ids of `input` must be below this; `None` if it does not take ids.
    pub fn vocabulary(&self, input: &str) -> Option<usize> {
        let wiring = &self.bundle.manifest().wiring;
        if input == wiring.encoder_input {
            return Some(self.bundle.source().size());
        }
        (input == wiring.decoder_input || input == s2s_runtime::contract::DECODER_TARGET)
            .then(|| self.bundle.target().size())
    }

    /// Waits for leave to run.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn permit(&self, max_queue: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if before >= max_queue {
            return Err(ApiError::new(Fault::Overloaded, "the queue is full; try again later"));
        }
        Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::new(Fault::Draining, "the server is shutting down"))
    }

    /// Runs the graph; loads it if all loaded ones are running.
    ///
    /// - `inputs`: in the order of [`info`](Self::info); outputs come in its order too.
    ///
    /// # Errors
    /// `Input` where a tensor does not fit; what the engine says.
    pub fn run(&self, inputs: &[TensorView<'_>]) -> Result<Vec<Tensor>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut graph = idle.map_or_else(|| self.load(), Ok)?;
            let mut outputs = Vec::new();
            let result = graph.run(inputs, &mut outputs);
            Ok::<_, Error>((graph, result.map(|()| outputs)))
        }));
        let panicked = |panic: Box<dyn std::any::Any + Send>| {
            Error::new(ErrorKind::Internal, format!("a graph panicked: {}", panics::message(&*panic)))
        };
        let (graph, result) = ran.map_err(panicked)??;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(graph);
        result
    }

    fn load(&self) -> Result<Box<dyn Graph>> {
        let inputs: Vec<&str> = self.info.inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs: Vec<&str> = self.info.outputs.iter().map(|output| output.name.as_str()).collect();
        load_graph(
            self.kind,
            self.bundle.graph_name(self.role),
            self.bundle.graph(self.role)?,
            &inputs,
            &outputs,
        )
    }
}
