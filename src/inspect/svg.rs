//! SVG: a graph of boxes with shapes on its edges.

use std::fmt::Write;

use super::layout::{Size, place};

/// Family of every text; metrics below are those of DejaVu Sans, the widest of them.
pub const FONT: &str = "'DejaVu Sans', Verdana, 'Segoe UI', sans-serif";
const TITLE: f64 = 13.0;
const TEXT: f64 = 11.0;
const LINE: f64 = 15.0;

/// A box of a drawing.
#[derive(Clone, Debug)]
pub struct Node {
    /// First line, bold.
    pub title: String,
    /// Further lines.
    pub lines: Vec<String>,
    /// Fill and border.
    pub colours: (&'static str, &'static str),
    /// Round ends, for inputs and outputs.
    pub round: bool,
}

/// An edge of a drawing.
#[derive(Clone, Debug)]
pub struct Arrow {
    /// Position of the box that it leaves.
    pub from: usize,
    /// Position of the box that it enters; later than `from`.
    pub to: usize,
    /// Lines beside it.
    pub label: Vec<String>,
    /// Dashed, for masks.
    pub dashed: bool,
}

/// A drawing under way.
#[derive(Clone, Debug, Default)]
pub struct Canvas {
    body: String,
}

/// Width of a text.
pub fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    text.chars().map(|c| if c.is_ascii() { 0.56 } else { 1.0 }).sum::<f64>() * size * if bold { 1.1 } else { 1.0 }
}

/// Text as it may stand in XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Canvas {
    /// A rectangle; `dash` is empty or a dash pattern.
    #[allow(clippy::too_many_arguments)]
    pub fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, radius: f64, fill: &str, stroke: &str, dash: &str) {
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.4\"{dash}/>"
        );
    }

    /// A line of text; `anchor` is `start`, `middle` or `end`; `y` is its middle.
    #[allow(clippy::too_many_arguments)]
    pub fn text(&mut self, x: f64, y: f64, size: f64, anchor: &str, bold: bool, colour: &str, text: &str) {
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\"{weight} fill=\"{colour}\">{}</text>",
            y + size * 0.36,
            escape(text)
        );
    }

    /// A box with its lines, around a centre.
    pub fn node(&mut self, node: &Node, (x, y): (f64, f64)) {
        let (width, height) = size(node);
        let radius = if node.round { height / 2.0 } else { 5.0 };
        self.rectangle(x - width / 2.0, y - height / 2.0, width, height, radius, node.colours.0, node.colours.1, "");
        let lines = node.lines.len() as f64;
        let mut at = y - lines * LINE / 2.0;
        self.text(x, at, TITLE, "middle", true, "#222", &node.title);
        for line in &node.lines {
            at += LINE;
            self.text(x, at, TEXT, "middle", false, "#333", line);
        }
    }

    /// A smooth line through points, with a head.
    pub fn path(&mut self, points: &[(f64, f64)], dashed: bool, colour: &str) {
        let Some(&(x, y)) = points.first() else { return };
        let mut d = format!("M{x:.1},{y:.1}");
        for pair in points.windows(2) {
            let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
            let middle = (ay + by) / 2.0;
            if (ax - bx).abs() < 0.5 {
                let _ = write!(d, " L{bx:.1},{by:.1}");
            } else {
                let _ = write!(d, " C{ax:.1},{middle:.1} {bx:.1},{middle:.1} {bx:.1},{by:.1}");
            }
        }
        self.line(&d, dashed, colour);
    }

    /// A path in SVG's own words, with a head.
    pub fn line(&mut self, d: &str, dashed: bool, colour: &str) {
        let dash = if dashed { " stroke-dasharray=\"3 3\"" } else { "" };
        let _ =
            writeln!(self.body, "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"{dash} marker-end=\"url(#head)\"/>");
    }

    /// Lines of text on white, their middle at a point.
    pub fn label(&mut self, (x, y): (f64, f64), lines: &[String]) {
        let width = lines.iter().map(|l| text_width(l, 10.0, false)).fold(0.0, f64::max) + 6.0;
        let height = 12.5 * lines.len() as f64;
        let _ = writeln!(
            self.body,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#fff\" fill-opacity=\"0.9\"/>",
            x - width / 2.0,
            y - height / 2.0
        );
        for (i, line) in lines.iter().enumerate() {
            self.text(x, y - height / 2.0 + 12.5 * (i as f64 + 0.5), 10.0, "middle", false, "#555", line);
        }
    }

    /// Lines of text to the right of a point.
    pub fn aside(&mut self, (x, y): (f64, f64), lines: &[String]) {
        for (i, line) in lines.iter().enumerate() {
            self.text(x, y + 12.5 * (i as f64 + 0.5 - lines.len() as f64 / 2.0), 10.0, "start", false, "#555", line);
        }
    }

    /// The finished file.
    pub fn finish(self, width: f64, height: f64, title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}\">\n\
             <title>{}</title>\n<defs><marker id=\"head\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path d=\"M0,1 L10,5 L0,9 z\" fill=\"#555\"/></marker></defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            escape(title),
            self.body
        )
    }
}

/// Width and height of a box.
pub fn size(node: &Node) -> Size {
    let width = node.lines.iter().map(|l| text_width(l, TEXT, false)).fold(text_width(&node.title, TITLE, true), f64::max);
    (width + 24.0, LINE * (node.lines.len() as f64 + 1.0) + 14.0)
}

/// The point of the curve between two points that [`Canvas::path`] draws, at `t` of its way.
fn along((ax, ay): (f64, f64), (bx, by): (f64, f64), t: f64) -> (f64, f64) {
    let (middle, u) = (f64::midpoint(ay, by), 1.0 - t);
    let y = ay * u.powi(3) + 3.0 * middle * u * t * (u + t) + by * t.powi(3);
    (ax + (bx - ax) * t * t * (3.0 - 2.0 * t), y)
}

/// A whole graph, laid out from top to bottom.
pub fn graph(title: &str, nodes: &[Node], arrows: &[Arrow]) -> String {
    let sizes: Vec<Size> = nodes.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = arrows.iter().map(|a| (a.from, a.to)).collect();
    let most = arrows.iter().map(|a| a.label.len()).max().unwrap_or(0) as f64;
    let layout = place(&sizes, &edges, 36.0 + 12.5 * most);
    let (margin, top) = (24.0, 54.0);
    let moved = |(x, y): (f64, f64)| (x + margin, y + top);
    let width = layout.width.max(text_width(title, 16.0, true)) + 2.0 * margin;
    let shift = (width - 2.0 * margin - layout.width) / 2.0;
    let mut canvas = Canvas::default();
    canvas.text(width / 2.0, 26.0, 16.0, "middle", true, "#222", title);
    for (arrow, path) in arrows.iter().zip(&layout.paths) {
        let points: Vec<(f64, f64)> = path.iter().map(|&p| moved(p)).map(|(x, y)| (x + shift, y)).collect();
        canvas.path(&points, arrow.dashed, if arrow.dashed { "#999" } else { "#555" });
    }
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for (arrow, path) in arrows.iter().zip(&layout.paths).filter(|(a, _)| !a.label.is_empty()) {
        let width = arrow.label.iter().map(|l| text_width(l, 10.0, false)).fold(0.0, f64::max) + 6.0;
        let height = 12.5 * arrow.label.len() as f64;
        // Beside the head, where edges into one box are told apart; then wherever there is room.
        let candidates = path.windows(2).rev().flat_map(|pair| {
            let (a, b) = (moved(pair[0]), moved(pair[1]));
            [0.5, 0.36, 0.64, 0.24, 0.76].map(|t| along(a, b, t))
        });
        let overlap = |&(x, y): &(f64, f64)| -> f64 {
            let side = |a0: f64, a1: f64, b0: f64, b1: f64| (a1.min(b1) - a0.max(b0)).max(0.0);
            let one =
                |r: &[f64; 4]| side(x - width / 2.0, x + width / 2.0, r[0], r[2]) * side(y - height / 2.0, y + height / 2.0, r[1], r[3]);
            taken.iter().map(one).sum()
        };
        let least = candidates.map(|at| (overlap(&at), at)).min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, (x, y))) = least {
            taken.push([x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]);
            canvas.label((x + shift, y), &arrow.label);
        }
    }
    for (node, &centre) in nodes.iter().zip(&layout.centres) {
        let (x, y) = moved(centre);
        canvas.node(node, (x + shift, y));
    }
    canvas.finish(width, layout.height + top + 24.0, title)
}
