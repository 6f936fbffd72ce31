//! Graphs through ONNX Runtime, whose shared library is looked for and loaded when it is first needed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};

use super::arrange::{Arrangement, foreign, note_copy};
use super::deadline::Deadline;
use super::device::Device;
use super::graph::{DataView, DeviceTensor, Feed, Graph, Signature, Tensor, TensorView, Value};
use super::library::{self, Library};
use crate::checked::SharedModel;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{BOOL, FLOAT, GraphInfo, INT32, INT64};
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
        "install it (`pip install onnxruntime`), or set ORT_DYLIB_PATH to a libonnxruntime of {OLDEST} or \
         later; the engine tract needs nothing"
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

/// A tensor of ONNX Runtime, wherever its session keeps it.
struct OrtTensor {
    value: DynValue,
    shape: Vec<usize>,
    element_type: i32,
}

impl DeviceTensor for OrtTensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn element_type(&self) -> i32 {
        self.element_type
    }
}

impl OrtTensor {
    fn of(value: &Value) -> ort::Result<&Self> {
        let any: &dyn std::any::Any = &**value;
        any.downcast_ref().ok_or_else(|| ort::Error::new(foreign().message()))
    }

    fn wrapped(value: DynValue) -> ort::Result<Value> {
        let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
            return Err(ort::Error::new("a value that is no tensor"));
        };
        let element_type = match ty {
            TensorElementType::Float32 => FLOAT,
            TensorElementType::Int32 => INT32,
            TensorElementType::Int64 => INT64,
            TensorElementType::Bool => BOOL,
            other => return Err(ort::Error::new(format!("a tensor of {other}, which is not handled"))),
        };
        let shape = shape.iter().map(|&length| usize::try_from(length).unwrap_or_default()).collect();
        Ok(Arc::new(Self { value, shape, element_type }))
    }

    /// The values as f32.
    fn read(&self, into: &mut Tensor) -> ort::Result<()> {
        let shape = self.shape.iter().copied();
        match self.element_type {
            FLOAT => into.fill(shape, self.value.try_extract_tensor::<f32>()?.1.iter().copied()),
            INT32 => {
                let (_, data) = self.value.try_extract_tensor::<i32>()?;
                into.fill(shape, data.iter().map(|&x| x as f32));
            }
            INT64 => {
                let (_, data) = self.value.try_extract_tensor::<i64>()?;
                into.fill(shape, data.iter().map(|&x| x as f32));
            }
            _ => {
                let (_, data) = self.value.try_extract_tensor::<bool>()?;
                into.fill(shape, data.iter().map(|&x| f32::from(u8::from(x))));
            }
        }
        Ok(())
    }
}

/// Rows of tensors in the host's memory as a new one, in the session's memory if that is at hand: pages that
/// come fresh from the system at each step take longer than what is copied into them.
fn arranged<T>(
    arena: Option<&Allocator>,
    parts: &[&OrtTensor],
    arrangement: &Arrangement<'_>,
) -> ort::Result<DynValue>
where
    T: ort::value::PrimitiveTensorElementType + Copy + Default + std::fmt::Debug + 'static,
{
    let parts = parts
        .iter()
        .map(|part| Ok((part.shape.as_slice(), part.value.try_extract_tensor::<T>()?.1)))
        .collect::<ort::Result<Vec<_>>>()?;
    let shape = arrangement.shape();
    let Some(arena) = arena.filter(|_| !shape.contains(&0)) else {
        let data = arrangement.collect(&parts).map_err(ort::Error::new)?;
        return Ok(ort::value::Tensor::from_array((shape, data))?.into_dyn());
    };
    let mut tensor = ort::value::Tensor::<T>::new(arena, shape)?;
    arrangement.fill(&parts, tensor.extract_tensor_mut().1).map_err(ort::Error::new)?;
    Ok(tensor.into_dyn())
}

/// One session; ONNX Runtime's calls want it alone, so that every worker has its own.
struct OrtGraph {
    session: Session,
    arena: Option<Allocator>,
    device: Device,
    model: Arc<SharedModel>,
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
    model: Arc<SharedModel>,
    info: &GraphInfo,
    inputs: &[&str],
    outputs: &[&str],
    deadline: &Deadline,
) -> Result<Box<dyn Graph>> {
    let signature = Signature::new(name, info, inputs, outputs)?;
    let session = model.with_bytes(|bytes| open_session(device, name, bytes))?;
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
        arena: arena(&session),
        session,
        device,
        model,
        signature,
        options,
        inputs: from_caller,
        outputs: to_caller,
    }))
}

/// The memory that the session computes in; a failure is no error, because any memory will do.
fn arena(session: &Session) -> Option<Allocator> {
    let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Arena, MemoryType::Default).ok()?;
    Allocator::new(session, info).inspect_err(|error| tracing::debug!(%error, "no arena")).ok()
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

fn failure(graph: &str, what: &str, cause: &str) -> Error {
    Error::new(
        ErrorKind::Engine,
        format!("ONNX Runtime {what}: {}", cause.lines().next().unwrap_or_default()),
    )
    .in_graph(graph, None)
}

impl OrtGraph {
    fn failed(&self, error: &ort::Error) -> Error {
        failure(self.signature.name(), "failed", &error.to_string())
    }
}

impl Graph for OrtGraph {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
        self.signature.check(inputs)?;
        outputs.clear();
        let (session, options, from_caller, to_caller) =
            (&mut self.session, &*self.options, &self.inputs, &self.outputs);
        let mut run = || -> ort::Result<()> {
            let mut values: Vec<SessionInputValue<'_>> = Vec::with_capacity(inputs.len());
            for &position in from_caller {
                values.push(match inputs[position] {
                    Feed::Value(value) => (&OrtTensor::of(value)?.value).into(),
                    Feed::Host(TensorView { shape, data }) => match data {
                        DataView::I64(data) => TensorRef::from_array_view((shape, data))?.into(),
                        DataView::I32(data) => TensorRef::from_array_view((shape, data))?.into(),
                        DataView::F32(data) => TensorRef::from_array_view((shape, data))?.into(),
                        DataView::Bool(data) => TensorRef::from_array_view((shape, data))?.into(),
                    },
                });
            }
            let results = session.run_with_options(values.as_slice(), options)?;
            let mut results: Vec<Option<DynValue>> =
                results.into_iter().map(|(_, value)| Some(value)).collect();
            for &position in to_caller {
                let result = results.get_mut(position).and_then(Option::take);
                outputs.push(OrtTensor::wrapped(
                    result.ok_or_else(|| ort::Error::new("an output is missing"))?,
                )?);
            }
            Ok(())
        };
        run().map_err(|error| self.failed(&error))
    }

    fn upload(&self, TensorView { shape, data }: TensorView<'_>) -> Result<Value> {
        let uploaded = match data {
            DataView::I64(data) => {
                ort::value::Tensor::from_array((shape, data.to_vec())).map(|t| t.into_dyn())
            }
            DataView::I32(data) => {
                ort::value::Tensor::from_array((shape, data.to_vec())).map(|t| t.into_dyn())
            }
            DataView::F32(data) => {
                ort::value::Tensor::from_array((shape, data.to_vec())).map(|t| t.into_dyn())
            }
            DataView::Bool(data) => {
                ort::value::Tensor::from_array((shape, data.to_vec())).map(|t| t.into_dyn())
            }
        };
        note_copy(data.described().1);
        uploaded.and_then(OrtTensor::wrapped).map_err(|error| self.failed(&error))
    }

    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        OrtTensor::of(value).and_then(|tensor| tensor.read(into)).map_err(|error| self.failed(&error))
    }

    fn read_rows(&self, value: &Value, width: usize, rows: &[usize], into: &mut Tensor) -> Result<()> {
        let tensor = OrtTensor::of(value).map_err(|error| self.failed(&error))?;
        if tensor.element_type == FLOAT {
            let data = tensor.value.try_extract_tensor::<f32>().map_err(|error| self.failed(&error))?.1;
            return into.fill_rows(data, width, rows);
        }
        let mut whole = Tensor::default();
        tensor.read(&mut whole).map_err(|error| self.failed(&error))?;
        into.fill_rows(&whole.data, width, rows)
    }

    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        let arena = self.arena.as_ref();
        let arrange = || {
            let parts = parts.iter().map(|part| OrtTensor::of(part)).collect::<ort::Result<Vec<_>>>()?;
            let value = match parts.first().map(|part| part.element_type) {
                Some(INT64) => arranged::<i64>(arena, &parts, arrangement)?,
                Some(INT32) => arranged::<i32>(arena, &parts, arrangement)?,
                Some(BOOL) => arranged::<bool>(arena, &parts, arrangement)?,
                _ => arranged::<f32>(arena, &parts, arrangement)?,
            };
            OrtTensor::wrapped(value)
        };
        arrange().map_err(|error| self.failed(&error))
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let open = |bytes: &[u8]| open_session(self.device, self.signature.name(), bytes);
        let session = self.model.with_bytes(open)?;
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        Ok(Box::new(Self {
            arena: arena(&session),
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
