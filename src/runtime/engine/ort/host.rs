//! Graphs on the processor, one session a worker.

use std::sync::Arc;

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, TensorRef};

use super::session::{failure, open_session, positions, run_options, run_options_within};
use super::tensor::{Memory, OrtTensor};
use crate::checked::SharedModel;
use crate::engine::arrange::{Arrangement, note_copy};
use crate::engine::deadline::Deadline;
use crate::engine::device::Device;
use crate::engine::graph::{DataView, Feed, Graph, Signature, Tensor, TensorView, Value};
use crate::error::{Error, Result};
use crate::graph_info::{BOOL, FLOAT, GraphInfo, INT32, INT64};

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
pub(super) struct OrtGraph {
    session: Session,
    arena: Option<Allocator>,
    model: Arc<SharedModel>,
    signature: Signature,
    /// Through which a run that does not end is stopped while the bundle is opened.
    options: Arc<RunOptions>,
    /// The session's inputs, as positions in the caller's list.
    inputs: Vec<usize>,
    /// The caller's outputs, as positions in the session's list.
    outputs: Vec<usize>,
}

/// The memory that the session computes in; a failure is no error, because any memory will do.
fn arena(session: &Session) -> Option<Allocator> {
    let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Arena, MemoryType::Default).ok()?;
    Allocator::new(session, info).inspect_err(|error| tracing::debug!(%error, "no arena")).ok()
}

impl OrtGraph {
    /// A graph in a session of its own; `info` is its outside.
    pub(super) fn load(
        name: &str,
        model: Arc<SharedModel>,
        info: &GraphInfo,
        inputs: &[&str],
        outputs: &[&str],
        deadline: &Deadline,
    ) -> Result<Self> {
        let signature = Signature::new(name, info, inputs, outputs)?;
        let session = model.with_bytes(|bytes| open_session(Device::Cpu, name, bytes))?;
        let session_inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let session_outputs: Vec<&str> = session.outputs().iter().map(|output| output.name()).collect();
        let (inputs, outputs) = positions(name, [&session_inputs, &session_outputs], inputs, outputs)?;
        let options = run_options_within(name, deadline)?;
        Ok(Self { arena: arena(&session), session, model, signature, options, inputs, outputs })
    }

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
                let result = result.ok_or_else(|| ort::Error::new("an output is missing"))?;
                outputs.push(OrtTensor::wrapped(result, Memory::Host)?);
            }
            Ok(())
        };
        run().map_err(|error| self.failed(&error))
    }

    fn upload(&self, TensorView { shape, data }: TensorView<'_>) -> Result<Value> {
        note_copy(data.described().1);
        let uploaded = OrtTensor::uploaded(TensorView { shape, data });
        uploaded
            .and_then(|value| OrtTensor::wrapped(value, Memory::Host))
            .map_err(|error| self.failed(&error))
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
            OrtTensor::wrapped(value, Memory::Host)
        };
        arrange().map_err(|error| self.failed(&error))
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let open = |bytes: &[u8]| open_session(Device::Cpu, self.signature.name(), bytes);
        let session = self.model.with_bytes(open)?;
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        Ok(Box::new(Self {
            arena: arena(&session),
            session,
            model: Arc::clone(&self.model),
            signature: self.signature.clone(),
            options: run_options(self.signature.name())?,
            inputs,
            outputs,
        }))
    }
}
