//! One loaded ONNX graph, whatever runs it: tensors in and out by position.

use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::graph_info::{Dimension, FLOAT, GraphInfo, INT64, TensorInfo};

/// A tensor that is lent to a graph.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Axes.
    pub shape: &'a [usize],
    /// Row-major values.
    pub data: DataView<'a>,
}

/// Values of a [`TensorView`].
#[derive(Clone, Copy, Debug)]
pub enum DataView<'a> {
    /// Ids.
    I64(&'a [i64]),
    /// States, logits, one-hot rows.
    F32(&'a [f32]),
}

/// A tensor that a graph gives, as f32; its buffers are reused from call to call. Ids come as f32 too, which
/// is exact below 2^24.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Axes.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

/// A loaded graph with a fixed list of inputs and outputs.
pub trait Graph: Send {
    /// Runs the graph.
    ///
    /// - `inputs`: in the order given when the graph was loaded.
    /// - `outputs`: filled in the order given when the graph was loaded; grown as needed.
    fn run(&mut self, inputs: &[TensorView<'_>], outputs: &mut Vec<Tensor>) -> Result<()>;

    /// The same graph for another worker; weights are shared where the engine can.
    fn fork(&self) -> Result<Box<dyn Graph>>;
}

/// What the inputs of a graph must look like; checked before every call, because engines panic or read out of
/// bounds.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    name: String,
    inputs: Vec<InputRule>,
    symbols: Vec<String>,
    /// The size that each symbol has in the call at hand; 0 is not known yet.
    sizes: Vec<usize>,
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
            if ![FLOAT, INT64].contains(&info.element_type) {
                let message = format!(
                    "element type {} (ONNX's number); only float32 (1) and int64 (7) are handled",
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
            if ![FLOAT, INT64, 0].contains(&info.element_type) {
                let message = format!(
                    "element type {} (ONNX's number); only float32 (1) and int64 (7) outputs are read",
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
        signature.sizes = vec![0; signature.symbols.len()];
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
    pub(crate) fn check(&mut self, inputs: &[TensorView<'_>]) -> Result<()> {
        self.sizes.fill(0);
        if inputs.len() != self.inputs.len() {
            let message = format!("{} inputs given, {} expected", inputs.len(), self.inputs.len());
            return Err(Error::new(ErrorKind::Input, message).in_graph(&self.name, None));
        }
        for (rule, input) in self.inputs.iter().zip(inputs) {
            let (len, element_type) = match input.data {
                DataView::I64(data) => (data.len(), INT64),
                DataView::F32(data) => (data.len(), FLOAT),
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
            if len != input.shape.iter().product::<usize>() || len == 0 {
                return wrong(format!("{len} values given for shape {:?}", input.shape));
            }
            let Some(axes) = &rule.axes else { continue };
            if axes.len() != input.shape.len() {
                return wrong(format!("shape {:?} given, {} axes expected", input.shape, axes.len()));
            }
            for (&axis, &size) in axes.iter().zip(input.shape) {
                let expected = match axis {
                    Axis::Any => size,
                    Axis::Fixed(expected) => expected,
                    Axis::Symbol(symbol) => {
                        if self.sizes[symbol] == 0 {
                            self.sizes[symbol] = size;
                        }
                        self.sizes[symbol]
                    }
                };
                if size != expected {
                    return wrong(format!(
                        "shape {:?} given, and an axis of {size} should be {expected}",
                        input.shape
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
    /// Takes a copy of what an engine gave, in the buffers at hand.
    pub(crate) fn fill(&mut self, shape: impl Iterator<Item = usize>, data: &[f32]) {
        self.shape.clear();
        self.shape.extend(shape);
        self.data.clear();
        self.data.extend_from_slice(data);
    }
}
