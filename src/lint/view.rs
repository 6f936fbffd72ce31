//! A model as the rules see it: every node with the graph that it stands in.

use std::collections::{HashMap, HashSet};

use super::measured::Form;
use crate::onnx::messages::{DataType, Dimension, GraphProto, ModelProto, NodeProto, TensorProto};

/// The attribute that stands for a function's nodes.
const FUNCTION: &str = "function";
/// Matrices that are looked at in search of cells that were written out.
const MOST_MATRICES: usize = 64;
/// Nodes between a value and the input that it is a form of.
const MOST_FORMS: usize = 8;
/// Operators that give the elements of their first input in another form.
const FORMS: [&str; 6] = ["Identity", "Cast", "Squeeze", "Unsqueeze", "Transpose", "Reshape"];

/// A model with its bodies laid side by side.
pub struct View<'a> {
    /// The model as it was read from its file.
    pub model: &'a ModelProto,
    /// Files beside the graph that hold weights of it.
    pub external: &'a [String],
    /// The graph first, then bodies and functions.
    scopes: Vec<Scope<'a>>,
    /// What any node reads, and what any graph gives.
    read: HashSet<&'a str>,
}

/// What a graph reads.
pub struct Input<'a> {
    /// Its name.
    pub name: &'a str,
    /// ONNX's number of its element type.
    pub element_type: i32,
    /// Axes, those with a number fixed; none where nothing is said.
    pub axes: Vec<Option<i64>>,
}

/// Products with one matrix, each computed from the one before.
pub struct Chain<'a> {
    /// The matrix's name.
    pub matrix: &'a str,
    /// Its axes.
    pub shape: [i64; 2],
    /// How many products there are one behind the other.
    pub products: usize,
    /// The first of them.
    pub first: &'a str,
}

/// A graph, a body or a function.
#[derive(Default)]
struct Scope<'a> {
    /// The node that has it and its attribute; empty for the graph, and for a function.
    place: (&'a str, &'a str),
    /// Its message; none for a function.
    graph: Option<&'a GraphProto>,
    nodes: &'a [NodeProto],
    /// The scope around it, whose values it may read.
    parent: Option<usize>,
    producers: HashMap<&'a str, &'a NodeProto>,
    /// The nodes here that read a value.
    readers: HashMap<&'a str, Vec<&'a NodeProto>>,
    /// Initialisers, and what Constant nodes give; the tensor where it is one.
    constants: HashMap<&'a str, Option<&'a TensorProto>>,
    /// Values that are computed from the output of a recurrent operator.
    after_recurrent: HashSet<&'a str>,
}

/// A node in its place.
#[derive(Clone, Copy)]
pub struct Site<'a, 'v> {
    /// The node that is looked at.
    pub node: &'a NodeProto,
    view: &'v View<'a>,
    scope: usize,
}

impl<'a> View<'a> {
    /// Lays the bodies of `model` out.
    ///
    /// - `external`: files beside the graph that hold weights of it.
    pub fn new(model: &'a ModelProto, external: &'a [String]) -> Self {
        let mut view = Self { model, external, scopes: Vec::new(), read: HashSet::new() };
        if let Some(graph) = &model.graph {
            view.add(("", ""), Some(graph), &graph.node, None);
        }
        for function in &model.functions {
            view.add((&function.name, FUNCTION), None, &function.node, None);
        }
        let reads = view.scopes.iter().flat_map(|scope| scope.nodes).flat_map(|node| &node.input);
        let gives = view.graphs().flat_map(|graph| &graph.output).map(|output| &output.name);
        view.read = reads.chain(gives).map(String::as_str).collect();
        view
    }

    // Recursion is bounded: decoding refuses messages that are nested deeper than 100.
    fn add(
        &mut self,
        place: (&'a str, &'a str),
        graph: Option<&'a GraphProto>,
        nodes: &'a [NodeProto],
        parent: Option<usize>,
    ) {
        let index = self.scopes.len();
        let mut scope = Scope { place, graph, nodes, parent, ..Scope::default() };
        let tensors = graph.iter().flat_map(|graph| &graph.initializer);
        scope.constants.extend(tensors.map(|tensor| (tensor.name.as_str(), Some(tensor))));
        for node in nodes {
            scope.producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
            for name in &node.input {
                scope.readers.entry(name).or_default().push(node);
            }
            let after = |input: &String| {
                scope.after_recurrent.contains(input.as_str()) || self.is_after_recurrent(parent, input)
            };
            if node.is_recurrent() || node.input.iter().any(after) {
                scope.after_recurrent.extend(node.output.iter().map(String::as_str));
            }
            if node.is("Constant") {
                let tensor = node.attribute("value").and_then(|attribute| attribute.t.as_ref());
                scope.constants.extend(node.output.iter().map(|name| (name.as_str(), tensor)));
            }
        }
        self.scopes.push(scope);
        for node in nodes {
            for attribute in &node.attribute {
                for body in attribute.g.iter().chain(&attribute.graphs) {
                    self.add((node.label(), &attribute.name), Some(body), &body.node, Some(index));
                }
            }
        }
    }

    fn is_after_recurrent(&self, mut scope: Option<usize>, value: &str) -> bool {
        while let Some(at) = scope {
            if self.scopes[at].after_recurrent.contains(value) {
                return true;
            }
            scope = self.scopes[at].parent;
        }
        false
    }

    /// Where a scope is: empty for the graph, else for example `loop_1.body`, `function Cell`.
    pub fn path(&self, scope: usize) -> String {
        let mut parts = Vec::new();
        let mut at = Some(scope);
        while let Some(scope) = at {
            match self.scopes[scope].place {
                ("", "") => {}
                (function, FUNCTION) => parts.push(format!("function {function}")),
                (node, attribute) => parts.push(format!("{node}.{attribute}")),
            }
            at = self.scopes[scope].parent;
        }
        parts.reverse();
        parts.join("/")
    }

    /// A place in a scope.
    pub fn place(&self, scope: usize, name: &str) -> String {
        let path = self.path(scope);
        if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
    }

    /// Every node of every scope.
    pub fn sites(&self) -> impl Iterator<Item = Site<'a, '_>> {
        let sites = move |scope: usize| {
            self.scopes[scope].nodes.iter().map(move |node| Site { node, view: self, scope })
        };
        (0..self.scopes.len()).flat_map(sites)
    }

    /// Constant tensors of every scope, with the scope; those of Constant nodes too.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &'a str, &'a TensorProto)> {
        self.scopes.iter().enumerate().flat_map(|(at, scope)| {
            let initializers = scope
                .graph
                .into_iter()
                .flat_map(|graph| &graph.initializer)
                .map(|tensor| (tensor.name.as_str(), tensor));
            let constants = scope.nodes.iter().filter(|node| node.is("Constant"));
            let constants =
                constants.filter_map(|node| Some((node.label(), node.attribute("value")?.t.as_ref()?)));
            initializers.chain(constants).map(move |(name, tensor)| (at, name, tensor))
        })
    }

    /// All graphs: the model's own, then the bodies.
    pub fn graphs(&self) -> impl Iterator<Item = &'a GraphProto> {
        self.scopes.iter().filter_map(|scope| scope.graph)
    }

    /// What the model is fed: inputs without a default.
    pub fn inputs(&self) -> impl Iterator<Item = Input<'a>> {
        let graph = self.model.graph.iter();
        let inputs = graph.flat_map(|graph| &graph.input);
        let is_fed =
            |name: &str| !self.scopes.first().is_some_and(|scope| scope.constants.contains_key(name));
        inputs.filter(move |input| is_fed(&input.name)).map(|input| {
            let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
            let length = |value: &Option<Dimension>| match value {
                Some(Dimension::Value(length)) if *length >= 0 => Some(*length),
                _ => None,
            };
            let axes = shape.iter().flat_map(|shape| &shape.dim).map(|dim| length(&dim.value));
            let element_type = tensor.map_or(0, |tensor| tensor.elem_type);
            Input { name: &input.name, element_type, axes: axes.collect() }
        })
    }

    /// Whether the axes of all inputs are fixed.
    pub fn form(&self) -> Form {
        let is_open = |input: Input<'_>| input.axes.iter().any(Option::is_none);
        if self.inputs().any(is_open) { Form::Symbolic } else { Form::Static }
    }

    /// How many texts the model takes at once, if that is fixed.
    pub fn batch(&self) -> Option<i64> {
        self.inputs().find(|input| input.axes.len() >= 2)?.axes[0]
    }

    /// Whether anything reads a value, or a graph gives it.
    pub fn is_used(&self, value: &str) -> bool {
        self.read.contains(value)
    }

    /// The first recurrent operator that there is, `LSTM` or `GRU`.
    pub fn recurrent(&self) -> Option<&'static str> {
        let mut nodes = self.scopes.iter().flat_map(|scope| scope.nodes);
        nodes.find_map(|node| ["LSTM", "GRU"].into_iter().find(|op| node.is(op)))
    }

    /// Whether all that read a constant of a scope are Cast nodes.
    pub fn is_read_by_cast_alone(&self, scope: usize, value: &str) -> bool {
        let mut readers = self.scopes[scope].readers.get(value).into_iter().flatten();
        readers.all(|node| node.is("Cast"))
    }

    /// Matrices with at least `fewest` products one behind the other, beside as many sigmoids or tanhs.
    pub fn chains(&self, fewest: usize) -> Vec<(usize, Chain<'a>)> {
        let mut chains = Vec::new();
        for (at, scope) in self.scopes.iter().enumerate() {
            let functions = scope.nodes.iter().filter(|node| node.is("Sigmoid") || node.is("Tanh")).count();
            let mut products: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
            let mut order = Vec::new();
            for node in scope.nodes.iter().filter(|node| node.is("MatMul") || node.is("Gemm")) {
                let Some(matrix) = self.matrix(at, node) else { continue };
                let of = products.entry(matrix).or_default();
                if of.is_empty() {
                    order.push(matrix);
                }
                of.push(node);
            }
            order.retain(|matrix| products[matrix].len() >= fewest && functions >= products[matrix].len());
            for matrix in order.into_iter().take(MOST_MATRICES) {
                let longest = scope.longest_chain(&products[matrix]);
                let tensor = Site { node: products[matrix][0], view: self, scope: at }.tensor(matrix);
                let shape = tensor.and_then(|tensor| <[i64; 2]>::try_from(&tensor.dims[..]).ok());
                if let Some(shape) = shape.filter(|_| longest >= fewest) {
                    let first = products[matrix][0].label();
                    chains.push((at, Chain { matrix, shape, products: longest, first }));
                }
            }
        }
        chains
    }

    /// The constant that a product multiplies with, turned around or not.
    fn matrix(&self, scope: usize, node: &'a NodeProto) -> Option<&'a str> {
        let site = Site { node, view: self, scope };
        let name = node.input(1)?;
        if site.tensor(name).is_some() {
            return Some(name);
        }
        let from = site.producer(name).filter(|from| from.node.is("Transpose"))?;
        from.node.input(0).filter(|name| from.tensor(name).is_some())
    }

    /// Version of the standard operators; 0 if none is named.
    pub fn opset(&self) -> i64 {
        let standard = |domain: &str| matches!(domain, "" | "ai.onnx");
        self.model.opset_import.iter().find(|set| standard(&set.domain)).map_or(0, |set| set.version)
    }
}

impl Input<'_> {
    /// How ONNX calls its element type.
    pub fn type_name(&self) -> &'static str {
        match DataType::try_from(self.element_type) {
            Ok(DataType::Float) => "float32",
            Ok(DataType::Uint8) => "uint8",
            Ok(DataType::Int8) => "int8",
            Ok(DataType::Int32) => "int32",
            Ok(DataType::Int64) => "int64",
            Ok(DataType::Bool) => "bool",
            Ok(DataType::Float16) => "float16",
            _ => "another type",
        }
    }
}

impl Scope<'_> {
    /// How many of `products` stand one behind the other at most.
    fn longest_chain(&self, products: &[&NodeProto]) -> usize {
        let products: HashSet<*const NodeProto> =
            products.iter().map(|product| std::ptr::from_ref(*product)).collect();
        let mut behind: HashMap<&str, usize> = HashMap::new();
        let mut longest = 0;
        for node in self.nodes {
            let before = node.input.iter().filter_map(|name| behind.get(name.as_str())).max();
            let is_product = products.contains(&std::ptr::from_ref(node));
            let count = before.copied().unwrap_or(0) + usize::from(is_product);
            if count > 0 {
                behind.extend(node.output.iter().map(|name| (name.as_str(), count)));
            }
            longest = longest.max(count);
        }
        longest
    }
}

impl<'a, 'v> Site<'a, 'v> {
    /// Where it is: its name, or else what it gives, with the body that it stands in.
    pub fn place(&self) -> String {
        self.view.place(self.scope, self.node.label())
    }

    /// The whole model.
    pub fn view(&self) -> &'v View<'a> {
        self.view
    }

    /// The node that gives a value, here or in a scope around.
    pub fn producer(&self, value: &str) -> Option<Site<'a, 'v>> {
        let mut at = Some(self.scope);
        while let Some(scope) = at {
            if let Some(node) = self.view.scopes[scope].producers.get(value) {
                return Some(Site { node, view: self.view, scope });
            }
            at = self.view.scopes[scope].parent;
        }
        None
    }

    /// The nodes beside it that read one of its outputs.
    pub fn readers(&self, output: usize) -> impl Iterator<Item = Site<'a, 'v>> {
        let Self { node, view, scope } = *self;
        let readers = node.output.get(output).and_then(|name| view.scopes[scope].readers.get(name.as_str()));
        readers.into_iter().flatten().map(move |node| Site { node, view, scope })
    }

    /// Whether a value is known before the model runs.
    pub fn is_constant(&self, value: &str) -> bool {
        let mut at = Some(self.scope);
        while let Some(scope) = at {
            if self.view.scopes[scope].constants.contains_key(value) {
                return true;
            }
            at = self.view.scopes[scope].parent;
        }
        false
    }

    /// The tensor that a value is, if it is known before the model runs.
    pub fn tensor(&self, value: &str) -> Option<&'a TensorProto> {
        let mut at = Some(self.scope);
        while let Some(scope) = at {
            if let Some(tensor) = self.view.scopes[scope].constants.get(value) {
                return *tensor;
            }
            at = self.view.scopes[scope].parent;
        }
        None
    }

    /// Whether a value is an input of the model, or another form of one.
    pub fn is_fed(&self, value: &str) -> bool {
        let mut value = value.to_owned();
        for _ in 0..MOST_FORMS {
            let Some(from) = self.producer(&value) else {
                return !self.is_constant(&value)
                    && self
                        .view
                        .model
                        .graph
                        .iter()
                        .any(|graph| graph.input.iter().any(|input| input.name == value));
            };
            let is_form = FORMS.iter().any(|op| from.node.is(op));
            match from.node.input(0).filter(|_| is_form) {
                Some(before) => before.clone_into(&mut value),
                None => return false,
            }
        }
        false
    }

    /// Whether a value is computed from the output of a recurrent operator.
    pub fn is_after_recurrent(&self, value: &str) -> bool {
        self.view.is_after_recurrent(Some(self.scope), value)
    }

    /// Whether anything reads the output of this number.
    pub fn is_read(&self, output: usize) -> bool {
        let Some(name) = self.node.output.get(output).filter(|name| !name.is_empty()) else { return false };
        // A body may read it too.
        self.view.is_used(name)
    }
}
