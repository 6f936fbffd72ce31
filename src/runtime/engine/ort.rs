//! Graphs through ONNX Runtime, whose shared library is looked for and loaded when it is first needed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::TensorRef;

use super::Device;
use super::deadline::Deadline;
use super::graph::{DataView, Graph, Signature, Tensor, TensorView};
use super::library::{self, Library};
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::GraphInfo;
use crate::panics::caught;

/// The oldest ONNX Runtime that is taken, `1.NN`.
pub const OLDEST: &str = "1.17";

/// The library that this process has loaded; one process can load only one.
#[derive(Clone)]
pub(super) struct Loaded {
    environment: Environment,
    /// Where it was found.
    pub(super) path: PathBuf,
    /// Why it was looked for there.
    pub(super) origin: &'static str,
}

impl Loaded {
    /// `major.minor.patch`, from the library's file name, or else from what it says about its build.
    pub(super) fn version(&self) -> Option<String> {
        let numbers = library::numbers(&self.path);
        if numbers.len() >= 3 {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            return Some(numbers.join("."));
        }
        ort::info().split(['-', ' ', ',']).find(|part| part.starts_with("1.")).map(str::to_owned)
    }
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Finds and loads the library, once; a failure may be tried again.
pub(super) fn loaded() -> Result<Loaded> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = slot.as_ref() {
        return Ok(loaded.clone());
    }
    let mut failures = vec![];
    for Library { path, origin } in library::find() {
        match initialise(&path) {
            Ok(environment) => {
                tracing::debug!(path = %path.display(), "loaded ONNX Runtime");
                return Ok(slot.insert(Loaded { environment, path, origin }).clone());
            }
            Err(reason) => failures.push(format!("{}: {reason}", path.display())),
        }
    }
    let message = if failures.is_empty() {
        "ONNX Runtime was not found".to_owned()
    } else {
        format!("ONNX Runtime could not be loaded ({})", failures.join("; "))
    };
    Err(Error::new(ErrorKind::Engine, message).help(format!(
        "install it (`pip install onnxruntime`), or set ORT_DYLIB_PATH to a libonnxruntime of {OLDEST} or later; the engine tract needs nothing"
    )))
}

fn initialise(path: &std::path::Path) -> Result<Environment, String> {
    // `init_from` gives an error where the crate's other ways in panic; the guard is for a library that is
    // none.
    let attempt = || {
        ort::init_from(path)
            .map_err(|e| e.to_string())?
            .with_name("s2s")
            .with_telemetry(false)
            .build()
            .map_err(|e| e.to_string())
    };
    caught(attempt).unwrap_or_else(|_| Err("not an ONNX Runtime that fits".to_owned()))
}

/// One session; ONNX Runtime's calls want it alone, so that every worker has its own.
struct OrtGraph {
    session: Session,
    device: Device,
    model: Arc<Vec<u8>>,
    signature: Signature,
    /// Through which a run that does not end is stopped while the bundle is opened.
    options: Arc<RunOptions>,
    /// The session's inputs, as positions in the caller's list.
    inputs: Vec<usize>,
    /// The caller's outputs, as positions in the session's list.
    outputs: Vec<usize>,
}

pub(super) fn load(
    device: Device,
    name: &str,
    model: Arc<Vec<u8>>,
    info: &GraphInfo,
    inputs: &[&str],
    outputs: &[&str],
    deadline: &Deadline,
) -> Result<Box<dyn Graph>> {
    let signature = Signature::new(name, info, inputs, outputs)?;
    let session = open_session(device, name, &model)?;
    let positions = |wanted: &[&str], present: &[&str]| -> Result<Vec<usize>> {
        let position = |name: &&str| present.iter().position(|present| present == name);
        wanted
            .iter()
            .map(|name| position(name).ok_or_else(|| failure(signature.name(), "lost", name)))
            .collect()
    };
    let session_inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
    let session_outputs: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
    let (from_caller, to_caller) =
        (positions(&session_inputs, inputs)?, positions(outputs, &session_outputs)?);
    let options = run_options(name)?;
    let stopped = Arc::clone(&options);
    // Where stopping fails the time is over all the same.
    deadline.on_end(move || drop(stopped.terminate()));
    Ok(Box::new(OrtGraph {
        session,
        device,
        model,
        signature,
        options,
        inputs: from_caller,
        outputs: to_caller,
    }))
}

fn run_options(name: &str) -> Result<Arc<RunOptions>> {
    RunOptions::new().map(Arc::new).map_err(|e| failure(name, "cannot load this graph", &e.to_string()))
}

fn open_session(device: Device, name: &str, model: &[u8]) -> Result<Session> {
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
        // A provider that fails is otherwise passed over in silence, and the processor does the work.
        let registered =
            builder.with_execution_providers([ort::ep::CUDA::default().build().error_on_failure()]);
        builder = registered.map_err(|e| no_cuda(&path, &e.to_string()))?;
    }
    builder.commit_from_memory(model).map_err(cannot)
}

/// What is missing for CUDA.
fn no_cuda(library: &std::path::Path, cause: &str) -> Error {
    let cause = cause.lines().next().unwrap_or_default();
    Error::new(ErrorKind::Engine, format!("no CUDA in the ONNX Runtime {}: {cause}", library.display())).help(
        "it takes an NVIDIA GPU with its driver, a library with the CUDA provider (`pip install onnxruntime-gpu`, ORT_DYLIB_PATH if \
         several are there), and the CUDA and cuDNN libraries that it was built for; or use --device cpu",
    )
}

fn failure(graph: &str, what: &str, cause: &str) -> Error {
    Error::new(
        ErrorKind::Engine,
        format!("ONNX Runtime {what}: {}", cause.lines().next().unwrap_or_default()),
    )
    .in_graph(graph, None)
}

impl Graph for OrtGraph {
    fn run(&mut self, inputs: &[TensorView<'_>], outputs: &mut Vec<Tensor>) -> Result<()> {
        self.signature.check(inputs)?;
        let (session, options, from_caller, to_caller) =
            (&mut self.session, &*self.options, &self.inputs, &self.outputs);
        let mut run = || -> ort::Result<()> {
            let mut values: Vec<SessionInputValue<'_>> = Vec::with_capacity(inputs.len());
            for &position in from_caller {
                let TensorView { shape, data } = inputs[position];
                values.push(match data {
                    DataView::I64(data) => TensorRef::from_array_view((shape, data))?.into(),
                    DataView::F32(data) => TensorRef::from_array_view((shape, data))?.into(),
                });
            }
            let results = session.run_with_options(values.as_slice(), options)?;
            outputs.resize_with(to_caller.len(), Tensor::default);
            for (output, &position) in outputs.iter_mut().zip(to_caller) {
                let result = &results[position];
                let size = |&size: &i64| usize::try_from(size).unwrap_or_default();
                match result.try_extract_tensor::<f32>() {
                    Ok((shape, data)) => output.fill(shape.iter().map(size), data),
                    Err(error) => {
                        let (shape, ids) = result.try_extract_tensor::<i64>().map_err(|_| error)?;
                        let ids: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
                        output.fill(shape.iter().map(size), &ids);
                    }
                }
            }
            Ok(())
        };
        run().map_err(|e| failure(self.signature.name(), "failed", &e.to_string()))
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let session = open_session(self.device, self.signature.name(), &self.model)?;
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        Ok(Box::new(Self {
            session,
            device: self.device,
            model: Arc::clone(&self.model),
            signature: self.signature.clone(),
            options: run_options(self.signature.name())?,
            inputs,
            outputs,
        }))
    }
}
