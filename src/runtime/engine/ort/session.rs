//! Sessions: one loaded graph each.

use std::sync::Arc;

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};

use super::loaded::{Loaded, loaded};
use crate::engine::deadline::Deadline;
use crate::engine::device::Device;
use crate::error::{Error, ErrorKind, Result};

pub(super) fn run_options(name: &str) -> Result<Arc<RunOptions>> {
    RunOptions::new().map(Arc::new).map_err(|e| failure(name, "cannot load this graph", &e.to_string()))
}

/// Options of the runs of a graph, through which one that does not end is stopped when the time for opening is
/// over.
pub(super) fn run_options_within(name: &str, deadline: &Deadline) -> Result<Arc<RunOptions>> {
    let options = run_options(name)?;
    let stopped = Arc::clone(&options);
    // Where stopping fails the time is over all the same.
    deadline.on_end(move || drop(stopped.terminate()));
    Ok(options)
}

/// Opens `model` where a device has it run.
pub(super) fn open_session(device: Device, name: &str, model: &[u8]) -> Result<Session> {
    let Loaded { environment, path, .. } = loaded()?;
    let builder = || -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // One worker, one thread: batches run side by side in several sessions.
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            // A plan of the memory is kept for every shape that was seen: batches and lengths make thousands
            // of them.
            .with_memory_pattern(false)?
            // Weights in 8 bits are restored to f32 when the graph is loaded. Otherwise a DequantizeLinear in
            // front of a MatMul becomes an approximate product: other logits than in other engines, and
            // slower.
            .with_config_entry("session.disable_quant_qdq", "1")?)
    };
    let cannot = |e: ort::Error| failure(name, "cannot load this graph", &e.to_string());
    let mut builder = builder().map_err(cannot)?;
    if device == Device::Cuda {
        // A provider that fails is otherwise passed over in silence, and the processor does the work. Products
        // with 10 bits of mantissa (TF32), its default, are off by 4e-4: the self test of a bundle finds that.
        let cuda = ort::ep::CUDA::default().with_tf32(false).build().error_on_failure();
        let registered = builder.with_execution_providers([cuda]);
        builder = registered.map_err(|e| no_cuda(&path, &e.to_string()))?;
    }
    builder.commit_from_memory(model).map_err(cannot)
}

/// What is missing for CUDA.
fn no_cuda(library: &std::path::Path, cause: &str) -> Error {
    let cause = cause.lines().next().unwrap_or_default();
    Error::new(ErrorKind::Engine, format!("no CUDA in the ONNX Runtime {}: {cause}", library.display())).help(
        "it takes an NVIDIA GPU with its driver, a library with the CUDA provider (`pip install \
         onnxruntime-gpu`, ORT_DYLIB_PATH if \
         several are there), and the CUDA and cuDNN libraries that it was built for; or use --device cpu",
    )
}

/// The error about what ONNX Runtime did with a graph.
pub(super) fn failure(graph: &str, what: &str, cause: &str) -> Error {
    Error::new(
        ErrorKind::Engine,
        format!("ONNX Runtime {what}: {}", cause.lines().next().unwrap_or_default()),
    )
    .in_graph(graph, None)
}

/// The session's inputs as positions in the caller's list, and the caller's outputs as positions in the
/// session's.
pub(super) fn positions(
    name: &str,
    [session_inputs, session_outputs]: [&[&str]; 2],
    inputs: &[&str],
    outputs: &[&str],
) -> Result<(Vec<usize>, Vec<usize>)> {
    let found = |wanted: &[&str], present: &[&str]| -> Result<Vec<usize>> {
        let position = |name: &&str| present.iter().position(|present| present == name);
        wanted.iter().map(|wanted| position(wanted).ok_or_else(|| failure(name, "lost", wanted))).collect()
    };
    Ok((found(session_inputs, inputs)?, found(outputs, session_outputs)?))
}
