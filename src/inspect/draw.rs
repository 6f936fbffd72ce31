//! Pictures of graphs: SVG, DOT and Mermaid from the same boxes and arrows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;

use s2s_runtime::printable;

use super::language::Language;
use super::model::{Edge, Layer, Model, one_direction};
use super::shapes::display;
use super::svg::{Arrow, Node};
use crate::error::{Error, ErrorKind, Result};

/// Boxes of a picture; more are a wall, and megabytes of SVG.
pub const MOST_BOXES: usize = 20_000;
/// Arrows of a picture.
pub const MOST_ARROWS: usize = 60_000;
/// Characters of a name that are drawn.
const LONGEST_NAME: usize = 120;

/// Fill and border of inputs and outputs.
pub const PLAIN: (&str, &str) = ("#f4f4f4", "#888888");

/// Fill and border of a layer: the same for the same weights in every picture.
pub fn colours(layer: &str) -> (&'static str, &'static str) {
    const RECURRENT: [[(&str, &str); 3]; 2] = [
        [("#9ec9f0", "#2368a8"), ("#b9cdf7", "#3b5fc0"), ("#c3d9e8", "#44758f")],
        [("#ffc48a", "#b8651b"), ("#ffb3a1", "#b5482f"), ("#f3c9a5", "#96643a")],
    ];
    const OTHERS: [(&str, &str); 4] =
        [("#e3c9ee", "#84509b"), ("#cfe8c6", "#4f8a3d"), ("#f6d0dd", "#a84a6c"), ("#d8d8c0", "#77774a")];
    let layer = one_direction(layer);
    let decoder = usize::from(layer.starts_with("decoder"));
    let last = layer.rsplit('.').next().unwrap_or(layer);
    let number = last
        .chars()
        .filter(char::is_ascii_digit)
        .fold(0usize, |n, c| n.wrapping_mul(10).wrapping_add(c as usize - '0' as usize));
    match last {
        "embedding" => [("#c9efe9", "#2b8a7c"), ("#fff0b0", "#a58a16")][decoder],
        "dense" => ("#c5e8b7", "#4f8a3d"),
        "attention" => ("#e3c9ee", "#84509b"),
        _ if last.starts_with("lstm") || last.starts_with("gru") => RECURRENT[decoder][number % 3],
        _ if last.starts_with("dense") => OTHERS[number % 4],
        _ => PLAIN,
    }
}

/// Whether a picture of so many boxes and arrows is drawn.
///
/// # Errors
/// [`ErrorKind::Usage`] with what can be done instead.
pub fn check_size(name: &str, boxes: usize, arrows: usize) -> Result<()> {
    if boxes <= MOST_BOXES && arrows <= MOST_ARROWS {
        return Ok(());
    }
    let message =
        format!("{boxes} boxes and {arrows} arrows; at most {MOST_BOXES} and {MOST_ARROWS} are drawn");
    Err(Error::new(ErrorKind::Usage, message)
        .in_graph(name, None)
        .help("`s2s inspect` without --graph lists them as a table"))
}

/// Boxes and arrows of a model; outputs get a box of their own.
///
/// # Errors
/// As [`check_size`].
pub fn picture(model: &Model, language: Language) -> Result<(Vec<Node>, Vec<Arrow>)> {
    let edges = model.layers.iter().map(|layer| layer.inputs.len()).sum::<usize>();
    check_size(&model.name, model.layers.len() + model.outputs.len(), edges + model.outputs.len())?;
    let kinds: HashMap<&str, &str> =
        model.inputs.iter().map(|(name, kind, _)| (name.as_str(), kind.as_str())).collect();
    let mut nodes: Vec<Node> =
        model.layers.iter().map(|layer| node_of(model, layer, &kinds, language)).collect();
    let mut arrows: Vec<Arrow> = Vec::new();
    let said = said_in_boxes(model);
    for (to, layer) in model.layers.iter().enumerate() {
        let mut merged: Vec<Arrow> = Vec::new();
        let mut at: HashMap<(usize, bool), usize> = HashMap::new();
        for edge in &layer.inputs {
            let dashed = edge.label == "mask";
            let line = match dashed {
                true => Some("mask".to_owned()),
                false if said.contains(&(edge.from, value(edge))) => None,
                false => Some(value(edge)),
            };
            match at.get(&(edge.from, dashed)) {
                Some(&at) => merged[at].label.extend(line),
                None => {
                    at.insert((edge.from, dashed), merged.len());
                    merged.push(Arrow { from: edge.from, to, label: line.into_iter().collect(), dashed });
                }
            }
        }
        // A mask that comes along with the value itself is drawn as part of it.
        let plain: HashSet<usize> = merged.iter().filter(|a| !a.dashed).map(|a| a.from).collect();
        merged.retain(|a| !a.dashed || !plain.contains(&a.from));
        arrows.extend(merged);
    }
    let outputs = output_lines(model);
    for (from, line) in &said {
        if model.layers[*from].kind != "Input" && !outputs.contains(line) {
            nodes[*from].lines.push(line.clone());
        }
    }
    let by_layer: HashMap<&str, usize> = model
        .layers
        .iter()
        .enumerate()
        .flat_map(|(i, l)| l.outputs.iter().map(move |(label, _)| (label.as_str(), i)))
        .collect();
    for (name, kind, shape) in &model.outputs {
        if let Some(&from) = by_layer.get(name.as_str()) {
            nodes.push(Node {
                title: shortened(name),
                lines: vec![format!("{kind} {}", display(shape))],
                colours: PLAIN,
                round: true,
            });
            arrows.push(Arrow { from, to: nodes.len() - 1, label: Vec::new(), dashed: false });
        }
    }
    Ok((nodes, arrows))
}

/// A name as it is drawn.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// What a value is, beside its arrow.
fn value(edge: &Edge) -> String {
    format!("{} {}", shortened(&edge.label), display(&edge.shape)).trim().to_owned()
}

/// The outputs of a graph, as [`value`] has them.
fn output_lines(model: &Model) -> HashSet<String> {
    model.outputs.iter().map(|(name, _, shape)| format!("{} {}", shortened(name), display(shape))).collect()
}

/// Values that stand in a box and would crowd the arrows: an input, an output of the graph, the one value of
/// a layer that several others read.
fn said_in_boxes(model: &Model) -> BTreeSet<(usize, String)> {
    let mut read: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for edge in model.layers.iter().flat_map(|layer| &layer.inputs).filter(|edge| edge.label != "mask") {
        read.entry(edge.from).or_default().push(value(edge));
    }
    let outputs = output_lines(model);
    let mut said = BTreeSet::new();
    for (from, lines) in read {
        let is_input = model.layers[from].kind == "Input";
        let is_one = lines.len() > 1 && lines.iter().all(|line| *line == lines[0]);
        said.extend(
            lines
                .into_iter()
                .filter(|line| is_input || is_one || outputs.contains(line))
                .map(|line| (from, line)),
        );
    }
    said
}

/// The box of a layer; `kinds` has the element types of the graph's inputs.
pub fn node_of(model: &Model, layer: &Layer, kinds: &HashMap<&str, &str>, language: Language) -> Node {
    let parameters = model.parameters(layer);
    let mut lines = Vec::new();
    let input = layer.kind == "Input";
    if input {
        let kind = kinds.get(layer.name.as_str()).map_or("", |kind| kind.trim_end_matches('?'));
        lines.push(format!("{kind} {}", display(&layer.output)).trim().to_owned());
    } else {
        let title = layer.name.rsplit('.').next().unwrap_or(&layer.name);
        if !title.eq_ignore_ascii_case(&layer.kind) && !layer.name.ends_with(&layer.kind) {
            lines.push(shortened(&layer.kind));
        }
        if parameters > 0 {
            lines.push(language.parameters(&thousands(parameters)));
        }
    }
    // A node of a layer, `encoder.lstm_0.MatMul`, has its layer's colour; one that looks an embedding up has
    // that one's.
    let scope = layer.name.rsplit_once('.').map_or("", |(scope, _)| scope);
    let embedding = layer
        .tensors
        .iter()
        .map(|&t| model.tensors[t].name.as_str())
        .find(|name| name.ends_with(".embedding"));
    let named = embedding.into_iter().chain([layer.name.as_str(), scope]).map(colours).find(|&c| c != PLAIN);
    let colours = if input { PLAIN } else { named.unwrap_or(PLAIN) };
    Node { title: shortened(&layer.name), lines, colours, round: input }
}

/// Writes a number with a comma between thousands: `1,234,567`.
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

/// Writes a picture in the language of Graphviz.
pub fn dot(title: &str, nodes: &[Node], arrows: &[Arrow]) -> String {
    let quoted = |text: &str| printable::line(text).replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!(
        "digraph \"{}\" {{\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n",
        quoted(title)
    );
    for (i, node) in nodes.iter().enumerate() {
        let text = std::iter::once(&node.title)
            .chain(&node.lines)
            .map(|l| quoted(l))
            .collect::<Vec<_>>()
            .join("\\n");
        let style = if node.round { ", style=\"filled,rounded\"" } else { "" };
        let _ = writeln!(
            out,
            "  n{i} [label=\"{text}\", fillcolor=\"{}\", color=\"{}\"{style}];",
            node.colours.0, node.colours.1
        );
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
    // Mermaid takes a label for HTML, a number sign for the beginning of an entity, and a backtick for
    // Markdown.
    let quoted = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for c in printable::line(text).chars() {
            match c {
                '"' => out.push_str("&quot;"),
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '#' | '`' => out.push_str(&format!("#{};", u32::from(c))),
                c => out.push(c),
            }
        }
        out
    };
    let mut out = "flowchart TD\n".to_owned();
    for (i, node) in nodes.iter().enumerate() {
        let text = std::iter::once(&node.title)
            .chain(&node.lines)
            .map(|l| quoted(l))
            .collect::<Vec<_>>()
            .join("<br/>");
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
