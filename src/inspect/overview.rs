//! The one network with the three graphs as cuts of it: the same weights in the same colour.

use std::collections::{BTreeMap, HashMap, HashSet};

use s2s_runtime::contract::{DECODER_INPUT, DECODER_TARGET, ENCODER_INPUT};
use s2s_runtime::manifest::Role;

use super::draw::{PLAIN, check_size, colours, node_of, thousands};
use super::language::Language;
use super::model::{Edge, Model};
use super::shapes::display;
use super::svg::{Canvas, Node, size, text_width};
use crate::error::Result;

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Encoder,
    Decoder,
    Outside,
}

struct Placed {
    layer: usize,
    column: Column,
    node: Node,
    centre: (f64, f64),
    size: (f64, f64),
}

const GAP: f64 = 34.0;
const TOP: f64 = 118.0;

fn column(name: &str) -> Column {
    match name {
        DECODER_TARGET => Column::Outside,
        name if name == ENCODER_INPUT || name.starts_with("encoder.") || name == "encoder" => Column::Encoder,
        name if name == DECODER_INPUT || name.starts_with("decoder.") => Column::Decoder,
        _ => Column::Outside,
    }
}

fn lines_of(edges: &[&Edge]) -> Vec<String> {
    edges.iter().map(|e| format!("{} {}", e.label, display(&e.shape)).trim().to_owned()).collect()
}

/// The picture, as SVG; `training` is in layers, `files` are all graphs with the names of their files.
///
/// # Errors
/// As [`check_size`].
pub fn overview(
    name: &str,
    training: &Model,
    files: &[(Role, String, Model)],
    language: Language,
) -> Result<String> {
    let tensors = files.iter().map(|(_, _, model)| model.tensors.len()).sum::<usize>();
    let edges = training.layers.iter().map(|layer| layer.inputs.len()).sum();
    check_size(name, training.layers.len() + tensors, edges)?;
    let kinds: HashMap<&str, &str> =
        training.inputs.iter().map(|(name, kind, _)| (name.as_str(), kind.as_str())).collect();
    let trained: HashSet<&str> = training.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let embedded = trained.contains("decoder.embedding");
    let mut placed: Vec<Placed> = training
        .layers
        .iter()
        .enumerate()
        .map(|(layer, l)| {
            let node = node_of(training, l, &kinds, language);
            let size = size(&node);
            Placed { layer, column: column(&l.name), node, centre: (0.0, 0.0), size }
        })
        .collect();
    let widest = |c: Column, placed: &[Placed]| {
        placed.iter().filter(|p| p.column == c).map(|p| p.size.0).fold(150.0, f64::max)
    };
    let (wide_encoder, wide_decoder, wide_outside) = (
        widest(Column::Encoder, &placed),
        widest(Column::Decoder, &placed),
        widest(Column::Outside, &placed),
    );
    // The words beside an arrow: within a column to its right, between columns in between.
    let words = |same: bool, from: Column| -> f64 {
        let edges = training.layers.iter().flat_map(|to| to.inputs.iter().map(move |e| (e, to)));
        let wanted = edges.filter(|(e, to)| {
            let (a, b) = (column(&training.layers[e.from].name), column(&to.name));
            a == from && (a == b) == same && e.label != "mask"
        });
        wanted
            .map(|(e, _)| lines_of(&[e]).iter().map(|l| text_width(l, 10.0, false)).fold(0.0, f64::max))
            .fold(0.0, f64::max)
    };
    let [half_encoder, half_decoder, half_outside] =
        [(Column::Encoder, wide_encoder), (Column::Decoder, wide_decoder), (Column::Outside, wide_outside)]
            .map(|(c, wide)| (wide / 2.0).max(words(true, c) + 2.0));
    // From left to right: encoder, the arrows of the states, decoder, what is only there in training.
    let x_encoder = 70.0 + half_encoder;
    let x_decoder = x_encoder + half_encoder + words(false, Column::Encoder) + 64.0 + half_decoder;
    let x_outside = x_decoder + half_decoder + words(false, Column::Decoder).max(110.0) + 76.0 + half_outside;
    let mut bottoms = [TOP; 3];
    for p in &mut placed {
        let (index, x) = match p.column {
            Column::Encoder => (0, x_encoder),
            Column::Decoder => (1, x_decoder),
            Column::Outside => (2, x_outside),
        };
        p.centre = (x, bottoms[index] + p.size.1 / 2.0);
        bottoms[index] += p.size.1 + GAP;
    }
    // The encoder's last layer stands beside the first layer of the decoder that reads it, the loss beside
    // the logits.
    let reader = training.layers.iter().enumerate().find_map(|(to, l)| {
        let from = l
            .inputs
            .iter()
            .find(|e| {
                column(&training.layers[e.from].name) == Column::Encoder && column(&l.name) == Column::Decoder
            })?
            .from;
        Some((from, to))
    });
    if let Some((from, to)) = reader {
        let difference = placed[to].centre.1 - placed[from].centre.1;
        let moved = if difference > 0.0 { Column::Encoder } else { Column::Decoder };
        placed.iter_mut().filter(|p| p.column == moved).for_each(|p| p.centre.1 += difference.abs());
        bottoms[usize::from(moved == Column::Decoder)] += difference.abs();
    }
    let lowest = bottoms[0].max(bottoms[1]);
    let outside: Vec<usize> = (0..placed.len()).filter(|&i| placed[i].column == Column::Outside).collect();
    let height: f64 = outside.iter().map(|&i| placed[i].size.1 + GAP).sum();
    let mut y = lowest - height;
    for i in outside {
        placed[i].centre.1 = y + placed[i].size.1 / 2.0;
        y += placed[i].size.1 + GAP;
    }
    let has_loss = placed.iter().any(|p| p.column == Column::Outside);
    let right = if has_loss { x_outside + half_outside + 30.0 } else { x_decoder + half_decoder + 150.0 };

    let mut canvas = Canvas::new(language);
    let file = |role: Role| files.iter().find(|f| f.0 == role).map_or("", |f| f.1.as_str());
    canvas.text(32.0, 26.0, 17.0, "start", true, "#222", &language.one_network(name));
    let frame_bottom = lowest + 6.0;
    canvas.rectangle(28.0, 48.0, right - 28.0, frame_bottom - 48.0 + 18.0, 10.0, "#fbfbfb", "#777", "");
    canvas.text(44.0, 66.0, 13.0, "start", true, "#444", &language.whole_texts(file(Role::Training)));
    for (x, half, role, words, bottom) in [
        (x_encoder, half_encoder, Role::Encoder, language.once_a_text(file(Role::Encoder)), bottoms[0]),
        (x_decoder, half_decoder, Role::Decoder, language.once_a_token(file(Role::Decoder)), bottoms[1]),
    ] {
        let left = x - half - 24.0;
        canvas.rectangle(
            left,
            80.0,
            2.0 * half + 48.0,
            bottom - GAP + 16.0 - 80.0,
            10.0,
            "none",
            colours(&format!("{role}.lstm_0")).1,
            "7 4",
        );
        canvas.text(left + 12.0, 97.0, 12.0, "start", true, colours(&format!("{role}.lstm_0")).1, &words);
    }
    let edges_of = |c: Column| match c {
        Column::Encoder => (x_encoder - half_encoder - 24.0, x_encoder + half_encoder + 24.0),
        Column::Decoder => (x_decoder - half_decoder - 24.0, x_decoder + half_decoder + 24.0),
        Column::Outside => (x_outside - half_outside, x_outside + half_outside),
    };
    arrows(&mut canvas, training, &placed, edges_of);
    placed.iter().for_each(|p| canvas.node(&p.node, p.centre));
    feedback(&mut canvas, training, &placed, x_decoder + half_decoder + 24.0, language);

    let mut y = frame_bottom + 18.0 + 36.0;
    canvas.text(32.0, y, 14.0, "start", true, "#222", language.weights_in_files());
    y += 24.0;
    let mut widest = right;
    for (_, file, model) in files {
        let (parameters, bytes) = model.totals();
        let about = language.file_totals(file, &thousands(parameters), bytes as f64 / 1048576.0, model.nodes);
        canvas.text(32.0, y, 12.0, "start", true, "#333", &about);
        y += 20.0;
        let mut x = 32.0;
        for tensor in model.tensors.iter().filter(|t| t.is_weight()) {
            let axes = tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let layer = if tensor.name.ends_with(".embedding") {
                &tensor.name
            } else {
                tensor.name.rsplit_once('.').map_or("", |n| n.0)
            };
            let folded =
                match (trained.contains(tensor.name.as_str()), tensor.name.ends_with(".table"), embedded) {
                    (true, ..) => "",
                    (_, true, true) => " = embedding x W + bias",
                    (_, true, false) => " = W + bias",
                    _ => language.of_w(),
                };
            let text = format!("{} ({axes}){folded}", tensor.name);
            let width = text_width(&text, 11.0, false) + 18.0;
            if x + width > right.max(760.0) {
                x = 32.0;
                y += 28.0;
            }
            let (fill, stroke) = colours(layer);
            let dash = if folded.is_empty() { "" } else { "5 3" };
            canvas.rectangle(x, y - 11.0, width, 22.0, 11.0, fill, stroke, dash);
            canvas.text(x + width / 2.0, y, 11.0, "middle", false, "#222", &text);
            x += width + 8.0;
            widest = widest.max(x);
        }
        y += 36.0;
    }
    Ok(canvas.finish(widest.max(right) + 28.0, y, &language.one_network(name)))
}

/// Downwards within a column, across between columns; what skips a box goes round on the left.
fn arrows(canvas: &mut Canvas, training: &Model, placed: &[Placed], x_of: impl Fn(Column) -> (f64, f64)) {
    for to in placed {
        let mut givers: BTreeMap<usize, Vec<&Edge>> = BTreeMap::new();
        // The padding mask goes everywhere and says nothing about the network.
        for edge in training.layers[to.layer].inputs.iter().filter(|edge| edge.label != "mask") {
            givers.entry(edge.from).or_default().push(edge);
        }
        for (from, edges) in givers {
            // Layers were placed in their order.
            let from = &placed[from];
            let (a, b) = (from.centre, to.centre);
            let lines = lines_of(&edges);
            if from.column == to.column {
                let (start, end) = (a.1 + from.size.1 / 2.0, b.1 - to.size.1 / 2.0);
                if end - start < GAP + 1.0 {
                    canvas.path(&[(a.0, start), (b.0, end)], false, "#555");
                    canvas.aside((a.0 + 9.0, f64::midpoint(start, end) - 2.0), &lines);
                } else {
                    let side = a.0 + from.size.0.max(to.size.0) / 2.0 + 14.0;
                    let d = format!(
                        "M{:.1},{:.1} C{side:.1},{:.1} {side:.1},{:.1} {:.1},{:.1}",
                        a.0 + from.size.0 / 2.0,
                        a.1,
                        a.1,
                        b.1,
                        b.0 + to.size.0 / 2.0,
                        b.1
                    );
                    canvas.line(&d, false, "#555");
                }
            } else {
                let (x0, x1) = (a.0 + from.size.0 / 2.0, b.0 - to.size.0 / 2.0);
                let middle = f64::midpoint(x0, x1);
                // Between the two cuts, where nothing else stands.
                let gap = if from.column == Column::Encoder {
                    f64::midpoint(x_of(Column::Encoder).1, x_of(Column::Decoder).0)
                } else {
                    (x_of(from.column).1 + x1) / 2.0
                };
                canvas.line(
                    &format!(
                        "M{x0:.1},{:.1} C{middle:.1},{:.1} {middle:.1},{:.1} {x1:.1},{:.1}",
                        a.1, a.1, b.1, b.1
                    ),
                    false,
                    "#555",
                );
                let lift = 10.0 + 6.5 * lines.len() as f64;
                let crowded = if (a.1 - b.1).abs() < 1.0 { lift } else { 0.0 };
                canvas.label((gap, f64::midpoint(a.1, b.1) - crowded), &lines);
            }
        }
    }
}

/// The loop that the runtime closes: the best token and the states go back in.
fn feedback(canvas: &mut Canvas, training: &Model, placed: &[Placed], edge: f64, language: Language) {
    let of = |name: &str| placed.iter().find(|p| training.layers[p.layer].name == name);
    let last = placed.iter().rfind(|p| p.column == Column::Decoder);
    let (Some(input), Some(last)) = (of(DECODER_INPUT), last) else { return };
    let (x0, y0) = (last.centre.0 + last.size.0 / 2.0, last.centre.1 + 8.0);
    let (x1, y1) = (input.centre.0 + input.size.0 / 2.0, input.centre.1);
    let side = edge + 16.0;
    let d = format!(
        "M{x0:.1},{y0:.1} L{:.1},{y0:.1} Q{side:.1},{y0:.1} {side:.1},{:.1} L{side:.1},{:.1} \
         Q{side:.1},{y1:.1} {:.1},{y1:.1} L{x1:.1},{y1:.1}",
        side - 12.0,
        y0 - 12.0,
        y1 + 12.0,
        side - 12.0
    );
    canvas.line(&d, true, PLAIN.1);
    let words = language.feedback().map(str::to_owned);
    canvas.aside((side + 8.0, f64::midpoint(y0, y1) - 20.0), &words);
}
