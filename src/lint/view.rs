//! A model as the rules see it: every node with the graph that it stands in.

use std::collections::{HashMap, HashSet};

use crate::onnx::messages::{DataType, Dimension, GraphProto, ModelProto, NodeProto, TensorProto};

/// The attribute that stands for a function's nodes.
const FUNCTION: &str = "function";

/// A model with its bodies laid side by side.
pub struct View<'a> {
    /// The model as it was read from its file.
    pub model: &'a ModelProto,
    /// The graph first, then bodies and functions.
    pub scopes: Vec<Scope<'a>>,
    /// What any node reads.
    read: HashSet<&'a str>,
    /// Names of tensors of signed bytes.
    pub signed_bytes: HashSet<&'a str>,
}

/// A graph, a body or a function.
#[derive(Default)]
pub struct Scope<'a> {
    /// The node that has it and its attribute; empty for the graph, and for a function.
    place: (&'a str, &'a str),
    /// Its message; none for a function.
    pub graph: Option<&'a GraphProto>,
    nodes: &'a [NodeProto],
    /// The scope around it, whose values it may read.
    parent: Option<usize>,
    producers: HashMap<&'a str, &'a NodeProto>,
    constants: HashSet<&'a str>,
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
    pub fn new(model: &'a ModelProto) -> Self {
        let mut view = Self { model, scopes: Vec::new(), read: HashSet::new(), signed_bytes: HashSet::new() };
        if let Some(graph) = &model.graph {
            view.add(("", ""), Some(graph), &graph.node, None);
        }
        for function in &model.functions {
            view.add((&function.name, FUNCTION), None, &function.node, None);
        }
        view.read = view
            .scopes
            .iter()
            .flat_map(|scope| scope.nodes)
            .flat_map(|node| &node.input)
            .map(String::as_str)
            .collect();
        let tensors = view.scopes.iter().filter_map(|scope| scope.graph).flat_map(|graph| &graph.initializer);
        view.signed_bytes = tensors
            .filter(|tensor| tensor.data_type == DataType::Int8 as i32)
            .map(|tensor| tensor.name.as_str())
            .collect();
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
        scope
            .constants
            .extend(graph.iter().flat_map(|graph| &graph.initializer).map(|tensor| tensor.name.as_str()));
        for node in nodes {
            scope.producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
            let after = |input: &String| {
                scope.after_recurrent.contains(input.as_str()) || self.is_after_recurrent(parent, input)
            };
            if node.is_recurrent() || node.input.iter().any(after) {
                scope.after_recurrent.extend(node.output.iter().map(String::as_str));
            }
            if node.is("Constant") {
                scope.constants.extend(node.output.iter().map(String::as_str));
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

    /// Whether an input of the graph has an axis whose length is not fixed.
    pub fn has_free_axes(&self) -> bool {
        let Some(graph) = &self.model.graph else { return false };
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).any(|input| {
            let shape =
                input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
            shape.is_none_or(|shape| {
                shape.dim.iter().any(|dim| !matches!(dim.value, Some(Dimension::Value(_))))
            })
        })
    }

    /// Version of the standard operators; 0 if none is named.
    pub fn opset(&self) -> i64 {
        let standard = |domain: &str| matches!(domain, "" | "ai.onnx");
        self.model.opset_import.iter().find(|set| standard(&set.domain)).map_or(0, |set| set.version)
    }
}

impl<'a> Site<'a, '_> {
    /// Where it is: its name, or else what it gives, with the body that it stands in.
    pub fn place(&self) -> String {
        self.view.place(self.scope, self.node.label())
    }

    /// The whole model.
    pub fn view(&self) -> &View<'a> {
        self.view
    }

    /// The node that gives a value, here or in a scope around.
    pub fn producer(&self, value: &str) -> Option<Site<'a, '_>> {
        let mut at = Some(self.scope);
        while let Some(scope) = at {
            if let Some(node) = self.view.scopes[scope].producers.get(value) {
                return Some(Site { node, view: self.view, scope });
            }
            at = self.view.scopes[scope].parent;
        }
        None
    }

    /// Whether a value is known before the model runs.
    pub fn is_constant(&self, value: &str) -> bool {
        let mut at = Some(self.scope);
        while let Some(scope) = at {
            if self.view.scopes[scope].constants.contains(value) {
                return true;
            }
            at = self.view.scopes[scope].parent;
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
        let scope = &self.view.scopes[self.scope];
        let given = scope.graph.is_some_and(|graph| graph.output.iter().any(|value| value.name == *name));
        // A body may read it too.
        given || self.view.read.contains(name.as_str())
    }
}
