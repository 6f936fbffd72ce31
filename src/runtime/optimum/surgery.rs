//! Graphs taken apart and put together: a branch in place of its `If`, and the nodes that outputs need.
//!
//! All of this works on graphs that passed [`CheckedModel`](crate::checked::CheckedModel), and what comes out
//! passes it again: a name that was overlooked here is refused there.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// A node of a standard operator.
pub(super) fn node(
    op: &str,
    inputs: &[&str],
    output: &str,
    attribute: impl IntoIterator<Item = AttributeProto>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op.to_owned(),
        attribute: attribute.into_iter().collect(),
        ..NodeProto::default()
    }
}

/// Tells `see` every name that a node reads. Names that bodies write themselves are told too: no outer graph
/// has them.
pub(super) fn reads<'a>(node: &'a NodeProto, see: &mut dyn FnMut(&'a str)) {
    node.input.iter().filter(|name| !name.is_empty()).for_each(|name| see(name));
    for body in node.bodies() {
        body.node.iter().for_each(|node| reads(node, see));
        body.output.iter().for_each(|output| see(&output.name));
    }
}

/// Gives the values called by the keys of `names` other names, in bodies too.
pub(super) fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    let change = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    node.input.iter_mut().chain(&mut node.output).for_each(change);
    for attribute in &mut node.attribute {
        for body in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            body.node.iter_mut().for_each(|node| rename(node, names));
            body.input.iter_mut().chain(&mut body.output).for_each(|value| change(&mut value.name));
            body.initializer.iter_mut().for_each(|tensor| change(&mut tensor.name));
        }
    }
}

/// Every name that is written in a graph or in its bodies.
pub(super) fn written(graph: &GraphProto) -> HashSet<&str> {
    fn collect<'a>(graph: &'a GraphProto, found: &mut HashSet<&'a str>) {
        found.extend(graph.input.iter().map(|value| value.name.as_str()));
        found.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
        for node in &graph.node {
            found.extend(node.output.iter().map(String::as_str));
            node.bodies().for_each(|body| collect(body, found));
        }
    }
    let mut found = HashSet::new();
    collect(graph, &mut found);
    found
}

/// Keeps the outputs called `wanted`, in that order, and what they need; inputs that nothing reads go too,
/// and so do those that only stand for an initialiser.
///
/// Names that `wanted` has and the graph does not are passed over.
pub(super) fn keep(graph: &mut GraphProto, wanted: &[String]) {
    let givers: HashMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.output.iter().map(move |output| (output.as_str(), at)))
        .collect();
    let mut needed: HashSet<String> = HashSet::new();
    let mut nodes = vec![false; graph.node.len()];
    let mut open: Vec<&str> = wanted.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        if !needed.insert(name.to_owned()) {
            continue;
        }
        if let Some(&at) = givers.get(name).filter(|&&at| !nodes[at]) {
            nodes[at] = true;
            reads(&graph.node[at], &mut |name| open.push(name));
        }
    }
    drop(givers);
    let mut at = 0;
    graph.node.retain(|_| {
        at += 1;
        nodes[at - 1]
    });
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
    let values = |sparse: &crate::onnx::SparseTensorProto| {
        sparse.values.as_ref().is_some_and(|values| needed.contains(&values.name))
    };
    graph.sparse_initializer.retain(values);
    let initialised: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.retain(|input| needed.contains(&input.name) && !initialised.contains(input.name.as_str()));
    let mut outputs = std::mem::take(&mut graph.output);
    for name in wanted {
        if let Some(at) = outputs.iter().position(|output| output.name == *name) {
            graph.output.push(outputs.swap_remove(at));
        }
    }
    // Types of values in between: some are of branches that are gone.
    graph.value_info.clear();
}

/// Puts a branch of the `If` that is node `at` of `graph` in its place.
///
/// - `name`: of the graph, for errors.
/// - `branch`: `then_branch` or `else_branch`.
///
/// # Errors
/// [`ErrorKind::Bundle`] if there is no such branch, or it is none that an `If` can have.
pub(super) fn inline(name: &str, graph: &mut GraphProto, at: usize, branch: &str) -> Result<()> {
    let label = graph.node[at].label().to_owned();
    let wrong = |message: &str| Error::new(ErrorKind::Bundle, message).in_graph(name, Some(&label));
    let attribute = graph.node[at].attribute.iter_mut().find(|attribute| attribute.name == branch);
    let mut body = attribute
        .and_then(|attribute| attribute.g.take())
        .ok_or_else(|| wrong(&format!("this If has no {branch}")))?;
    let outputs = std::mem::take(&mut graph.node[at].output);
    if !body.input.is_empty() || body.output.len() != outputs.len() || !body.sparse_initializer.is_empty() {
        return Err(wrong(&format!("its {branch} does not fit an If")));
    }
    let same: HashSet<&str> = body
        .output
        .iter()
        .zip(&outputs)
        .filter(|(inner, outer)| inner.name == **outer)
        .map(|(_, outer)| outer.as_str())
        .collect();
    // A body may write what the graph writes behind it, the If's own outputs among that.
    let behind: HashSet<&str> = graph.node[at..]
        .iter()
        .flat_map(|node| node.output.iter().chain(node.bodies().flat_map(body_outputs)))
        .chain(&outputs)
        .map(String::as_str)
        .collect();
    let inner = written(&body);
    let mut names = HashMap::new();
    for &old in inner.iter().filter(|name| behind.contains(*name) && !same.contains(*name)) {
        let free = |new: &String| !inner.contains(new.as_str()) && !behind.contains(new.as_str());
        let new = (0..=inner.len() + behind.len()).map(|n| format!("{old}/{branch}{n}")).find(free);
        names.insert(old.to_owned(), new.unwrap_or_default());
    }
    drop((inner, behind, same));
    body.node.iter_mut().for_each(|node| rename(node, &names));
    let change = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    body.initializer.iter_mut().for_each(|tensor| change(&mut tensor.name));
    body.output.iter_mut().for_each(|output| change(&mut output.name));
    let given = body.output.iter().zip(&outputs).filter(|(inner, outer)| inner.name != **outer);
    let identities: Vec<NodeProto> = given
        .filter(|(_, outer)| !outer.is_empty())
        .map(|(inner, outer)| node("Identity", &[&inner.name], outer, []))
        .collect();
    graph.initializer.append(&mut body.initializer);
    graph.node.splice(at..=at, body.node.into_iter().chain(identities));
    Ok(())
}

/// Names that a body's nodes write, at its own level.
fn body_outputs(body: &GraphProto) -> impl Iterator<Item = &String> {
    body.node.iter().flat_map(|node| &node.output)
}

/// The integers of a small constant: an initialiser, or what a `Constant` gives.
pub(super) fn constant(tensor: Option<&TensorProto>, giver: Option<&NodeProto>) -> Option<Vec<i64>> {
    if let Some(node) = giver.filter(|node| node.is("Constant")) {
        if let Some(value) = node.attribute("value_int") {
            return Some(vec![value.i()]);
        }
        if let Some(values) = node.attribute("value_ints") {
            return Some(values.ints.clone());
        }
        return crate::shapes::integers(node.attribute("value")?.t.as_ref()?);
    }
    crate::shapes::integers(tensor?)
}
