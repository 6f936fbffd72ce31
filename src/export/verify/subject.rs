//! What runs the graphs.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::file;
use s2s_runtime::engine::graph::Graph;
use s2s_runtime::engine::onnx::OnnxEngine;
use s2s_runtime::engine::{self, Device, Engine, EngineKind};
use s2s_runtime::self_test::SelfTest;

use super::runtimes::Process;
use crate::error::Result;

/// An engine of the runtime crate, or a process.
pub(super) enum Subject {
    Engine(EngineKind),
    /// ONNX Runtime on a device.
    Device(Device),
    Process(&'static str, Process),
}

impl Subject {
    /// Names it as reports do.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Engine(kind) => kind.as_str(),
            Self::Device(device) => device.as_str(),
            Self::Process(name, _) => name,
        }
    }

    /// Loads one graph.
    ///
    /// - `name`: what it is called in errors; `model`: ONNX bytes.
    pub(super) fn load(
        &self,
        name: &str,
        model: &[u8],
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<Box<dyn Graph>> {
        match self {
            Self::Engine(kind) => engine::load_graph(*kind, name, model, inputs, outputs),
            Self::Device(device) => engine::load_graph_on(*device, name, model, inputs, outputs),
            Self::Process(_, process) => process.load(name, model, inputs, outputs),
        }
    }

    /// Opens encoder and decoder, and runs the self test.
    pub(super) fn open(&self, bundle: &Bundle) -> Result<Box<dyn Engine>> {
        let (name, process) = match self {
            Self::Engine(kind) => return engine::open(bundle, *kind),
            Self::Device(device) => return engine::open_on(bundle, EngineKind::Ort, *device),
            Self::Process(name, process) => (name, process),
        };
        let mut engine = OnnxEngine::new(name, bundle, |name, model, inputs, outputs| {
            process.load(name, model.bytes(), inputs, outputs)
        })?;
        if let Some(json) = bundle.file(file::SELF_TEST) {
            SelfTest::from_json(json)?.run(&mut engine, &bundle.manifest().wiring)?;
        }
        Ok(Box::new(engine))
    }
}
