//! The one check that every ONNX graph passes before anything walks it.
//!
//! A [`CheckedModel`] cannot be had in another way, so that inspection, linting, verification, serving and
//! the engines need not ask again whether a graph ends. What it guarantees:
//!
//! - The file has no more nodes, tensors and other messages than the bounds below; they are counted before
//!   anything is allocated for them.
//! - Each value is written once and read only by nodes behind the one that writes it, in bodies of Loop, If
//!   and Scan too (ONNX's rule: single assignment, topological order, no name of an outer graph again). So no
//!   graph has a cycle.
//! - Each tensor has as many bytes as its axes and element type say, within the file: no external data.
//! - Functions call each other without a circle, and what they expand to is bounded.
//!
//! It does not say that operators get what they want; engines do.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use prost::Message as _;
use prost::bytes::{Buf, Bytes};

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{
    AttributeProto, Dimension, FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, all_nodes,
};

mod elements;
mod external;
mod limits;
mod shared;
mod tensors;
mod wire;

pub use external::External;
pub use limits::{LONGEST_NAME, MOST_AXES, MOST_DECLARED, MOST_NODES, MOST_PARTS, MOST_TENSORS};
pub use shared::SharedModel;

/// Calls of functions within functions.
const DEEPEST_CALL: usize = 32;

/// An ONNX model that passed the check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedModel(ModelProto);

impl CheckedModel {
    /// Reads and checks a model.
    ///
    /// - `name`: what the graph is called in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] with graph and node.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        Self::new(name, decoded(name, bytes, bytes)?)
    }

    /// The same without a copy of the weights: they stay where `bytes` has them.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_shared(name: &str, bytes: Bytes) -> Result<Self> {
        Self::new(name, decoded(name, &bytes, bytes.clone())?)
    }

    /// Reads and checks a model whose tensors may have their values in other files.
    ///
    /// - `fetch`: gives the bytes of such a tensor, as many as are asked for; bounds what it reads.
    ///
    /// # Errors
    /// As [`read`](Self::read), and what `fetch` gives.
    pub fn read_with(
        name: &str,
        bytes: Bytes,
        fetch: &mut dyn FnMut(External<'_>) -> Result<Bytes>,
    ) -> Result<Self> {
        let mut model = decoded(name, &bytes, bytes.clone())?;
        external::fetch_all(name, &mut model, fetch)?;
        Self::new(name, model)
    }

    /// Checks a model that was made in memory.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn new(name: &str, model: ModelProto) -> Result<Self> {
        let Some(graph) = &model.graph else {
            return Err(
                wrong(name, None, "the ONNX model has no graph").help("name a file that ends in .onnx")
            );
        };
        if !model.training_info.is_empty() {
            return Err(wrong(
                name,
                None,
                "it carries training_info, further graphs that nothing here reads",
            )
            .help("take them out: del model.training_info[:]"));
        }
        let mut walk = Walk { name, scopes: Vec::new(), path: Vec::new() };
        walk.graph(graph)?;
        for function in &model.functions {
            walk.function(function)?;
        }
        expansion(name, graph, &model.functions)?;
        Ok(Self(model))
    }

    /// The graph; every checked model has one.
    pub fn graph(&self) -> &GraphProto {
        self.0.graph.as_ref().unwrap_or_else(|| unreachable!("a model without a graph is refused"))
    }

    /// The model, to be changed; it is checked anew when it is next read.
    pub fn into_model(self) -> ModelProto {
        self.0
    }
}

impl Deref for CheckedModel {
    type Target = ModelProto;

    fn deref(&self) -> &ModelProto {
        &self.0
    }
}

/// The messages of a model, which are counted before they are decoded.
///
/// - `bytes`, `buffer`: the same bytes, to be counted and to be decoded.
fn decoded(name: &str, bytes: &[u8], buffer: impl Buf) -> Result<ModelProto> {
    wire::count(bytes).map_err(|fault| match fault {
        wire::Fault::Malformed => no_model(name),
        wire::Fault::TooMany(what, most) => {
            wrong(name, None, format!("more than {most} {what}")).help("is this the right file?")
        }
    })?;
    ModelProto::decode(buffer).map_err(|e| no_model(name).caused_by(e))
}

fn wrong(name: &str, node: Option<&str>, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Bundle, message).in_graph(name, node)
}

fn no_model(name: &str) -> Error {
    wrong(name, None, "not an ONNX model, or a truncated one")
        .help("name a file that ends in .onnx, or export the bundle again")
}

/// The walk over graphs and bodies: what is known where.
struct Walk<'a> {
    name: &'a str,
    /// Values that can be read, the innermost graph last.
    scopes: Vec<HashSet<&'a str>>,
    /// Nodes whose bodies are being walked.
    path: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn wrong(&self, place: &str, message: impl Into<String>) -> Error {
        let place = self.path.iter().copied().chain([place]).collect::<Vec<_>>().join("/");
        wrong(self.name, Some(&place), message)
    }

    fn is_known(&self, value: &str) -> bool {
        self.scopes.iter().any(|scope| scope.contains(value))
    }

    /// Enters a value that is written here; `by` says what writes it.
    fn writes(&mut self, value: &'a str, by: &str) -> Result<()> {
        self.short(value)?;
        if self.is_known(value) {
            let error = self.wrong(by, format!("writes the value `{value}`, which is there already"));
            return Err(error.help(
                "ONNX wants each name to be written once, and no name of an outer graph again in a body",
            ));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(value);
        }
        Ok(())
    }

    fn short(&self, name: &str) -> Result<()> {
        match name.len() {
            ..=LONGEST_NAME => Ok(()),
            length => {
                let start: String = name.chars().take(40).collect();
                Err(self.wrong(&start, format!("a name of {length} bytes; at most {LONGEST_NAME} are read")))
            }
        }
    }

    fn graph(&mut self, graph: &'a GraphProto) -> Result<()> {
        self.scopes
            .push(HashSet::with_capacity(graph.input.len() + graph.initializer.len() + graph.node.len()));
        for input in &graph.input {
            self.declared(input)?;
            self.writes(&input.name, "an input")?;
        }
        let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        let sparse = graph.sparse_initializer.iter();
        let sparse = sparse.map(|sparse| sparse.values.as_ref().map_or("", |values| values.name.as_str()));
        let names = graph.initializer.iter().map(|tensor| tensor.name.as_str()).chain(sparse);
        let mut initialised = HashSet::with_capacity(graph.initializer.len());
        for name in names {
            // An input of the same name has the tensor as its default.
            match inputs.contains(name) && initialised.insert(name) {
                true => {}
                false => self.writes(name, "an initialiser")?,
            }
        }
        graph.initializer.iter().try_for_each(|tensor| self.tensor(&tensor.name, tensor))?;
        graph.sparse_initializer.iter().try_for_each(|sparse| self.sparse("a sparse initialiser", sparse))?;
        self.nodes(&graph.node)?;
        for output in &graph.output {
            self.declared(output)?;
            if !self.is_known(&output.name) {
                let error = self.wrong(&output.name, "an output of the graph that no node gives");
                return Err(error.help("the file is truncated, or was cut wrongly out of a larger graph"));
            }
        }
        graph.value_info.iter().try_for_each(|value| self.declared(value))?;
        self.scopes.pop();
        Ok(())
    }

    fn nodes(&mut self, nodes: &'a [NodeProto]) -> Result<()> {
        for (at, node) in nodes.iter().enumerate() {
            [&node.name, &node.op_type, &node.domain].into_iter().try_for_each(|name| self.short(name))?;
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                self.short(input)?;
                if !self.is_known(input) {
                    return Err(self.unknown(nodes, at, input));
                }
            }
            self.attributes(node.label(), &node.attribute)?;
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                self.writes(output, node.label())?;
            }
        }
        Ok(())
    }

    fn attributes(&mut self, node: &'a str, attributes: &'a [AttributeProto]) -> Result<()> {
        for attribute in attributes {
            self.short(&attribute.name)?;
            attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(node, tensor))?;
            attribute
                .sparse_tensor
                .iter()
                .chain(&attribute.sparse_tensors)
                .try_for_each(|sparse| self.sparse(node, sparse))?;
            // Recursion is bounded: decoding refuses messages that are nested deeper than 100, three to each
            // body.
            for body in attribute.g.iter().chain(&attribute.graphs) {
                self.path.push(node);
                self.graph(body)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// A node reads a value that is not known before it: a circle, a wrong order, or nothing gives it.
    fn unknown(&self, nodes: &[NodeProto], at: usize, input: &str) -> Error {
        let node = &nodes[at];
        let gives = |node: &NodeProto| node.output.iter().any(|output| output == input);
        if gives(node) {
            return self
                .wrong(node.label(), format!("reads its own output `{input}`"))
                .help("a graph must not have a cycle");
        }
        match nodes[at..].iter().position(gives) {
            None => self
                .wrong(node.label(), format!("reads `{input}`, which no input, initialiser or node gives"))
                .help("the file is truncated, or was cut wrongly out of a larger graph"),
            Some(after) if reaches(&nodes[at..], 0, after) => self
                .wrong(
                    node.label(),
                    format!(
                        "reads `{input}`, which is computed from its own output: a \
                    cycle"
                    ),
                )
                .help("a graph must not have a cycle"),
            Some(after) => self
                .wrong(
                    node.label(),
                    format!(
                        "reads `{input}`, which {} gives only behind \
                    it",
                        nodes[at + after].label()
                    ),
                )
                .help(
                    "ONNX wants nodes in an order in which they can run; sort them, for example with \
                    onnx-graphsurgeon's toposort()",
                ),
        }
    }

    fn function(&mut self, function: &'a FunctionProto) -> Result<()> {
        self.short(&function.name)?;
        self.path.push(&function.name);
        self.scopes.push(HashSet::new());
        for input in &function.input {
            self.writes(input, "an input")?;
        }
        self.attributes("a default", &function.attribute_proto)?;
        self.nodes(&function.node)?;
        if let Some(output) = function.output.iter().find(|output| !self.is_known(output)) {
            return Err(self.wrong(output, "an output of the function that no node gives"));
        }
        self.scopes.pop();
        self.path.pop();
        Ok(())
    }

    fn declared(&self, value: &ValueInfoProto) -> Result<()> {
        self.short(&value.name)?;
        let shape = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
        let Some(shape) = shape else { return Ok(()) };
        if shape.dim.len() > MOST_AXES {
            return Err(
                self.wrong(&value.name, format!("{} axes; at most {MOST_AXES} are read", shape.dim.len()))
            );
        }
        let mut elements = 1u64;
        for dim in &shape.dim {
            match &dim.value {
                // A negative length is how some writers spell an open axis.
                Some(Dimension::Value(length)) => {
                    elements = elements.saturating_mul(u64::try_from(*length).unwrap_or(1).max(1));
                }
                Some(Dimension::Param(name)) => self.short(name)?,
                None => {}
            }
        }
        if elements > MOST_DECLARED {
            return Err(self.wrong(
                &value.name,
                format!("its fixed axes make {elements} values; at most {MOST_DECLARED} are read"),
            ));
        }
        Ok(())
    }
}

/// Whether node `to` reads, over however many others, what node `from` gives.
fn reaches(nodes: &[NodeProto], from: usize, to: usize) -> bool {
    let mut givers: HashMap<&str, usize> = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        givers.extend(
            node.output.iter().filter(|output| !output.is_empty()).map(|output| (output.as_str(), at)),
        );
    }
    let mut seen = vec![false; nodes.len()];
    let mut open = vec![to];
    while let Some(at) = open.pop() {
        if at == from {
            return true;
        }
        if !std::mem::replace(&mut seen[at], true) {
            open.extend(nodes[at].input.iter().filter_map(|input| givers.get(input.as_str())));
        }
    }
    false
}

/// Nodes with all functions put in place of their calls, which runtimes do.
///
/// # Errors
/// If functions call each other in a circle, or there are too many nodes.
fn expansion(name: &str, graph: &GraphProto, functions: &[FunctionProto]) -> Result<()> {
    struct Calls<'a> {
        name: &'a str,
        functions: &'a [FunctionProto],
        by_name: HashMap<(&'a str, &'a str), usize>,
        /// Nodes of each function; none while it is not known.
        sizes: Vec<Option<usize>>,
    }
    impl Calls<'_> {
        fn size(&mut self, nodes: &[NodeProto], depth: usize) -> Result<usize> {
            let mut size = 0usize;
            for node in all_nodes(nodes) {
                size += 1;
                if let Some(&called) = self.by_name.get(&(node.domain.as_str(), node.op_type.as_str())) {
                    if depth == DEEPEST_CALL {
                        let message =
                            format!("functions call each other deeper than {DEEPEST_CALL}, or in a circle");
                        return Err(wrong(self.name, Some(&node.op_type), message)
                            .help("expand them: onnx.inliner.inline_local_functions"));
                    }
                    let known = self.sizes[called];
                    let functions = self.functions;
                    let called_size =
                        known.map_or_else(|| self.size(&functions[called].node, depth + 1), Ok)?;
                    self.sizes[called] = Some(called_size);
                    size = size.saturating_add(called_size);
                }
                if size > MOST_NODES {
                    return Err(wrong(
                        self.name,
                        None,
                        format!("more than {MOST_NODES} nodes, functions expanded"),
                    ));
                }
            }
            Ok(size)
        }
    }
    let mut by_name = HashMap::new();
    for (at, function) in functions.iter().enumerate() {
        if by_name.insert((function.domain.as_str(), function.name.as_str()), at).is_some() {
            return Err(wrong(name, Some(&function.name), "two functions of this name")
                .help("expand them: onnx.inliner.inline_local_functions"));
        }
    }
    let mut calls = Calls { name, functions, by_name, sizes: vec![None; functions.len()] };
    for function in functions {
        calls.size(&function.node, 0)?;
    }
    calls.size(&graph.node, 0).map(drop)
}

#[cfg(test)]
mod tests;
