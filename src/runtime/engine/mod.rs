//! What the decoding loop needs from an ONNX engine, and the state that it carries from step to step.
//!
//! [`Engine`] is small so that tests drive the loop with a scripted one. The real ones are
//! [`onnx::OnnxEngine`] over a [`graph::Graph`] runner: `tract` (pure Rust, the default) or `ort` (ONNX
//! Runtime, loaded when the program runs).

mod budget;
mod deadline;
mod device;
mod fold;
pub mod graph;
#[cfg(feature = "ort")]
pub mod library;
pub mod onnx;
#[cfg(feature = "ort")]
pub mod ort;
#[cfg(feature = "tract")]
pub mod tract;
mod wide;

use deadline::{Deadline, OPENING};
pub use device::{Device, open_on};
pub use fold::{folded_encoder, split_decoder};

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use crate::bundle::Bundle;
use crate::checked::CheckedModel;
use crate::contract::file;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::GraphInfo;
use crate::manifest::Role;
use crate::self_test::SelfTest;

/// What runs the graphs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// The first that is compiled in: tract, else ort.
    #[default]
    Auto,
    /// tract, pure Rust.
    Tract,
    /// ONNX Runtime, if its library is found.
    Ort,
}

/// What is known about one engine on this machine.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EngineReport {
    /// `tract` or `ort`.
    pub name: &'static str,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// The library, where there is one.
    pub path: Option<PathBuf>,
    /// Why it cannot be used; `None` if it can.
    pub problem: Option<String>,
    /// What to do about the problem.
    pub help: Option<String>,
    /// Why that library was taken: the kind of the place where it lies.
    pub origin: Option<&'static str>,
    /// Places where the library was looked for, in order.
    pub searched: Vec<Place>,
}

/// A place where an engine's library may lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The folder, or the file that `ORT_DYLIB_PATH` names.
    pub path: PathBuf,
    /// Why it was looked at, for example `active environment`.
    pub origin: &'static str,
    /// Libraries in it.
    pub libraries: usize,
}

/// Ids of several texts, (rows, columns) row-major; sources are left-padded with
/// [`PAD`](crate::contract::PAD).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMatrix {
    /// Texts.
    pub rows: usize,
    /// Tokens of the longest text.
    pub columns: usize,
    /// `rows * columns` ids.
    pub data: Vec<i64>,
}

/// One tensor of the decoder's state for all rows of the batch, f32 row-major (batch, `row_shape`...).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateTensor {
    /// Shape of one row: `[hidden]` for a recurrent state, `[source_time, hidden]` for `encoder_output`.
    pub row_shape: Vec<usize>,
    /// `batch * row_shape.product()` values.
    pub data: Vec<f32>,
}

/// Everything that one decoder step reads besides the token: recurrent states, renewed at each step, and the
/// memory (`encoder_output`, `encoder_mask`), which stays. In the order of the manifest's wiring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecoderState {
    /// Rows.
    pub batch: usize,
    /// `state_h_0`, `state_c_0`, ...
    pub recurrent: Vec<StateTensor>,
    /// Empty without attention.
    pub memory: Vec<StateTensor>,
}

/// What one decoder step gives; the buffers are reused from step to step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutput {
    /// Logits, f32 (batch, target_vocabulary) row-major.
    pub logits: Vec<f32>,
    /// Attention weights, f32 (batch, source_time) row-major; empty without attention.
    pub attention: Vec<f32>,
}

/// An encoder and a single-step decoder, ready to run. One engine belongs to one worker.
pub trait Engine: Send {
    /// `tract`, `ort`, or the name of a scripted one.
    fn name(&self) -> &str;

    /// Target symbols, PAD to UNK counted: the width of a row of logits.
    fn target_vocabulary(&self) -> usize;

    /// Encodes a batch of sources and gives the state before the first decoder step.
    ///
    /// - `source`: ids int64 (batch, source_time), left-padded; at least one row and one column, ids within
    ///   the vocabulary.
    fn encode(&mut self, source: &IdMatrix) -> Result<DecoderState>;

    /// One decoder step: reads `state`, replaces its recurrent part, fills `output`.
    ///
    /// - `tokens`: ids int64 (batch), the last token of each row.
    fn step(&mut self, tokens: &[i64], state: &mut DecoderState, output: &mut StepOutput) -> Result<()>;

    /// Another engine over the same weights, for another worker.
    fn fork(&self) -> Result<Box<dyn Engine>>;
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

impl EngineKind {
    /// The engines that are compiled in.
    pub const COMPILED: &[Self] = &[
        #[cfg(feature = "tract")]
        Self::Tract,
        #[cfg(feature = "ort")]
        Self::Ort,
    ];

    /// As flags and reports have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tract => "tract",
            Self::Ort => "ort",
        }
    }

    /// The engine that `auto` stands for.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if it is not compiled in.
    pub fn resolve(self) -> Result<Self> {
        let found = if self == Self::Auto {
            Self::COMPILED.first()
        } else {
            Self::COMPILED.iter().find(|&&kind| kind == self)
        };
        found.copied().ok_or_else(|| {
            Error::new(ErrorKind::Engine, format!("the engine {self} is not compiled in"))
                .help("build s2s-runtime with its feature `tract` or `ort`")
        })
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let kind = [Self::Auto, Self::Tract, Self::Ort].into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("`{text}` is not an engine"))
                .help("choose auto, tract or ort")
        })
    }
}

/// Loads encoder and decoder of `bundle`, and runs the bundle's self test if it has one.
///
/// # Errors
/// [`ErrorKind::Engine`] if the engine is missing or cannot load a graph; [`ErrorKind::Parity`] if the self
/// test fails; [`ErrorKind::Timeout`] if all that takes longer than a minute.
pub fn open(bundle: &Bundle, kind: EngineKind) -> Result<Box<dyn Engine>> {
    open_with(bundle, kind, Device::Cpu, Deadline::after(OPENING))
}

/// The same on the processor or through CUDA, within a time.
fn open_with(
    bundle: &Bundle,
    kind: EngineKind,
    device: Device,
    deadline: Deadline,
) -> Result<Box<dyn Engine>> {
    let kind = kind.resolve()?;
    let encoder = bundle.graph_name(Role::Encoder);
    let mut engine = onnx::OnnxEngine::new(kind.as_str(), bundle, |name, _, inputs, outputs| {
        let is_encoder = name == encoder;
        let model =
            Arc::clone(bundle.shared_graph(if is_encoder { Role::Encoder } else { Role::Decoder })?);
        let loader = Loader::new(kind, device, name, inputs, outputs);
        let graph = loader.load(Arc::clone(&model), &deadline)?;
        // tract has a plan for each batch size instead of another form of the decoder.
        if device != Device::Cpu || !(is_encoder || kind == EngineKind::Ort) {
            return Ok(graph);
        }
        let symbols = bundle.source().len();
        let maker = move || {
            let for_many_rows =
                if is_encoder { folded_encoder(&model, symbols) } else { split_decoder(&model) };
            for_many_rows.map(|model| loader.load(Arc::new(model), &Deadline::after(OPENING))).transpose()
        };
        Ok(Box::new(wide::TwoForms::new(graph, Arc::new(maker))))
    })?;
    if let Some(json) = bundle.file(file::SELF_TEST) {
        let path = bundle.path().join(file::SELF_TEST);
        let test = SelfTest::from_json(json).map_err(|error| error.in_file(&path))?;
        let wiring = bundle.manifest().wiring.clone();
        let run = move || test.run(&mut engine, &wiring).map(|()| engine);
        engine = deadline.run(file::SELF_TEST, "the self test", run).map_err(|error| error.in_file(&path))?;
    }
    Ok(Box::new(engine))
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
) -> Result<Box<dyn graph::Graph>> {
    Loader::new(kind, Device::Cpu, name, inputs, outputs)
        .load(Arc::new(model.to_vec()), &Deadline::after(OPENING))
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

    /// Every graph that an engine sees comes this way: it is checked, its memory is bounded, and its time.
    fn load(&self, model: Arc<Vec<u8>>, deadline: &Deadline) -> Result<Box<dyn graph::Graph>> {
        let checked = CheckedModel::read(&self.name, &model)?;
        budget::check(&self.name, &checked, model.len())?;
        let (loader, info, inner) = (self.clone(), GraphInfo::of(&checked), deadline.clone());
        drop(checked);
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

/// The engines that are compiled in, and whether they work here; ONNX Runtime's library is loaded to find
/// out.
pub fn available() -> Vec<EngineReport> {
    EngineKind::COMPILED.iter().map(|&kind| report(kind)).collect()
}

fn report(kind: EngineKind) -> EngineReport {
    let empty = EngineReport {
        name: kind.as_str(),
        version: None,
        path: None,
        problem: None,
        help: None,
        origin: None,
        searched: vec![],
    };
    match kind {
        #[cfg(feature = "tract")]
        EngineKind::Tract => EngineReport { version: Some(tract::VERSION.to_owned()), ..empty },
        #[cfg(feature = "ort")]
        EngineKind::Ort => {
            let searched = library::places();
            match ort::loaded() {
                Ok(loaded) => EngineReport {
                    version: loaded.version(),
                    path: Some(loaded.path),
                    origin: Some(loaded.origin),
                    searched,
                    ..empty
                },
                Err(error) => EngineReport {
                    problem: Some(error.to_string()),
                    help: error.help_text().map(str::to_owned),
                    searched,
                    ..empty
                },
            }
        }
        #[allow(unreachable_patterns)] // Unless a feature is off.
        _ => empty,
    }
}

impl StateTensor {
    /// Values of one row.
    pub fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }
}

impl DecoderState {
    /// A copy of some rows.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Self {
        let part = |tensor: &StateTensor| {
            let len = tensor.row_len();
            StateTensor {
                row_shape: tensor.row_shape.clone(),
                data: tensor.data[rows.start * len..rows.end * len].to_vec(),
            }
        };
        let (recurrent, memory) =
            (self.recurrent.iter().map(part).collect(), self.memory.iter().map(part).collect());
        Self { batch: rows.len(), recurrent, memory }
    }

    /// Keeps `rows` in that order; a row may be named several times (beams) or not at all (finished).
    pub fn select(&mut self, rows: &[usize]) {
        let identity = rows.len() == self.batch && rows.iter().enumerate().all(|(i, &r)| i == r);
        if identity {
            return;
        }
        for tensor in self.recurrent.iter_mut().chain(&mut self.memory) {
            let len = tensor.row_len();
            if rows.iter().enumerate().all(|(to, &from)| to <= from) {
                // Ascending selections (dropped rows) move within the buffer.
                for (to, &from) in rows.iter().enumerate() {
                    tensor.data.copy_within(from * len..(from + 1) * len, to * len);
                }
                tensor.data.truncate(rows.len() * len);
            } else {
                tensor.data =
                    rows.iter().flat_map(|&r| &tensor.data[r * len..(r + 1) * len]).copied().collect();
            }
        }
        self.batch = rows.len();
    }
}
