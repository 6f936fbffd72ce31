//! The bodies of Loops, as graphs that can be drawn by themselves.

use std::collections::HashSet;

use super::shapes::Shapes;
use crate::onnx::messages::{ModelProto, NodeProto};

/// The Loops of a model: the name of each node, and its body with what it reads from outside: constants as they are, other
/// values as inputs.
pub fn bodies(model: &ModelProto) -> Vec<(String, ModelProto)> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let shapes = Shapes::of(graph);
    let body_of = |node: &NodeProto| {
        let mut body = node.attribute.iter().find_map(|a| a.g.clone())?;
        let nodes = body.all_nodes();
        let read: HashSet<String> = nodes.iter().flat_map(|n| n.input.clone()).filter(|name| !name.is_empty()).collect();
        let mut known: HashSet<String> = nodes.into_iter().flat_map(|n| n.output.clone()).collect();
        body.initializer.extend(graph.initializer.iter().filter(|t| read.contains(&t.name)).cloned());
        known.extend(body.input.iter().map(|i| i.name.clone()));
        known.extend(body.initializer.iter().map(|t| t.name.clone()));
        let mut outside: Vec<&String> = read.difference(&known).collect();
        outside.sort_unstable();
        body.input.extend(outside.into_iter().map(|name| shapes.value_info(name)));
        Some((node.name.clone(), ModelProto { graph: Some(body), ..model.clone() }))
    };
    graph.node.iter().filter_map(body_of).collect()
}
