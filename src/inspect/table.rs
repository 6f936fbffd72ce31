//! The table that Keras users know: layer, output shape, parameters, what it is connected to.

use std::collections::HashMap;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use s2s_runtime::printable;
use serde_json::{Value, json};

use super::draw::thousands;
use super::model::{Layer, Model};
use super::shapes::display;
use super::{Special, Subject};

fn megabytes(bytes: usize) -> String {
    match bytes as f64 / 1_048_576.0 {
        mb if mb >= 0.1 => format!("{mb:.2} MB"),
        mb => format!("{:.2} KB", mb * 1024.0),
    }
}

fn outputs(layer: &Layer) -> Vec<String> {
    match layer.outputs.as_slice() {
        [] | [_] => {
            vec![display(&layer.outputs.first().map_or_else(|| layer.output.clone(), |o| o.1.clone()))]
        }
        several => several.iter().map(|(name, shape)| format!("{name} {}", display(shape))).collect(),
    }
}

/// One line each, whatever the names have in them.
fn in_lines(texts: &[String]) -> String {
    texts.iter().map(|text| printable::line(text)).collect::<Vec<_>>().join("\n")
}

fn connections(model: &Model, layer: &Layer) -> Vec<String> {
    let mut lines: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut known: HashMap<usize, usize> = HashMap::new();
    for edge in &layer.inputs {
        let at = *known.entry(edge.from).or_insert(lines.len());
        if at == lines.len() {
            lines.push((edge.from, Vec::new()));
        }
        lines[at].1.push(&edge.label);
    }
    let text = |(from, labels): (usize, Vec<&str>)| {
        let name = &model.layers[from].name;
        // Where the value itself goes in, its padding mask goes without saying.
        let plain = labels.iter().all(|l| l.is_empty() || *l == "mask") && labels.contains(&"");
        let labels: Vec<&str> = labels.into_iter().filter(|l| !l.is_empty()).collect();
        if plain || labels.is_empty() { name.clone() } else { format!("{name} [{}]", labels.join(", ")) }
    };
    lines.into_iter().map(text).collect()
}

/// - `width`: columns that lines are wrapped at; none where they may be as long as they are.
fn new_table(header: &[&str], width: Option<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    table.set_header(header.iter().map(Cell::new));
    table
}

fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Layers of one graph, with the totals.
pub fn layers(model: &Model, width: Option<usize>) -> String {
    let mut table = new_table(&["Layer (type)", "Output shape", "Parameters", "Connected to"], width);
    for layer in &model.layers {
        table.add_row([
            Cell::new(printable::line(&format!("{} ({})", layer.name, layer.kind))),
            Cell::new(in_lines(&outputs(layer))),
            Cell::new(thousands(model.parameters(layer))).set_alignment(CellAlignment::Right),
            Cell::new(in_lines(&connections(model, layer))),
        ]);
    }
    trimmed(&table)
}

/// Every tensor, constants too.
pub fn tensors(model: &Model, width: Option<usize>) -> String {
    let mut table = new_table(
        &["Tensor", "Type", "Shape", "Values", "Bytes", "Least", "Largest", "Mean", "Deviation"],
        width,
    );
    for t in &model.tensors {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let shape = format!("({})", t.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        let mut row = vec![
            Cell::new(printable::line(&t.name)),
            Cell::new(&t.data_type),
            Cell::new(shape),
            right(thousands(t.len())),
            right(thousands(t.bytes)),
        ];
        row.extend(t.range.iter().flatten().map(|v| right(format!("{v:.4}"))));
        table.add_row(row);
    }
    trimmed(&table)
}

/// The whole answer of `s2s inspect`, no line wider than `width` columns.
pub fn summary(subject: &Subject, with_tensors: bool, width: Option<usize>) -> String {
    let mut out = format!("{}\n\n", subject.title());
    let main = subject.main();
    out += &layers(&main.model, width);
    let (count, bytes) = main.model.totals();
    out += &format!("\nTotal parameters: {} ({})\n", thousands(count), megabytes(bytes));
    if let Some(s) = subject.special() {
        out += &wrapped(&special_note(count, &s), width);
    }
    if subject.graphs.len() > 1 {
        out += &format!("\n{}", graphs(subject, width));
    } else {
        out += &wrapped(&format!("{} nodes; {}\n", main.model.nodes, main.model.about), width);
    }
    if with_tensors {
        for graph in &subject.graphs {
            out += &format!("\n{}\n{}", graph.file, tensors(&graph.model, width));
        }
    }
    out
}

/// The graphs of a bundle: a line for each where they are that wide, else a line for each input and output.
fn graphs(subject: &Subject, width: Option<usize>) -> String {
    let sizes = |graph: &super::Graph| {
        let (count, bytes) = graph.model.totals();
        [graph.model.nodes.to_string(), thousands(count), megabytes(bytes)]
            .map(|size| Cell::new(size).set_alignment(CellAlignment::Right))
    };
    let mut wide = new_table(&["Graph", "Inputs", "Outputs", "Nodes", "Weights", "Size"], None);
    for graph in &subject.graphs {
        let list = |values: &[(String, String, super::shapes::Shape)]| {
            in_lines(
                &values
                    .iter()
                    .map(|(name, kind, shape)| format!("{name} {kind} {}", display(shape)))
                    .collect::<Vec<_>>(),
            )
        };
        let texts = [graph.file.clone(), list(&graph.model.inputs), list(&graph.model.outputs)];
        wide.add_row(texts.map(Cell::new).into_iter().chain(sizes(graph)));
    }
    let wide = trimmed(&wide);
    let Some(width) = width.filter(|&width| wide.lines().any(|line| line.chars().count() > width)) else {
        return wide;
    };
    let mut totals = new_table(&["Graph", "Nodes", "Weights", "Size"], Some(width));
    let mut values = new_table(&["Graph", "", "Name", "Type", "Shape"], Some(width));
    for graph in &subject.graphs {
        totals.add_row([Cell::new(&graph.file)].into_iter().chain(sizes(graph)));
        let inputs = graph.model.inputs.iter().map(|value| ("in", value));
        for (at, (side, (name, kind, shape))) in
            inputs.chain(graph.model.outputs.iter().map(|value| ("out", value))).enumerate()
        {
            let file = if at == 0 { graph.file.as_str() } else { "" };
            values.add_row([file, side, &printable::line(name), kind, &display(shape)]);
        }
    }
    format!("{}\n{}", trimmed(&totals), trimmed(&values))
}

/// Lines broken at spaces, so that none is wider; the rest of a line is indented two columns deeper than it.
fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut column = 0;
        for word in line.split_whitespace() {
            let length = word.chars().count();
            let start = if column == 0 { " ".repeat(indent) } else { " ".to_owned() };
            if column > 0 && column + 1 + length > width {
                out += &format!("\n{}{word}", " ".repeat(indent + 2));
                column = indent + 2 + length;
            } else {
                out += &format!("{start}{word}");
                column += start.len() + length;
            }
        }
        out.push('\n');
    }
    out
}

/// What was read, in one line.
pub fn verdict(subject: &Subject, tried: bool) -> String {
    let (count, _) = subject.main().model.totals();
    let graphs = if subject.graphs.len() == 1 {
        "1 graph".to_owned()
    } else {
        format!("{} graphs", subject.graphs.len())
    };
    let run = if tried { "run on two texts" } else { "nothing was run" };
    format!("OK: {graphs}, {} parameters, read without a fault; {run}", thousands(count))
}

fn special_note(total: usize, s: &Special) -> String {
    let mut parts = vec![format!("PAD, START, END, UNK of the source: {}", thousands(s.source))];
    parts.push(format!("PAD, UNK of the target: {}", thousands(s.target)));
    let counted = if s.is_keras { "what Keras counts for" } else { "for" };
    format!(
        "  of special symbols: {} ({})\n  without them: {} ({counted} {} source and {} target tokens, START \
         and END among the latter)\n",
        thousands(s.source + s.target),
        parts.join("; "),
        thousands(total.saturating_sub(s.source + s.target)),
        s.source_tokens,
        s.target_tokens,
    )
}

/// The same as JSON.
pub fn to_json(subject: &Subject, with_tensors: bool) -> Value {
    let graph = |g: &super::Graph| {
        let list = |values: &[(String, String, super::shapes::Shape)]| -> Vec<Value> {
            values
                .iter()
                .map(|(name, kind, shape)| json!({ "name": name, "type": kind, "shape": display(shape) }))
                .collect()
        };
        let layers: Vec<Value> = g
            .model
            .layers
            .iter()
            .map(|l| {
                json!({
                    "name": l.name, "type": l.kind, "output_shapes": outputs(l), "parameters": g.model.parameters(l),
                    "connected_to": connections(&g.model, l), "nodes": l.nodes,
                })
            })
            .collect();
        let (count, bytes) = g.model.totals();
        let mut value = json!({
            "file": g.file, "role": g.role.map(|r| r.as_str()), "about": g.model.about, "nodes": g.model.nodes,
            "inputs": list(&g.model.inputs), "outputs": list(&g.model.outputs), "layers": layers,
            "parameters": count, "bytes": bytes,
        });
        if with_tensors {
            let tensors = g.model.tensors.iter().map(|t| {
                json!({
                    "name": t.name, "type": t.data_type, "shape": t.shape, "bytes": t.bytes,
                    "minimum": t.range.map(|r| r[0]), "maximum": t.range.map(|r| r[1]), "mean": t.range.map(|r| r[2]), "deviation": t.range.map(|r| r[3]),
                })
            });
            value["tensors"] = tensors.collect();
        }
        value
    };
    let (count, bytes) = subject.main().model.totals();
    let special = subject.special().map(|s| {
        json!({ "source": s.source, "target": s.target, "without": count.saturating_sub(s.source + s.target),
            "source_tokens": s.source_tokens, "target_tokens": s.target_tokens })
    });
    json!({
        "name": subject.name, "parameters": count, "bytes": bytes, "special_symbols": special,
        "graphs": subject.graphs.iter().map(graph).collect::<Vec<_>>(),
    })
}
