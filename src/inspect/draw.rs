//! Pictures of graphs: SVG, DOT and Mermaid from the same boxes and arrows.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use super::model::{Edge, Layer, Model, one_direction};
use super::shapes::display;
use super::svg::{Arrow, Node};

/// Fill and border of inputs and outputs.
pub const PLAIN: (&str, &str) = ("#f4f4f4", "#888888");

/// Fill and border of a layer: the same for the same weights in every picture.
pub fn colours(layer: &str) -> (&'static str, &'static str) {
    const RECURRENT: [[(&str, &str); 3]; 2] = [
        [("#9ec9f0", "#2368a8"), ("#b9cdf7", "#3b5fc0"), ("#c3d9e8", "#44758f")],
        [("#ffc48a", "#b8651b"), ("#ffb3a1", "#b5482f"), ("#f3c9a5", "#96643a")],
    ];
    const OTHERS: [(&str, &str); 4] = [("#e3c9ee", "#84509b"), ("#cfe8c6", "#4f8a3d"), ("#f6d0dd", "#a84a6c"), ("#d8d8c0", "#77774a")];
    let layer = one_direction(layer);
    let decoder = usize::from(layer.starts_with("decoder"));
    let last = layer.rsplit('.').next().unwrap_or(layer);
    let number = last.chars().filter(char::is_ascii_digit).fold(0, |n, c| n * 10 + c as usize - '0' as usize);
    match last {
        "embedding" => [("#c9efe9", "#2b8a7c"), ("#fff0b0", "#a58a16")][decoder],
        "dense" => ("#c5e8b7", "#4f8a3d"),
        "attention" => ("#e3c9ee", "#84509b"),
        _ if last.starts_with("lstm") || last.starts_with("gru") => RECURRENT[decoder][number % 3],
        _ if last.starts_with("dense") => OTHERS[number % 4],
        _ => PLAIN,
    }
}

/// Boxes and arrows of a model; outputs get a box of their own.
pub fn picture(model: &Model) -> (Vec<Node>, Vec<Arrow>) {
    let mut nodes: Vec<Node> = model.layers.iter().map(|layer| node(model, layer)).collect();
    let mut arrows: Vec<Arrow> = Vec::new();
    let said = said_in_boxes(model);
    for (to, layer) in model.layers.iter().enumerate() {
        let mut merged: Vec<Arrow> = Vec::new();
        for edge in &layer.inputs {
            let dashed = edge.label == "mask";
            let line = match dashed {
                true => Some("mask".to_owned()),
                false if said.contains(&(edge.from, value(edge))) => None,
                false => Some(value(edge)),
            };
            match merged.iter_mut().find(|a| a.from == edge.from && a.dashed == dashed) {
                Some(arrow) => arrow.label.extend(line),
                None => merged.push(Arrow { from: edge.from, to, label: line.into_iter().collect(), dashed }),
            }
        }
        // A mask that comes along with the value itself is drawn as part of it.
        let plain: Vec<usize> = merged.iter().filter(|a| !a.dashed).map(|a| a.from).collect();
        merged.retain(|a| !a.dashed || !plain.contains(&a.from));
        arrows.extend(merged);
    }
    for (from, line) in &said {
        let is_output = model.outputs.iter().any(|(name, _, shape)| *line == format!("{name} {}", display(shape)));
        if model.layers[*from].kind != "Input" && !is_output {
            nodes[*from].lines.push(line.clone());
        }
    }
    let by_layer: HashMap<&str, usize> =
        model.layers.iter().enumerate().flat_map(|(i, l)| l.outputs.iter().map(move |(label, _)| (label.as_str(), i))).collect();
    for (name, kind, shape) in &model.outputs {
        if let Some(&from) = by_layer.get(name.as_str()) {
            nodes.push(Node { title: name.clone(), lines: vec![format!("{kind} {}", display(shape))], colours: PLAIN, round: true });
            arrows.push(Arrow { from, to: nodes.len() - 1, label: Vec::new(), dashed: false });
        }
    }
    (nodes, arrows)
}

/// What a value is, beside its arrow.
fn value(edge: &Edge) -> String {
    format!("{} {}", edge.label, display(&edge.shape)).trim().to_owned()
}

/// Values that stand in a box and would crowd the arrows: an input, an output of the graph, the one value of a layer that
/// several others read.
fn said_in_boxes(model: &Model) -> BTreeSet<(usize, String)> {
    let mut said = BTreeSet::new();
    for (from, layer) in model.layers.iter().enumerate() {
        let read: Vec<String> =
            model.layers.iter().flat_map(|l| &l.inputs).filter(|e| e.from == from && e.label != "mask").map(value).collect();
        let is_one = read.iter().all(|line| *line == read[0]);
        let is_output = |line: &String| model.outputs.iter().any(|(name, _, shape)| *line == format!("{name} {}", display(shape)));
        said.extend(
            read.iter().filter(|&l| layer.kind == "Input" || is_output(l) || (is_one && read.len() > 1)).map(|l| (from, l.clone())),
        );
    }
    said
}

/// The box of a layer.
pub fn node(model: &Model, layer: &Layer) -> Node {
    let parameters = model.parameters(layer);
    let mut lines = Vec::new();
    let input = layer.kind == "Input";
    if input {
        let kind = model.inputs.iter().find(|i| i.0 == layer.name).map_or("", |i| i.1.as_str());
        let kind = kind.trim_end_matches('?');
        lines.push(format!("{kind} {}", display(&layer.output)).trim().to_owned());
    } else {
        let title = layer.name.rsplit('.').next().unwrap_or(&layer.name);
        if !title.eq_ignore_ascii_case(&layer.kind) && !layer.name.ends_with(&layer.kind) {
            lines.push(layer.kind.clone());
        }
        if parameters > 0 {
            lines.push(format!("{} parameters", thousands(parameters)));
        }
    }
    // A node of a layer, `encoder.lstm_0.MatMul`, has its layer's colour; one that looks an embedding up has that one's.
    let scope = layer.name.rsplit_once('.').map_or("", |(scope, _)| scope);
    let embedding = layer.tensors.iter().map(|&t| model.tensors[t].name.as_str()).find(|name| name.ends_with(".embedding"));
    let named = embedding.into_iter().chain([layer.name.as_str(), scope]).map(colours).find(|&c| c != PLAIN);
    let colours = if input { PLAIN } else { named.unwrap_or(PLAIN) };
    Node { title: layer.name.clone(), lines, colours, round: input }
}

/// `1,234,567`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Graphviz.
pub fn dot(title: &str, nodes: &[Node], arrows: &[Arrow]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!("digraph \"{}\" {{\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n", quoted(title));
    for (i, node) in nodes.iter().enumerate() {
        let text = std::iter::once(&node.title).chain(&node.lines).map(|l| quoted(l)).collect::<Vec<_>>().join("\\n");
        let style = if node.round { ", style=\"filled,rounded\"" } else { "" };
        let _ = writeln!(out, "  n{i} [label=\"{text}\", fillcolor=\"{}\", color=\"{}\"{style}];", node.colours.0, node.colours.1);
    }
    for arrow in arrows {
        let text = arrow.label.iter().map(|l| quoted(l)).collect::<Vec<_>>().join("\\n");
        let style = if arrow.dashed { ", style=dashed" } else { "" };
        let _ = writeln!(out, "  n{} -> n{} [label=\"{text}\"{style}];", arrow.from, arrow.to);
    }
    out + "}\n"
}

/// Mermaid, which Markdown viewers draw.
pub fn mermaid(nodes: &[Node], arrows: &[Arrow]) -> String {
    let quoted = |text: &str| text.replace('"', "&quot;");
    let mut out = "flowchart TD\n".to_owned();
    for (i, node) in nodes.iter().enumerate() {
        let text = std::iter::once(&node.title).chain(&node.lines).map(|l| quoted(l)).collect::<Vec<_>>().join("<br/>");
        let (open, close) = if node.round { ("([", "])") } else { ("[", "]") };
        let _ = writeln!(out, "  n{i}{open}\"{text}\"{close}");
        let _ = writeln!(out, "  style n{i} fill:{},stroke:{},color:#222", node.colours.0, node.colours.1);
    }
    for arrow in arrows {
        let line = if arrow.dashed { "-.->" } else { "-->" };
        let text = arrow.label.iter().map(|l| quoted(l)).collect::<Vec<_>>().join("<br/>");
        let text = if text.is_empty() { text } else { format!("|\"{text}\"|") };
        let _ = writeln!(out, "  n{} {line}{text} n{}", arrow.from, arrow.to);
    }
    out
}
