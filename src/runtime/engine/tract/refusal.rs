//! What tract would compute wrongly without a word: refused before tract sees it.
//!
//! What tract refuses by itself needs no rule here, because [`takes`](crate::engine::takes) asks it.

use crate::checked::CheckedModel;
use crate::error::{Error, ErrorKind};
use crate::onnx::{AttributeProto, NodeProto, all_nodes};

/// The error for the first node, bodies and functions included, that says what neither tract nor our own
/// operators read.
///
/// - `name`: what the graph is called in errors.
pub(super) fn refusal(name: &str, model: &CheckedModel) -> Option<Error> {
    let functions = model.functions.iter().map(|function| &function.node[..]);
    let nodes = std::iter::once(&model.graph().node[..]).chain(functions).flat_map(all_nodes);
    nodes.into_iter().find_map(|node| {
        let ignored = ignored(node);
        if ignored.is_empty() {
            return None;
        }
        let message = format!(
            "tract ignores {} of this {}, and would compute something else",
            ignored.join(" and "),
            node.op_type
        );
        Some(Error::new(ErrorKind::Engine, message).in_graph(name, Some(node.label())).help(
            "use the engine ort for this graph, or export it without clip, activations, input_forget and \
            layout=1, an RNN also without direction=reverse",
        ))
    })
}

/// Attributes of a recurrent node that change what it computes and are not read.
fn ignored(node: &NodeProto) -> Vec<&str> {
    if !node.is_recurrent() {
        return Vec::new();
    }
    // Its own activations have no parameters.
    let has_others = node.has_other_activations();
    let is_ignored = |attribute: &&AttributeProto| match attribute.name.as_str() {
        "direction" => node.is("RNN") && attribute.s == b"reverse",
        "clip" => true,
        "layout" | "input_forget" => attribute.i() != 0,
        "activations" | "activation_alpha" | "activation_beta" => has_others,
        _ => false,
    };
    node.attribute.iter().filter(is_ignored).map(|attribute| attribute.name.as_str()).collect()
}
