//! Graphs through tract: pure Rust, nothing to install.

use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::prelude::{
    DatumExt, Framework, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor as TractTensor, TractResult,
    TypedRunnableModel,
};

use super::graph::{DataView, Graph, Signature, Tensor, TensorView};
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{Dimension, GraphInfo, INT64, RecurrentNode};
use crate::panics::caught;

/// The version that this crate is built with.
pub const VERSION: &str = "0.23.9";

/// Calls with the same batch size after which a plan is made for that size alone.
const CALLS_BEFORE_PINNING: usize = 16;
/// Plans of fixed batch sizes that are kept beside the general one; each has a copy of the weights.
const MOST_PINNED: usize = 4;
/// Larger models are not worth a copy.
const LARGEST_PINNED: usize = 32 << 20;

/// A plan that all workers share; every call has a state of its own, so that nothing leaks from call to call.
struct TractGraph {
    plan: Arc<TypedRunnableModel>,
    signature: Signature,
    outputs: usize,
    pinning: Option<Pinning>,
}

/// A batch size and its plan.
type PinnedPlan = (usize, Arc<TypedRunnableModel>);

/// Plans of fixed batch sizes, a fifth to a quarter faster than the general one (measured: 487 against 605 us
/// a step with 64 rows, 23 against 31 with one). Only for graphs whose batch is their one open axis, which
/// decoder steps are.
#[derive(Clone)]
struct Pinning {
    source: Arc<Source>,
    plans: Arc<Mutex<Vec<PinnedPlan>>>,
    /// The batch size of the last calls, how many there were, and its plan.
    batch: usize,
    calls: usize,
    plan: Option<Arc<TypedRunnableModel>>,
}

/// What a plan is made of.
struct Source {
    name: String,
    model: Arc<Vec<u8>>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Element type and axes of each input, -1 for the batch.
    shapes: Vec<(bool, Vec<Option<usize>>)>,
}

impl Source {
    /// The plan for any batch size, or for one.
    fn plan(&self, batch: Option<usize>) -> TractResult<Arc<TypedRunnableModel>> {
        let mut bytes = self.model.as_slice();
        let mut model = tract_onnx::onnx()
            // Outputs are what the nodes give; a stale annotation is no reason to fail.
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true)
            .model_for_read(&mut bytes)?
            .with_input_names(&self.inputs)?
            .with_outputs_by_name(&self.outputs)?;
        if let Some(batch) = batch {
            for (at, (ids, axes)) in self.shapes.iter().enumerate() {
                let shape: TVec<usize> = axes.iter().map(|axis| axis.unwrap_or(batch)).collect();
                let fact = if *ids { i64::fact(&shape) } else { f32::fact(&shape) };
                model.set_input_fact(at, fact.into())?;
            }
        }
        model.into_optimized()?.into_runnable()
    }
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
        let plan = guarded(&self.source.name, "cannot fix the batch size", || self.source.plan(Some(batch)));
        let plan = plan.inspect_err(|error| tracing::debug!(%error, batch, "the general plan stays")).ok()?;
        plans.push((batch, Arc::clone(&plan)));
        Some(plan)
    }
}

pub(super) fn load(
    name: &str,
    model: Arc<Vec<u8>>,
    info: &GraphInfo,
    inputs: &[&str],
    outputs: &[&str],
) -> Result<Box<dyn Graph>> {
    let signature = Signature::new(name, info, inputs, outputs)?;
    if let Some(node) = info.recurrent.iter().find(|node| !tract_computes(node)) {
        return Err(Error::new(
            ErrorKind::Engine,
            format!("tract ignores attributes of this {}, and would compute something else", node.operator),
        )
        .in_graph(name, Some(&node.name))
        .help("use the engine ort for this graph, or export it without direction=reverse, clip, activations and input_forget"));
    }
    let shapes = open_batch(info, inputs);
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let worth = shapes.is_some() && info.recurrent.is_empty() && model.len() <= LARGEST_PINNED;
    let source = Source {
        name: name.to_owned(),
        model,
        inputs: names(inputs),
        outputs: names(outputs),
        shapes: shapes.clone().unwrap_or_default(),
    };
    let plan = guarded(name, "cannot load this graph", || source.plan(None))?;
    let pinning = worth.then(|| Pinning {
        source: Arc::new(source),
        plans: Arc::default(),
        batch: 0,
        calls: 0,
        plan: None,
    });
    Ok(Box::new(TractGraph { plan, signature, outputs: outputs.len(), pinning }))
}

/// Whether each input is of ids, and its axes with `None` for the batch; `None` unless the batch, the first
/// axis of the first input, is the only open one.
fn open_batch(info: &GraphInfo, inputs: &[&str]) -> Option<Vec<(bool, Vec<Option<usize>>)>> {
    let shape = |name: &str| {
        info.inputs
            .iter()
            .find(|input| input.name == name)
            .and_then(|input| Some((input.element_type, input.shape.as_ref()?)))
    };
    let Some(Dimension::Symbol(batch)) = shape(inputs.first()?)?.1.first() else { return None };
    let axis = |axis: &Dimension| match axis {
        Dimension::Fixed(size) => Some(Some(*size)),
        Dimension::Symbol(symbol) if symbol == batch => Some(None),
        Dimension::Symbol(_) | Dimension::Unknown => None,
    };
    inputs
        .iter()
        .map(|name| {
            shape(name)
                .and_then(|(kind, axes)| Some((kind == INT64, axes.iter().map(axis).collect::<Option<_>>()?)))
        })
        .collect()
}

/// tract reads the attributes of recurrent operators only in part, and says nothing.
fn tract_computes(node: &RecurrentNode) -> bool {
    node.attributes.iter().all(|(name, value)| match name.as_str() {
        "direction" => value != "reverse",
        "clip" | "activations" | "activation_alpha" | "activation_beta" | "input_forget" | "layout" => false,
        _ => true,
    })
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
    fn run(&mut self, inputs: &[TensorView<'_>], outputs: &mut Vec<Tensor>) -> Result<()> {
        self.signature.check(inputs)?;
        // The batch is the first axis of the first input, the token.
        let batch = inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(0);
        let pinned = self.pinning.as_mut().and_then(|pinning| pinning.plan(batch));
        let (plan, expected) = (pinned.unwrap_or(&self.plan), self.outputs);
        guarded(self.signature.name(), "failed", || {
            let inputs = inputs.iter().map(|input| {
                let tensor = match input.data {
                    DataView::I64(data) => TractTensor::from_shape(input.shape, data)?,
                    DataView::F32(data) => TractTensor::from_shape(input.shape, data)?,
                };
                Ok(TValue::from(tensor))
            });
            let results = plan.run(inputs.collect::<TractResult<TVec<TValue>>>()?)?;
            outputs.resize_with(expected, Tensor::default);
            for (output, result) in outputs.iter_mut().zip(&results) {
                let result = result.cast_to::<f32>()?;
                output.fill(result.shape().iter().copied(), result.try_as_plain_ram()?.as_slice::<f32>()?);
            }
            Ok(())
        })
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        let pinning = self.pinning.clone();
        Ok(Box::new(Self {
            plan: Arc::clone(&self.plan),
            signature: self.signature.clone(),
            outputs: self.outputs,
            pinning,
        }))
    }
}
