//! Graphs through tract: pure Rust, nothing to install.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor as TractTensor, TractResult, TypedRunnableModel,
};

use super::graph::{DataView, Graph, Signature, Tensor, TensorView};
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{GraphInfo, RecurrentNode};

/// The version that this crate is built with.
pub const VERSION: &str = "0.23.9";

/// A plan that all workers share; every call has a state of its own, so that nothing leaks from call to call.
struct TractGraph {
    plan: Arc<TypedRunnableModel>,
    signature: Signature,
    outputs: usize,
}

pub(super) fn load(name: &str, model: &[u8], info: &GraphInfo, inputs: &[&str], outputs: &[&str]) -> Result<Box<dyn Graph>> {
    let signature = Signature::new(name, info, inputs, outputs)?;
    if let Some(node) = info.recurrent.iter().find(|node| !tract_computes(node)) {
        return Err(Error::new(
            ErrorKind::Engine,
            format!("tract ignores attributes of this {}, and would compute something else", node.operator),
        )
        .in_graph(name, Some(&node.name))
        .help("use the engine ort for this graph, or export it without direction=reverse, clip, activations and input_forget"));
    }
    let plan = guarded(name, "cannot load this graph", || {
        let mut model = model;
        tract_onnx::onnx()
            // Outputs are what the nodes give; a stale annotation is no reason to fail.
            .with_ignore_output_shapes(true)
            .with_ignore_value_info(true)
            .model_for_read(&mut model)?
            .with_input_names(inputs)?
            .with_outputs_by_name(outputs)?
            .into_optimized()?
            .into_runnable()
    })?;
    Ok(Box::new(TractGraph { plan, signature, outputs: outputs.len() }))
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
    // What the closure touches is dropped or rebuilt after a panic: plans are immutable, run states are per call.
    let message = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            text.unwrap_or_else(|| "panic".to_owned())
        }
    };
    let message = message.lines().next().unwrap_or_default();
    Err(Error::new(ErrorKind::Engine, format!("tract {what}: {message}"))
        .in_graph(graph, None)
        .help("try the engine ort; `s2s doctor` shows whether it is there"))
}

impl Graph for TractGraph {
    fn run(&mut self, inputs: &[TensorView<'_>], outputs: &mut Vec<Tensor>) -> Result<()> {
        self.signature.check(inputs)?;
        let (plan, expected) = (&self.plan, self.outputs);
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
                output.fill(result.shape().iter().copied(), result.try_as_plain_ram()?.as_slice::<f32>()?);
            }
            Ok(())
        })
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        Ok(Box::new(Self { plan: Arc::clone(&self.plan), signature: self.signature.clone(), outputs: self.outputs }))
    }
}
