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
        [] | [_] => vec![display(&layer.outputs.first().map_or_else(|| layer.output.clone(), |o| o.1.clone()))],
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

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(Cell::new));
    table
}

fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Layers of one graph, with the totals.
pub fn layers(model: &Model) -> String {
    let mut table = new_table(&["Layer (type)", "Output shape", "Parameters", "Connected to"]);
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
pub fn tensors(model: &Model) -> String {
    let mut table = new_table(&["Tensor", "Type", "Shape", "Values", "Bytes", "Least", "Largest", "Mean", "Deviation"]);
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

/// The whole answer of `s2s inspect`.
pub fn summary(subject: &Subject, with_tensors: bool) -> String {
    let mut out = format!("{}\n\n", subject.title());
    let main = subject.main();
    out += &layers(&main.model);
    let (count, bytes) = main.model.totals();
    out += &format!("\nTotal parameters: {} ({})\n", thousands(count), megabytes(bytes));
    if let Some(s) = subject.special() {
        out += &special_note(count, &s);
    }
    if subject.graphs.len() > 1 {
        let mut table = new_table(&["Graph", "Inputs", "Outputs", "Nodes", "Weights", "Size"]);
        for graph in &subject.graphs {
            let list = |values: &[(String, String, super::shapes::Shape)]| {
                in_lines(&values.iter().map(|(name, kind, shape)| format!("{name} {kind} {}", display(shape))).collect::<Vec<_>>())
            };
            let (count, bytes) = graph.model.totals();
            table.add_row([
                Cell::new(&graph.file),
                Cell::new(list(&graph.model.inputs)),
                Cell::new(list(&graph.model.outputs)),
                Cell::new(graph.model.nodes).set_alignment(CellAlignment::Right),
                Cell::new(thousands(count)).set_alignment(CellAlignment::Right),
                Cell::new(megabytes(bytes)).set_alignment(CellAlignment::Right),
            ]);
        }
        out += &format!("\n{}", trimmed(&table));
    } else {
        out += &format!("{} nodes; {}\n", main.model.nodes, main.model.about);
    }
    if with_tensors {
        for graph in &subject.graphs {
            out += &format!("\n{}\n{}", graph.file, tensors(&graph.model));
        }
    }
    out
}

fn special_note(total: usize, s: &Special) -> String {
    let mut parts = vec![format!("PAD, START, END, UNK of the source: {}", thousands(s.source))];
    parts.push(format!("PAD, UNK of the target: {}", thousands(s.target)));
    let counted = if s.is_keras { "what Keras counts for" } else { "for" };
    format!(
        "  of special symbols: {} ({})\n  without them: {} ({counted} {} source and {} target tokens, START and END among the latter)\n",
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
            values.iter().map(|(name, kind, shape)| json!({ "name": name, "type": kind, "shape": display(shape) })).collect()
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
