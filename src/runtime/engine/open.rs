//! From a bundle to an engine: every graph is checked, its memory and its time are bounded, and the bundle's
//! self test is run.

use std::sync::Arc;
use std::time::Instant;

use super::budget;
use super::deadline::{Deadline, OPENING};
use super::device::Device;
use super::fold::{folded_encoder, split_decoder};
use super::graph::Graph;
use super::interface::{Engine, IdMatrix, StepOutput};
use super::kind::EngineKind;
use super::onnx::OnnxEngine;
#[cfg(feature = "ort")]
use super::ort;
use super::probe::probe;
#[cfg(feature = "tract")]
use super::tract;
use super::wide::TwoForms;
use crate::bundle::Bundle;
use crate::checked::SharedModel;
use crate::contract::{file, metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::GraphInfo;
use crate::manifest::Role;
use crate::self_test::SelfTest;

/// Loads encoder and decoder of `bundle`, and runs the bundle's self test if it has one. What is unusual
/// about the pair is logged.
///
/// # Errors
/// [`ErrorKind::Engine`] if the engine is missing or cannot load a graph; [`ErrorKind::Parity`] if the self
/// test fails; [`ErrorKind::Timeout`] if all that takes longer than a minute.
pub fn open(bundle: &Bundle, kind: EngineKind) -> Result<Box<dyn Engine>> {
    let engine = open_silently(bundle, kind)?;
    if let Some(remark) = engine.remark() {
        tracing::warn!("{remark}");
    }
    Ok(engine)
}

/// The same without a line in the log, for who asks for [`Engine::remark`].
///
/// # Errors
/// As [`open`].
pub fn open_silently(bundle: &Bundle, kind: EngineKind) -> Result<Box<dyn Engine>> {
    open_with(bundle, kind, Device::Cpu, Deadline::after(OPENING))
}

/// The same on the processor or through CUDA, within a time.
pub(super) fn open_with(
    bundle: &Bundle,
    kind: EngineKind,
    device: Device,
    deadline: Deadline,
) -> Result<Box<dyn Engine>> {
    let kind = kind.resolve()?;
    let encoder = bundle.graph_name(Role::Encoder);
    let mut engine = OnnxEngine::new(kind.as_str(), bundle, |name, model, inputs, outputs| {
        let (is_encoder, model) = (name == encoder, Arc::clone(model));
        let loader = Loader::new(kind, device, name, inputs, outputs);
        let graph = loader.load(Arc::clone(&model), &deadline)?;
        // In tract our own operators do what the second forms do.
        if device != Device::Cpu || kind != EngineKind::Ort {
            return Ok(graph);
        }
        let symbols = bundle.source().size();
        let maker = move || {
            let for_many_rows =
                if is_encoder { folded_encoder(&model, symbols) } else { split_decoder(&model) };
            let load = |model: Vec<u8>| {
                let model = SharedModel::read(&loader.name, model.into())?;
                loader.load(Arc::new(model), &Deadline::after(OPENING))
            };
            for_many_rows.map(load).transpose()
        };
        Ok(Box::new(TwoForms::new(graph, Arc::new(maker))))
    })?;
    if is_tried(bundle) {
        let run = move || {
            probe(&mut engine);
            Ok(engine)
        };
        engine = deadline.run(bundle.graph_name(Role::Decoder), "trying it with padding", run)?;
    }
    if let Some(json) = bundle.file(file::SELF_TEST) {
        let path = bundle.path().join(file::SELF_TEST);
        let test = SelfTest::from_json(json).map_err(|error| error.in_file(&path))?;
        let wiring = bundle.manifest().wiring.clone();
        let run = move || test.run(&mut engine, &wiring).map(|()| engine);
        engine = deadline.run(file::SELF_TEST, "the self test", run).map_err(|error| error.in_file(&path))?;
    }
    Ok(Box::new(engine))
}

/// Whether what padding does is tried when the bundle is opened: unless `s2s export` wrote it, whose graphs
/// mask padding, and whose self test has texts of several lengths.
pub fn is_tried(bundle: &Bundle) -> bool {
    let says =
        |role| bundle.graph_info(role).is_ok_and(|info| info.metadata.contains_key(metadata::WEIGHTS_SHA256));
    !(says(Role::Encoder) && says(Role::Decoder) && bundle.file(file::SELF_TEST).is_some())
}

/// Loads one ONNX graph.
///
/// - `name`: what the graph is called in errors.
/// - `model`: the bytes of the ONNX file.
/// - `inputs`: all inputs of the graph, in the order in which they will be fed.
/// - `outputs`: the outputs to read, in the order in which they will be given.
///
/// # Errors
/// [`ErrorKind::Bundle`] if the bytes or the names are wrong, [`ErrorKind::Engine`] if the engine is missing
/// or fails, [`ErrorKind::Timeout`] if it takes longer than a minute.
pub fn load_graph(
    kind: EngineKind,
    name: &str,
    model: &[u8],
    inputs: &[&str],
    outputs: &[&str],
) -> Result<Box<dyn Graph>> {
    Loader::new(kind, Device::Cpu, name, inputs, outputs)
        .load(Arc::new(SharedModel::read(name, model.to_vec().into())?), &Deadline::after(OPENING))
}

/// How graphs of one outside are loaded.
#[derive(Clone)]
struct Loader {
    kind: EngineKind,
    device: Device,
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Loader {
    fn new(kind: EngineKind, device: Device, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let [inputs, outputs] =
            [inputs, outputs].map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Self { kind, device, name: name.to_owned(), inputs, outputs }
    }

    /// Every graph that an engine sees comes this way: it was checked, and its memory and its time are
    /// bounded.
    fn load(&self, model: Arc<SharedModel>, deadline: &Deadline) -> Result<Box<dyn Graph>> {
        budget::check(&self.name, &model, model.len())?;
        let (loader, info, inner) = (self.clone(), GraphInfo::of(&model), deadline.clone());
        deadline.run(&self.name, "loading it", move || {
            let Self { kind, device, name, inputs, outputs } = &loader;
            let [inputs, outputs] =
                [inputs, outputs].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            match kind.resolve()? {
                #[cfg(feature = "tract")]
                EngineKind::Tract => tract::load(name, model, &info, &inputs, &outputs),
                #[cfg(feature = "ort")]
                EngineKind::Ort => ort::load(*device, name, model, &info, &inputs, &outputs, &inner),
                #[allow(unreachable_patterns)] // Unless a feature is off.
                kind => {
                    let _ = (device, model, info, inputs, outputs, inner);
                    Err(Error::new(ErrorKind::Internal, format!("the engine {kind} has no loader")))
                }
            }
        })
    }
}

/// As [`open`], on a device of choice.
///
/// # Errors
/// [`ErrorKind::Usage`] for an engine that cannot use the device; [`ErrorKind::Engine`] with what is missing
/// if [`Device::Cuda`] does not work here; as [`open`].
pub fn open_on(bundle: &Bundle, kind: EngineKind, device: Device) -> Result<Box<dyn Engine>> {
    match device {
        Device::Cpu => open(bundle, kind),
        Device::Cuda => open_with(bundle, cuda_engine(kind)?, Device::Cuda, Deadline::after(OPENING)),
        Device::Auto => {
            let cpu = open(bundle, kind)?;
            let cuda = match cuda_engine(kind)
                .and_then(|kind| open_with(bundle, kind, Device::Cuda, Deadline::after(OPENING)))
            {
                Ok(cuda) => cuda,
                Err(error) => {
                    tracing::info!("running on the processor: {error}");
                    return Ok(cpu);
                }
            };
            faster(cpu, cuda)
        }
    }
}

/// The engine that runs on a GPU.
fn cuda_engine(kind: EngineKind) -> Result<EngineKind> {
    match kind {
        EngineKind::Auto | EngineKind::Ort => EngineKind::Ort.resolve(),
        EngineKind::Tract => Err(Error::new(ErrorKind::Usage, "the engine tract runs on the processor only")
            .help("choose --engine ort, or --device cpu")),
    }
}

/// Rows of the steps that are measured: what bulk translation decodes together.
const ROWS: usize = 64;
/// Steps that are measured, after as many to warm up.
const STEPS: usize = 8;

fn faster(mut cpu: Box<dyn Engine>, mut cuda: Box<dyn Engine>) -> Result<Box<dyn Engine>> {
    let (on_cpu, on_cuda) = (seconds(&mut *cpu)?, seconds(&mut *cuda)?);
    let chosen = if on_cuda < on_cpu { Device::Cuda } else { Device::Cpu };
    tracing::info!(
        "{ROWS} rows a step: {:.0} us on the processor, {:.0} us with CUDA; taking {chosen}",
        1e6 * on_cpu,
        1e6 * on_cuda
    );
    Ok(if chosen == Device::Cuda { cuda } else { cpu })
}

/// Seconds of a decoder step.
fn seconds(engine: &mut dyn Engine) -> Result<f64> {
    let ids = engine.special_ids();
    let source = IdMatrix { rows: ROWS, columns: 8, data: vec![i64::from(ids.unk); ROWS * 8] };
    let encoded = engine.encode(&source)?;
    engine.join(&encoded, 0..ROWS)?;
    let mut output = StepOutput::default();
    let mut begin = Instant::now();
    for step in 0..2 * STEPS {
        if step == STEPS {
            begin = Instant::now();
        }
        engine.step(&[i64::from(ids.start); ROWS], &mut output)?;
    }
    engine.clear();
    Ok(begin.elapsed().as_secs_f64() / STEPS as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tract_is_refused_a_gpu() {
        assert_eq!(cuda_engine(EngineKind::Tract).unwrap_err().kind(), ErrorKind::Usage);
    }
}
