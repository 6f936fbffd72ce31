//! How much memory a graph asks for before it has read anything: bounded before an engine is asked, because
//! tract computes constants when it loads a graph, and ends the process where memory cannot be had.

use std::collections::HashSet;

use crate::checked::CheckedModel;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx::{GraphProto, NodeProto};
use crate::shapes::{Shapes, least_elements};

/// Elements of one value where each open axis of the inputs is 1 long: 1 GiB of f32.
const LARGEST_VALUE: u64 = 1 << 28;
/// Bytes that values out of constants alone may have together, over [`FOLDED_TIMES`] those of the file.
const MOST_FOLDED: u64 = 64 << 20;
/// Weights in 8 bits become four times as large when they are restored, and that counts again where an axis is
/// taken away and where they are turned around.
const FOLDED_TIMES: u64 = 12;
/// Bytes of an element, of the widest type that graphs here compute in.
const WIDEST: u64 = 8;
/// Bytes of an element that DequantizeLinear gives, and of what is only another form of it.
const RESTORED: u64 = 4;
/// Operators that give the elements of their first input in another form.
const FORMS: [&str; 6] = ["Squeeze", "Unsqueeze", "Transpose", "Reshape", "Flatten", "Identity"];

/// Refuses a graph whose values are larger than they can honestly be.
///
/// - `size`: bytes of the file.
///
/// What operators give is inferred as far as [`Shapes`] knows them; where it does not, nothing is refused.
///
/// # Errors
/// [`ErrorKind::Bundle`] with graph and node.
pub(super) fn check(name: &str, model: &CheckedModel, size: usize) -> Result<()> {
    let most_folded = (size as u64).saturating_mul(FOLDED_TIMES).saturating_add(MOST_FOLDED);
    let constants = constants(model.graph());
    let restored = restored(model.graph());
    let (mut folded, mut fault) = (0u64, None);
    Shapes::smallest(model.graph()).walk(model.graph(), &mut |node, shapes, _| {
        for (output, axes) in
            node.output.iter().zip(shapes).filter_map(|(output, shape)| Some((output, shape.as_ref()?)))
        {
            let elements = least_elements(axes);
            if elements > LARGEST_VALUE {
                fault.get_or_insert_with(|| {
                    (
                        node.label().to_owned(),
                        format!("gives at least {elements} values; at most {LARGEST_VALUE} are computed"),
                    )
                });
            }
            if constants.contains(output.as_str()) {
                let width = if restored.contains(output.as_str()) { RESTORED } else { WIDEST };
                folded = folded.saturating_add(elements.saturating_mul(width));
                if folded > most_folded {
                    let message = format!(
                        "constants grow to more than {} MiB, which a file of this size does not need",
                        most_folded >> 20
                    );
                    fault.get_or_insert_with(|| (node.label().to_owned(), message));
                }
            }
        }
    });
    match fault {
        None => Ok(()),
        Some((node, message)) => Err(Error::new(ErrorKind::Bundle, message)
            .in_graph(name, Some(&node))
            .help("nothing that `s2s export` writes comes near this; is this the right file?")),
    }
}

/// What is computed out of constants alone.
fn constants(graph: &GraphProto) -> HashSet<&str> {
    fn collect<'a>(graph: &'a GraphProto, found: &mut HashSet<&'a str>) {
        found.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
        for node in &graph.node {
            node.bodies().for_each(|body| collect(body, found));
            let given = |node: &NodeProto| {
                node.bodies().next().is_none()
                    && node.input.iter().all(|input| input.is_empty() || found.contains(input.as_str()))
            };
            if given(node) {
                found.extend(node.output.iter().map(String::as_str));
            }
        }
    }
    let mut found = HashSet::new();
    collect(graph, &mut found);
    found
}

/// What DequantizeLinear gives, in any form.
fn restored(graph: &GraphProto) -> HashSet<&str> {
    let mut found = HashSet::new();
    for node in &graph.node {
        let first = node.input.first().map(String::as_str);
        let is_form =
            FORMS.contains(&node.op_type.as_str()) && first.is_some_and(|name| found.contains(name));
        if is_form || node.op_type == "DequantizeLinear" {
            found.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}
