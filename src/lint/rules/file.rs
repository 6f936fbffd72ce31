//! Rules about how a file is written.

use super::rule::{Check, Found, Rule};
use crate::onnx::messages::{DataType, Dimension, TensorProto, ValueInfoProto};

/// Rules of this file.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "fixed-axes",
        about: "an axis of an input is fixed",
        fix: "export it with dynamic axes: dynamic_axes or dynamic_shapes in PyTorch, None in Keras",
        operators: &[],
        check: Check::Model(|view| {
            let axes =
                [("batch", "batches of another size are fed"), ("time", "texts of another length are fed")];
            let mut found = Vec::new();
            for input in view.inputs() {
                // A state, or one number a text, has no axis of time.
                let is_float = input.element_type == DataType::Float as i32;
                let is_text = !is_float && input.axes.len() == 2 || input.axes.len() == 3;
                for (at, (axis, when)) in axes.into_iter().enumerate().take(1 + usize::from(is_text)) {
                    if let Some(Some(length)) = input.axes.get(at) {
                        let said = format!("axis {at} is {length}");
                        found.push((input.name.to_owned(), Found::new(axis).saying(said).when(when)));
                    }
                }
            }
            found
        }),
    },
    Rule {
        id: "dead-input",
        about: "an input that nothing reads",
        fix: "take it out of the graph",
        operators: &[],
        check: Check::Model(|view| {
            let dead = view.inputs().filter(|input| !view.is_used(input.name));
            // Of whatever type it is.
            dead.map(|input| (input.name.to_owned(), Found::new("int64").saying(input.type_name()))).collect()
        }),
    },
    Rule {
        id: "typed-data",
        about: "tensors keep their numbers in typed fields instead of raw_data",
        fix: "rewrite them: onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)",
        operators: &[],
        check: Check::Model(|view| {
            let typed: Vec<_> = view
                .tensors()
                .filter_map(|(scope, name, tensor)| Some((scope, name, field(tensor)?)))
                .collect();
            let Some((scope, name, field)) = typed.first() else { return Vec::new() };
            let more = match typed.len() {
                1 => String::new(),
                n => format!(" and {} more tensors", n - 1),
            };
            let case = view.recurrent().unwrap_or(field);
            vec![(view.place(*scope, name), Found::new(case).saying(format!("{field}{more}")))]
        }),
    },
    Rule {
        id: "external-data",
        about: "weights lie in a file beside the graph",
        fix: "write them into the graph: onnx.save_model(model, path, save_as_external_data=False)",
        operators: &[],
        check: Check::Model(|view| {
            let files = view.external.iter();
            files.map(|file| (file.clone(), Found::new("MatMul"))).collect()
        }),
    },
    Rule {
        id: "value-info",
        about: "types of values in between are written down with symbols for their axes",
        fix: "del model.graph.value_info[:]; every runtime finds them itself",
        operators: &[],
        check: Check::Model(|view| {
            let infos = view.graphs().flat_map(|graph| &graph.value_info);
            let symbolic = infos.filter(|info| has_symbols(info)).take(1);
            let case = view.recurrent().unwrap_or("symbols");
            symbolic.map(|info| (info.name.clone(), Found::new(case))).collect()
        }),
    },
    Rule {
        id: "opset",
        about: "the operator set or the file format is one that not every release reads",
        fix: "export with opset 17 (IR 8), which everything of the last four years reads",
        operators: &[],
        check: Check::Model(|view| {
            let (opset, ir) = (view.opset(), view.model.ir_version);
            let place = format!("opset {opset}, IR {ir}");
            let with_lstm = view.recurrent().map(|_| format!("LSTM, {place}"));
            // The operators' newer versions are another matter than the file's.
            let cases = [Some(place.clone()), with_lstm].into_iter().flatten();
            cases.map(|case| (place.clone(), Found::new(case))).collect()
        }),
    },
];

fn field(tensor: &TensorProto) -> Option<&'static str> {
    let lengths =
        [tensor.float_data.len(), tensor.int32_data.len(), tensor.int64_data.len(), tensor.double_data.len()];
    let names = ["float_data", "int32_data", "int64_data", "double_data"];
    names.into_iter().zip(lengths).find(|(_, length)| *length > 0).map(|(name, _)| name)
}

fn has_symbols(info: &ValueInfoProto) -> bool {
    let shape = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
    shape.is_some_and(|shape| shape.dim.iter().any(|dim| matches!(dim.value, Some(Dimension::Param(_)))))
}
