//! Graphs through tract: pure Rust, nothing to install.

mod attention;
mod cell;
mod cell_pattern;
mod constants;
mod elementwise;
mod linear;
mod norm;
mod operands;
mod pattern;
mod product;
mod reading;
mod recurrent;
mod recurrent_node;
mod recurrent_table;
mod refusal;
mod rewrite;
mod scatter;
mod softmax;
#[cfg(test)]
mod testing;
mod twins;
mod weights;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::{
    Datum, DatumType, InferenceModelExt, IntoRunnable, IntoTValue, Symbol, TDim, TValue, TVec,
    Tensor as TractTensor, TractError, TractResult, TypedModel, TypedRunnableModel,
};

use super::arrange::{Arrangement, foreign, note_copy};
use super::graph::{DataView, DeviceTensor, Feed, Graph, Signature, Tensor, TensorView, Value};
use crate::checked::SharedModel;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{BOOL, Dimension, FLOAT, GraphInfo, INT32, INT64};
use crate::panics::caught;

/// The version that this crate is built with.
pub const VERSION: &str = "0.23.9";

/// Calls with the same batch size after which a plan is made for that size alone.
const CALLS_BEFORE_PINNING: usize = 16;
/// Plans of fixed batch sizes that are kept beside the general one.
const MOST_PINNED: usize = 4;
/// Larger models have nothing to gain: their time goes into products.
const LARGEST_PINNED: usize = 32 << 20;

/// A tensor of tract.
struct TractValue {
    value: TValue,
    element_type: i32,
}

impl DeviceTensor for TractValue {
    fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    fn element_type(&self) -> i32 {
        self.element_type
    }
}

impl TractValue {
    fn of(value: &Value) -> TractResult<&Self> {
        let any: &dyn std::any::Any = &**value;
        any.downcast_ref().ok_or_else(|| TractError::msg(foreign().message().to_owned()))
    }

    fn wrapped(value: TValue) -> TractResult<Value> {
        let element_type = match value.datum_type() {
            DatumType::F32 => FLOAT,
            DatumType::I32 => INT32,
            DatumType::I64 => INT64,
            DatumType::Bool => BOOL,
            // Lengths that tract computed with symbols.
            _ => {
                let value = value.cast_to::<i64>()?.into_owned().into_tvalue();
                return Ok(Arc::new(Self { value, element_type: INT64 }));
            }
        };
        Ok(Arc::new(Self { value, element_type }))
    }
}

/// Values of the host as a tensor of tract.
fn uploaded(TensorView { shape, data }: TensorView<'_>) -> TractResult<TractTensor> {
    match data {
        DataView::I64(data) => TractTensor::from_shape(shape, data),
        DataView::I32(data) => TractTensor::from_shape(shape, data),
        DataView::F32(data) => TractTensor::from_shape(shape, data),
        DataView::Bool(data) => TractTensor::from_shape(shape, data),
    }
}

/// Rows of tensors as a new one.
fn arranged<T: Datum + Copy>(parts: &[&TractValue], arrangement: &Arrangement<'_>) -> TractResult<TValue> {
    let parts = parts
        .iter()
        .map(|part| Ok((part.value.shape(), part.value.try_as_plain_ram()?.as_slice::<T>()?)))
        .collect::<TractResult<Vec<_>>>()?;
    let mut tensor = TractTensor::zero_dt(T::datum_type(), &arrangement.shape())?;
    arrangement.fill(&parts, tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?).map_err(TractError::msg)?;
    Ok(tensor.into_tvalue())
}

/// A plan that all workers share; every call has a state of its own, so that nothing leaks from call to call.
struct TractGraph {
    plan: Arc<TypedRunnableModel>,
    signature: Signature,
    pinning: Option<Pinning>,
}

/// A batch size and its plan.
type PinnedPlan = (usize, Arc<TypedRunnableModel>);

/// Plans of fixed batch sizes, a twenty-fifth faster than the general one (measured for texts, with one row and
/// with 64), whose sizes are worked out again for every call. Only for graphs whose batch is their one open
/// axis, which decoder steps are. They have the operators and the packed weights of the general plan, so that
/// every value has the same bits.
#[derive(Clone)]
struct Pinning {
    graph: String,
    /// The model that the general plan was made of, and its batch.
    model: Arc<TypedModel>,
    symbol: Symbol,
    plans: Arc<Mutex<Vec<PinnedPlan>>>,
    /// The batch size of the last calls, how many there were, and its plan.
    batch: usize,
    calls: usize,
    plan: Option<Arc<TypedRunnableModel>>,
}

/// Reads a model, for any batch size, with our operators in it.
fn read(model: &SharedModel, inputs: &[&str], outputs: &[&str]) -> TractResult<TypedModel> {
    let mut onnx = tract_onnx::onnx();
    recurrent_node::register(&mut onnx);
    let onnx = onnx
        // Outputs are what the nodes give; a stale annotation is no reason to fail.
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true);
    let model =
        weights::read(&onnx, model)?.with_input_names(inputs)?.with_outputs_by_name(outputs)?.into_typed()?;
    rewrite::faster(rewrite::with_recurrence(model)?.into_decluttered()?)
}

impl Pinning {
    /// The plan for this batch size, once it has come often enough.
    fn plan(&mut self, batch: usize) -> Option<&Arc<TypedRunnableModel>> {
        if batch != self.batch {
            (self.batch, self.calls) = (batch, 0);
            self.plan = self.known(batch);
        }
        self.calls += 1;
        if self.plan.is_none() && self.calls == CALLS_BEFORE_PINNING {
            self.plan = self.known(batch).or_else(|| self.make(batch));
        }
        self.plan.as_ref()
    }

    fn known(&self, batch: usize) -> Option<Arc<TypedRunnableModel>> {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.iter().find(|(size, _)| *size == batch).map(|(_, plan)| Arc::clone(plan))
    }

    /// A failure is no error: the general plan does the same.
    fn make(&self, batch: usize) -> Option<Arc<TypedRunnableModel>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= MOST_PINNED {
            return None;
        }
        let plan = guarded(&self.graph, "cannot fix the batch size", || {
            let sizes = HashMap::from([(self.symbol.clone(), TDim::from(batch))]);
            self.model.set_symbols(&sizes)?.into_optimized()?.into_runnable()
        });
        let plan = plan.inspect_err(|error| tracing::debug!(%error, batch, "the general plan stays")).ok()?;
        plans.push((batch, Arc::clone(&plan)));
        Some(plan)
    }
}

pub(super) fn load(
    name: &str,
    model: Arc<SharedModel>,
    info: &GraphInfo,
    inputs: &[&str],
    outputs: &[&str],
) -> Result<Box<dyn Graph>> {
    let signature = Signature::new(name, info, inputs, outputs)?;
    if let Some(error) = refusal::refusal(name, &model) {
        return Err(error);
    }
    let batch = open_batch(info, inputs);
    let is_recurrent = ["LSTM", "GRU", "RNN"].iter().any(|&operator| info.operators.contains(operator));
    let worth = !is_recurrent && model.len() <= LARGEST_PINNED;
    let (plan, pinned) = guarded(name, "cannot load this graph", || {
        let model = read(&model, inputs, outputs)?;
        let symbol = batch.filter(|_| worth).and_then(|batch| model.symbols.get(batch));
        let pinned = symbol.map(|symbol| (symbol, Arc::new(model.clone())));
        Ok((model.into_optimized()?.into_runnable()?, pinned))
    })?;
    let pinning = pinned.map(|(symbol, model)| Pinning {
        graph: name.to_owned(),
        model,
        symbol,
        plans: Arc::default(),
        batch: 0,
        calls: 0,
        plan: None,
    });
    Ok(Box::new(TractGraph { plan, signature, pinning }))
}

/// The symbol of the batch, the first axis of the first input, where no other axis is open.
fn open_batch<'a>(info: &'a GraphInfo, inputs: &[&str]) -> Option<&'a str> {
    let shape = |name: &str| {
        info.inputs.iter().find(|input| input.name == name).and_then(|input| input.shape.as_deref())
    };
    let Some(Dimension::Symbol(batch)) = shape(inputs.first()?)?.first() else { return None };
    let is_known = |axis: &Dimension| match axis {
        Dimension::Fixed(_) => true,
        Dimension::Symbol(symbol) => symbol == batch,
        Dimension::Unknown => false,
    };
    let all_known = inputs.iter().all(|name| shape(name).is_some_and(|axes| axes.iter().all(is_known)));
    all_known.then_some(batch)
}

/// Errors and panics of tract as our errors.
fn guarded<T>(graph: &str, what: &str, call: impl FnOnce() -> TractResult<T>) -> Result<T> {
    // What the closure touches is dropped or rebuilt after a panic: plans are immutable, run states are per
    // call.
    let message = match caught(call) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panic,
    };
    let message = message.lines().next().unwrap_or_default();
    Err(Error::new(ErrorKind::Engine, format!("tract {what}: {message}"))
        .in_graph(graph, None)
        .help("try the engine ort; `s2s doctor` shows whether it is there"))
}

impl Graph for TractGraph {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
        self.signature.check(inputs)?;
        outputs.clear();
        // The batch is the first axis of the first input, the token.
        let batch = inputs.first().and_then(|input| input.shape().first()).copied().unwrap_or(0);
        let pinned = self.pinning.as_mut().and_then(|pinning| pinning.plan(batch));
        let plan = pinned.unwrap_or(&self.plan);
        guarded(self.signature.name(), "failed", || {
            let inputs = inputs.iter().map(|input| match *input {
                Feed::Host(view) => Ok(uploaded(view)?.into_tvalue()),
                Feed::Value(value) => Ok(TractValue::of(value)?.value.clone()),
            });
            let results = plan.run(inputs.collect::<TractResult<TVec<TValue>>>()?)?;
            results.into_iter().try_for_each(|result| {
                outputs.push(TractValue::wrapped(result)?);
                Ok(())
            })
        })
    }

    fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
        note_copy(tensor.data.described().1);
        guarded(self.signature.name(), "failed", || TractValue::wrapped(uploaded(tensor)?.into_tvalue()))
    }

    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        guarded(self.signature.name(), "failed", || {
            let tensor = TractValue::of(value)?.value.cast_to::<f32>()?;
            let data = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
            into.fill(tensor.shape().iter().copied(), data.iter().copied());
            Ok(())
        })
    }

    fn read_rows(&self, value: &Value, width: usize, rows: &[usize], into: &mut Tensor) -> Result<()> {
        guarded(self.signature.name(), "failed", || {
            let tensor = TractValue::of(value)?.value.cast_to::<f32>()?;
            let data = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
            into.fill_rows(data, width, rows).map_err(|error| TractError::msg(error.message().to_owned()))
        })
    }

    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        guarded(self.signature.name(), "failed", || {
            let parts = parts.iter().map(|part| TractValue::of(part)).collect::<TractResult<Vec<_>>>()?;
            TractValue::wrapped(match parts.first().map(|part| part.element_type) {
                Some(INT64) => arranged::<i64>(&parts, arrangement)?,
                Some(INT32) => arranged::<i32>(&parts, arrangement)?,
                Some(BOOL) => arranged::<bool>(&parts, arrangement)?,
                _ => arranged::<f32>(&parts, arrangement)?,
            })
        })
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let pinning = self.pinning.clone();
        Ok(Box::new(Self { plan: Arc::clone(&self.plan), signature: self.signature.clone(), pinning }))
    }
}

/// The operators of the plan that a graph becomes.
#[cfg(test)]
pub(super) fn operators(model: &[u8], inputs: &[&str], outputs: &[&str]) -> TractResult<Vec<String>> {
    let model = SharedModel::read("graph", model.to_vec().into()).map_err(TractError::msg)?;
    let plan = read(&model, inputs, outputs)?.into_optimized()?;
    Ok(plan.nodes().iter().map(|node| node.op.name().into_owned()).collect())
}
