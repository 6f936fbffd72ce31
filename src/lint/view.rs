//! A model as the rules see it: every node with the graph that it stands in.

use std::collections::{HashMap, HashSet};

use crate::onnx::messages::{Dimension, GraphProto, ModelProto, NodeProto, TensorProto};

/// A model with its bodies laid side by side.
pub struct View<'a> {
    /// The file.
    pub model: &'a ModelProto,
    /// The graph first, then bodies and functions.
    pub scopes: Vec<Scope<'a>>,
}

/// A graph, a body or a function.
#[derive(Default)]
pub struct Scope<'a> {
    /// Where it is: empty for the graph, else for example `loop_1.body`.
    pub path: String,
    /// Its message; none for a function.
    pub graph: Option<&'a GraphProto>,
    nodes: &'a [NodeProto],
    /// The scope around it, whose values it may read.
    parent: Option<usize>,
    producers: HashMap<&'a str, &'a NodeProto>,
    constants: HashSet<&'a str>,
}

/// A node in its place.
#[derive(Clone, Copy)]
pub struct Site<'a, 'v> {
    /// The node.
    pub node: &'a NodeProto,
    view: &'v View<'a>,
    scope: usize,
}

impl<'a> View<'a> {
    /// Lays the bodies of `model` out.
    pub fn new(model: &'a ModelProto) -> Self {
        let mut view = Self { model, scopes: Vec::new() };
        if let Some(graph) = &model.graph {
            view.add(String::new(), Some(graph), &graph.node, None);
        }
        for function in &model.functions {
            view.add(format!("function {}", function.name), None, &function.node, None);
        }
        view
    }

    // Recursion is bounded: decoding refuses messages that are nested deeper than 100.
    fn add(&mut self, path: String, graph: Option<&'a GraphProto>, nodes: &'a [NodeProto], parent: Option<usize>) {
        let index = self.scopes.len();
        let mut scope = Scope { path, graph, nodes, parent, ..Scope::default() };
        scope.constants.extend(graph.iter().flat_map(|graph| &graph.initializer).map(|tensor| tensor.name.as_str()));
        for node in nodes {
            scope.producers.extend(node.output.iter().map(|name| (name.as_str(), node)));
            if node.is("Constant") {
                scope.constants.extend(node.output.iter().map(String::as_str));
            }
        }
        self.scopes.push(scope);
        for node in nodes {
            for attribute in &node.attribute {
                for body in attribute.g.iter().chain(&attribute.graphs) {
                    let outer = &self.scopes[index].path;
                    let inner = format!("{}.{}", name(node), attribute.name);
                    let path = if outer.is_empty() { inner } else { format!("{outer}/{inner}") };
                    self.add(path, Some(body), &body.node, Some(index));
                }
            }
        }
    }

    /// Every node of every scope.
    pub fn sites(&self) -> impl Iterator<Item = Site<'a, '_>> {
        let sites = move |scope: usize| self.scopes[scope].nodes.iter().map(move |node| Site { node, view: self, scope });
        (0..self.scopes.len()).flat_map(sites)
    }

    /// Constant tensors of every scope, with the scope's path; those of Constant nodes too.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &'a str, &'a TensorProto)> {
        self.scopes.iter().flat_map(|scope| {
            let initializers = scope.graph.into_iter().flat_map(|graph| &graph.initializer).map(|tensor| (tensor.name.as_str(), tensor));
            let constants = scope.nodes.iter().filter(|node| node.is("Constant"));
            let constants = constants.filter_map(|node| Some((name(node), node.attribute("value")?.t.as_ref()?)));
            initializers.chain(constants).map(|(name, tensor)| (scope.path.as_str(), name, tensor))
        })
    }

    /// Whether an input of the graph has an axis whose length is not fixed.
    pub fn has_free_axes(&self) -> bool {
        let Some(graph) = &self.model.graph else { return false };
        let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).any(|input| {
            let shape = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
            shape.is_none_or(|shape| shape.dim.iter().any(|dim| !matches!(dim.value, Some(Dimension::Value(_)))))
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
        let path = &self.view.scopes[self.scope].path;
        if path.is_empty() { name(self.node).to_owned() } else { format!("{path}/{}", name(self.node)) }
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

    /// Whether a value is computed from the output of a node for which `wanted` holds.
    pub fn depends_on(&self, value: &'a str, wanted: impl Fn(&NodeProto) -> bool) -> bool {
        let mut open = vec![value];
        let mut seen: HashSet<&str> = HashSet::new();
        while let Some(value) = open.pop() {
            if !seen.insert(value) {
                continue;
            }
            if let Some(site) = self.producer(value) {
                if wanted(site.node) {
                    return true;
                }
                open.extend(site.node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
            }
        }
        false
    }

    /// Whether anything reads the output of this number.
    pub fn is_read(&self, output: usize) -> bool {
        let Some(name) = self.node.output.get(output).filter(|name| !name.is_empty()) else { return false };
        let scope = &self.view.scopes[self.scope];
        let given = scope.graph.is_some_and(|graph| graph.output.iter().any(|value| value.name == *name));
        // A body may read it too.
        given || self.view.scopes.iter().flat_map(|scope| scope.nodes).any(|node| node.input.contains(name))
    }
}

/// What a node is called: its name, else its first output.
fn name(node: &NodeProto) -> &str {
    let first = node.output.iter().map(String::as_str).find(|name| !name.is_empty());
    if node.name.is_empty() { first.unwrap_or(&node.op_type) } else { &node.name }
}
