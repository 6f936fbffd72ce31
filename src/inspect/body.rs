//! The bodies of Loops, as graphs that can be drawn by themselves.

use std::collections::HashSet;

use s2s_runtime::checked::CheckedModel;

use super::shapes::Shapes;
use crate::error::Result;
use crate::onnx::messages::{ModelProto, NodeProto};

/// Bodies of a graph that are drawn, the first ones; each has a copy of the constants that it reads.
const MOST: usize = 16;

/// The first Loops of a model: the name of each node, and its body with what it reads from outside: constants
/// as they are, other values as inputs.
pub fn bodies(model: &CheckedModel) -> impl Iterator<Item = Result<(String, CheckedModel)>> {
    let graph = model.graph();
    let shapes = Shapes::of(graph);
    let body_of = move |node: &NodeProto| {
        let mut body = node.attribute.iter().find_map(|a| a.g.clone())?;
        let nodes = body.all_nodes();
        // What is written within, in bodies of its own too, and what is read.
        let inner = nodes.iter().flat_map(|n| n.bodies());
        let inner =
            inner.flat_map(|b| b.input.iter().map(|i| &i.name).chain(b.initializer.iter().map(|t| &t.name)));
        let mut known: HashSet<String> = nodes.iter().flat_map(|n| &n.output).chain(inner).cloned().collect();
        let read = nodes.iter().flat_map(|n| &n.input).chain(body.output.iter().map(|o| &o.name));
        let read: HashSet<String> = read.filter(|name| !name.is_empty()).cloned().collect();
        body.initializer.extend(graph.initializer.iter().filter(|t| read.contains(&t.name)).cloned());
        known.extend(body.input.iter().map(|i| i.name.clone()));
        known.extend(body.initializer.iter().map(|t| t.name.clone()));
        known.extend(
            body.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.clone())),
        );
        let mut outside: Vec<&String> = read.difference(&known).collect();
        outside.sort_unstable();
        body.input.extend(outside.into_iter().map(|name| shapes.value_info(name)));
        let model = ModelProto { graph: Some(body), ..header(model) };
        Some(CheckedModel::new(&node.name, model).map(|model| (node.name.clone(), model)))
    };
    graph.node.iter().filter_map(body_of).take(MOST)
}

/// What a model says besides its graph.
fn header(model: &ModelProto) -> ModelProto {
    let ModelProto { ir_version, producer_name, producer_version, opset_import, .. } = model;
    ModelProto {
        ir_version: *ir_version,
        producer_name: producer_name.clone(),
        producer_version: producer_version.clone(),
        opset_import: opset_import.clone(),
        ..ModelProto::default()
    }
}
