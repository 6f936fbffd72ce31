//! One loaded ONNX graph, whatever runs it: tensors in and out by position.
//!
//! What a graph gives stays where its engine keeps it, as a [`Value`]: fed back to the next call it is not
//! copied, and on a device it never leaves the device unless somebody [reads](Graph::read) it.

use super::arrange::{self, Arrangement};
use super::best::{BestFew, Wanted};
pub use super::tensor::{DataView, DeviceTensor, Tensor, TensorView, Value};
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::graph_info::{BOOL, Dimension, FLOAT, GraphInfo, INT32, INT64, TensorInfo};

/// What one input of a graph is given.
#[derive(Clone, Copy)]
pub enum Feed<'a> {
    /// A tensor in the host's memory.
    Host(TensorView<'a>),
    /// A tensor of the same engine.
    Value(&'a Value),
}

impl<'a> Feed<'a> {
    /// Axes.
    pub fn shape(&self) -> &'a [usize] {
        match self {
            Self::Host(view) => view.shape,
            Self::Value(value) => value.shape(),
        }
    }

    /// The values, for graphs whose tensors are in the host's memory.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a tensor of an engine that keeps its own.
    pub fn on_host(&self) -> Result<TensorView<'a>> {
        match self {
            Self::Host(view) => Ok(*view),
            Self::Value(value) => {
                let Tensor { shape, data } = arrange::host(value)?;
                Ok(TensorView { shape, data: DataView::F32(data) })
            }
        }
    }
}

impl std::fmt::Debug for Feed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Feed").field(&self.shape()).finish()
    }
}

/// A tensor to put together: from which parts, and how.
pub type Job<'a> = (Vec<&'a Value>, Arrangement<'a>);

/// Scores that a decoder gave.
pub struct Scores<'a> {
    /// (..., `width`), row-major.
    pub value: &'a Value,
    /// Symbols.
    pub width: usize,
    /// Which rows of `width` values are meant, counted over all axes before; all without this.
    pub rows: Option<&'a [usize]>,
    /// They are probabilities, and their logarithms are meant, that of zero being this probability's.
    pub least_probability: Option<f32>,
}

/// A loaded graph with a fixed list of inputs and outputs.
///
/// The methods with a body are for graphs whose values are [`Tensor`]s in the host's memory; an engine with
/// tensors of its own replaces them all.
pub trait Graph: Send {
    /// Runs the graph.
    ///
    /// - `inputs`: in the order given when the graph was loaded.
    /// - `outputs`: replaced, in the order given when the graph was loaded.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] naming an input that does not fit; [`ErrorKind::Engine`] if the engine fails.
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()>;

    /// The same where it is known which outputs are going to be read: on a device the others stay there.
    ///
    /// - `read`: for each output, whether it is.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    fn call_to_read(&mut self, inputs: &[Feed<'_>], _read: &[bool], outputs: &mut Vec<Value>) -> Result<()> {
        self.call(inputs, outputs)
    }

    /// Whether scores of so many values had better stay where they are, and [`best`](Self::best) be asked.
    fn finds_best(&self, _values: usize) -> bool {
        false
    }

    /// Finds the best few of each row of scores where they lie.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if the engine fails; [`ErrorKind::Internal`] for one that does not
    /// [find them](Self::finds_best).
    fn best(&mut self, _scores: &Scores<'_>, _wanted: &Wanted<'_>, _into: &mut BestFew) -> Result<()> {
        Err(Error::new(ErrorKind::Internal, "this engine does not look for the best scores"))
    }

    /// The same graph for another worker; weights are shared where the engine can.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if the engine cannot load it once more.
    fn fork(&self) -> Result<Box<dyn Graph>>;

    /// A tensor of this engine with these values.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if the engine cannot keep it.
    fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
        arrange::upload(tensor)
    }

    /// Copies a tensor of this engine to the host, as f32.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if the engine cannot give it, or it is of another engine.
    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        let tensor = arrange::host(value)?;
        into.fill(tensor.shape.iter().copied(), tensor.data.iter().copied());
        Ok(())
    }

    /// Copies some of the rows of a tensor of this engine to the host, as f32.
    ///
    /// - `value`: (..., `width`), row-major.
    /// - `rows`: which rows of `width` values, counted over all axes before.
    /// - `into`: becomes (rows, `width`).
    ///
    /// # Errors
    /// As [`read`](Self::read); [`ErrorKind::Engine`] for a row that is not there.
    fn read_rows(&self, value: &Value, width: usize, rows: &[usize], into: &mut Tensor) -> Result<()> {
        let mut whole = Tensor::default();
        self.read(value, &mut whole)?;
        into.fill_rows(&whole.data, width, rows)
    }

    /// Puts a tensor together from rows of `parts`, all of this engine.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if the engine cannot do it, or a part is of another engine.
    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        arrange::on_host(parts, arrangement)
    }

    /// The same for several tensors, each from its own parts, in one go where the engine can.
    ///
    /// # Errors
    /// As [`arrange`](Self::arrange).
    fn arrange_all(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Value>> {
        jobs.iter().map(|(parts, arrangement)| self.arrange(parts, arrangement)).collect()
    }

    /// Runs the graph from the host's memory into the host's memory.
    ///
    /// - `inputs`: in the order given when the graph was loaded.
    /// - `outputs`: filled in the order given when the graph was loaded; grown as needed.
    ///
    /// # Errors
    /// As [`call`](Self::call) and [`read`](Self::read).
    fn run(&mut self, inputs: &[TensorView<'_>], outputs: &mut Vec<Tensor>) -> Result<()> {
        let feeds: Vec<Feed<'_>> = inputs.iter().map(|&view| Feed::Host(view)).collect();
        let mut values = Vec::new();
        self.call(&feeds, &mut values)?;
        outputs.resize_with(values.len(), Tensor::default);
        values.iter().zip(outputs).try_for_each(|(value, output)| self.read(value, output))
    }
}

/// What the inputs of a graph must look like; checked before every call, because engines panic or read out of
/// bounds.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    name: String,
    inputs: Vec<InputRule>,
    symbols: Vec<String>,
    /// The size that each symbol has in the call at hand; `None` is not known yet.
    sizes: Vec<Option<usize>>,
}

#[derive(Clone, Debug)]
struct InputRule {
    name: String,
    element_type: i32,
    /// `None`: the graph does not say.
    axes: Option<Vec<Axis>>,
}

#[derive(Clone, Copy, Debug)]
enum Axis {
    Fixed(usize),
    /// Index into `symbols`.
    Symbol(usize),
    Any,
}

impl Signature {
    /// The rules of `graph`, for the inputs that are going to be fed, in that order.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] if an input or output is not there, is of a type that is not handled, or would
    /// not be fed.
    pub(crate) fn new(name: &str, graph: &GraphInfo, inputs: &[&str], outputs: &[&str]) -> Result<Self> {
        let mut signature = Self { name: name.to_owned(), inputs: vec![], symbols: vec![], sizes: vec![] };
        for &input in inputs {
            let info = find(name, "input", &graph.inputs, input)?;
            if ![FLOAT, INT64, INT32, BOOL].contains(&info.element_type) {
                let message = format!(
                    "element type {} (ONNX's number); only float32 (1), int32 (6), int64 (7) and bool (9) \
                     are handled",
                    info.element_type
                );
                return Err(Error::new(ErrorKind::Bundle, message).in_graph(name, Some(input)));
            }
            let axes =
                info.shape.as_ref().map(|shape| shape.iter().map(|axis| signature.axis(axis)).collect());
            signature.inputs.push(InputRule {
                name: input.to_owned(),
                element_type: info.element_type,
                axes,
            });
        }
        for &output in outputs {
            let info = find(name, "output", &graph.outputs, output)?;
            if ![FLOAT, INT64, INT32, BOOL, 0].contains(&info.element_type) {
                let message = format!(
                    "element type {} (ONNX's number); only float32 (1), int32 (6), int64 (7) and bool (9) \
                     outputs are read",
                    info.element_type
                );
                return Err(Error::new(ErrorKind::Bundle, message).in_graph(name, Some(output)));
            }
        }
        if let Some(unfed) = graph.inputs.iter().find(|input| !inputs.contains(&input.name.as_str())) {
            return Err(Error::new(ErrorKind::Bundle, "nothing feeds this input")
                .in_graph(name, Some(&unfed.name))
                .help("name it in the manifest's wiring, as a state, memory, or the token"));
        }
        signature.sizes = vec![None; signature.symbols.len()];
        Ok(signature)
    }

    fn axis(&mut self, axis: &Dimension) -> Axis {
        match axis {
            Dimension::Fixed(size) => Axis::Fixed(*size),
            Dimension::Unknown => Axis::Any,
            Dimension::Symbol(symbol) => {
                let known = self.symbols.iter().position(|known| known == symbol);
                Axis::Symbol(known.unwrap_or_else(|| {
                    self.symbols.push(symbol.clone());
                    self.symbols.len() - 1
                }))
            }
        }
    }

    /// Whether `inputs` can be handed to the engine.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] naming the input and what it should be.
    pub(crate) fn check(&mut self, inputs: &[Feed<'_>]) -> Result<()> {
        self.sizes.fill(None);
        if inputs.len() != self.inputs.len() {
            let message = format!("{} inputs given, {} expected", inputs.len(), self.inputs.len());
            return Err(Error::new(ErrorKind::Input, message).in_graph(&self.name, None));
        }
        for (rule, input) in self.inputs.iter().zip(inputs) {
            let shape = input.shape();
            let (element_type, len) = match input {
                Feed::Host(view) => view.data.described(),
                Feed::Value(value) => (value.element_type(), shape.iter().product()),
            };
            let wrong = |message: String| {
                Err(Error::new(ErrorKind::Input, message).in_graph(&self.name, Some(&rule.name)))
            };
            if element_type != rule.element_type {
                return wrong(format!(
                    "element type {element_type} given, {} expected (ONNX's numbers)",
                    rule.element_type
                ));
            }
            // A state that grows begins without values.
            let empty = len == 0 && matches!(input, Feed::Host(_));
            if len != shape.iter().product::<usize>() || empty {
                return wrong(format!("{len} values given for shape {shape:?}"));
            }
            let Some(axes) = &rule.axes else { continue };
            if axes.len() != shape.len() {
                return wrong(format!("shape {shape:?} given, {} axes expected", axes.len()));
            }
            for (&axis, &size) in axes.iter().zip(shape) {
                let expected = match axis {
                    Axis::Any => size,
                    Axis::Fixed(expected) => expected,
                    Axis::Symbol(symbol) => *self.sizes[symbol].get_or_insert(size),
                };
                if size != expected {
                    return wrong(format!(
                        "shape {shape:?} given, and an axis of {size} should be {expected}"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

fn find<'a>(graph: &str, what: &str, tensors: &'a [TensorInfo], name: &str) -> Result<&'a TensorInfo> {
    tensors.iter().find(|tensor| tensor.name == name).ok_or_else(|| {
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let near = did_you_mean(name, names.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Error::new(ErrorKind::Bundle, format!("the graph has no {what} `{name}`"))
            .in_graph(graph, Some(name))
            .help(format!("its {what}s are {}{near}", names.join(", ")))
    })
}

impl Tensor {
    /// Takes a copy of some rows of `width` values.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] for a row that is not there.
    pub(crate) fn fill_rows(&mut self, data: &[f32], width: usize, rows: &[usize]) -> Result<()> {
        self.shape.clear();
        self.shape.extend([rows.len(), width]);
        self.data.clear();
        for &row in rows {
            let values = row.checked_mul(width).and_then(|at| data.get(at..at.checked_add(width)?));
            let values = values.ok_or_else(|| {
                let message = format!("{} values where row {row} of {width} should be", data.len());
                Error::new(ErrorKind::Engine, message)
            })?;
            self.data.extend_from_slice(values);
        }
        Ok(())
    }

    /// Takes a copy of what an engine gave, in the buffers at hand.
    pub(crate) fn fill(&mut self, shape: impl Iterator<Item = usize>, data: impl Iterator<Item = f32>) {
        self.shape.clear();
        self.shape.extend(shape);
        self.data.clear();
        self.data.extend(data);
    }
}
