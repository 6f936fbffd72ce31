//! From a bundle to an engine: every graph is checked, its memory and its time are bounded, and the bundle's
//! self test is run.

use std::sync::Arc;

use super::budget;
use super::deadline::{Deadline, OPENING};
use super::device::Device;
use super::fold::{folded_encoder, split_decoder};
use super::graph::Graph;
use super::interface::Engine;
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

/// Loads encoder and decoder of `bundle`, and runs the bundle's self test if it has one, all of it within a
/// time.
///
/// - `kind`: an engine; the first that is compiled in for `auto`. `device`: not `auto`.
///
/// # Errors
/// [`ErrorKind::Engine`] if the engine is missing or cannot load a graph; [`ErrorKind::Parity`] if the self
/// test fails; [`ErrorKind::Timeout`] if all that takes too long.
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
        // In tract our own operators do what the second forms do, and what is faster with few rows on the
        // processor says nothing about a device.
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

/// Whether an engine takes a graph, in the words of opening a bundle with it: loads the graph with all that it
/// reads and gives, within the bounds of opening, and lets go of it.
///
/// - `name`: what the graph is called in errors.
///
/// # Errors
/// As [`load_graph`]: what opening would refuse with.
pub fn takes(kind: EngineKind, name: &str, model: Arc<SharedModel>) -> Result<()> {
    let graph = model.graph();
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    // An input with a default is a weight, which nothing feeds.
    let is_fed = |input: &&str| graph.initializer.iter().all(|tensor| tensor.name != *input);
    let inputs: Vec<&str> = inputs.filter(is_fed).collect();
    let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let loader = Loader::new(kind, Device::Cpu, name, &inputs, &outputs);
    loader.load(Arc::clone(&model), &Deadline::after(OPENING)).map(drop)
}

/// Loads one ONNX graph through ONNX Runtime on a device.
///
/// # Errors
/// As [`load_graph`]; [`ErrorKind::Engine`] with what is missing if the device does not work here.
pub fn load_graph_on(
    device: Device,
    name: &str,
    model: &[u8],
    inputs: &[&str],
    outputs: &[&str],
) -> Result<Box<dyn Graph>> {
    Loader::new(EngineKind::Ort, device, name, inputs, outputs)
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
