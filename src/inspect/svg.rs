//! SVG: a graph of boxes with shapes on its edges.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write;

use s2s_runtime::printable;

use super::language::Language;
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
    /// What stands below the title, in smaller letters.
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

/// A finished drawing.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The whole SVG file.
    pub svg: String,
    /// In its units.
    pub width: f64,
    /// In its units.
    pub height: f64,
}

/// A drawing under way.
#[derive(Clone, Debug, Default)]
pub struct Canvas {
    body: String,
    language: Language,
}

/// Advance widths of the printable ASCII characters in thousandths of the size, regular and bold.
const ADVANCES: [[u16; 95]; 2] = [
    [
        318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636,
        636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775,
        752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390,
        337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612,
        635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
    ],
    [
        348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696,
        696, 696, 696, 696, 696, 696, 400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821,
        837, 372, 372, 775, 637, 995, 837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457,
        365, 457, 838, 500, 500, 675, 716, 593, 716, 678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687,
        716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712, 365, 712, 838,
    ],
];

/// Width of a text.
pub fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    let advance = |c: char| {
        (c as usize).checked_sub(32).and_then(|i| ADVANCES[usize::from(bold)].get(i)).map_or(1000, |&a| a)
    };
    text.chars().map(|c| f64::from(advance(c))).sum::<f64>() / 1000.0 * size
}

/// Text as it may stand in XML, in elements and attributes: control characters, which XML has none of, as
/// escapes.
fn escape(text: &str) -> String {
    let text = printable::line(text);
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into_owned();
    }
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

impl Canvas {
    /// An empty drawing whose words are in a language.
    pub fn new(language: Language) -> Self {
        Self { body: String::new(), language }
    }

    /// A rectangle; `dash` is empty or a dash pattern.
    #[allow(clippy::too_many_arguments)]
    pub fn rectangle(
        &mut self,
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        radius: f64,
        fill: &str,
        stroke: &str,
        dash: &str,
    ) {
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\" \
             fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.4\"{dash}/>"
        );
    }

    /// A line of text; `anchor` is `start`, `middle` or `end`; `y` is its middle.
    #[allow(clippy::too_many_arguments)]
    pub fn text(&mut self, x: f64, y: f64, size: f64, anchor: &str, bold: bool, colour: &str, text: &str) {
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\"{weight} \
             fill=\"{colour}\">{}</text>",
            y + size * 0.36,
            escape(text)
        );
    }

    /// A box with its lines, around a centre.
    pub fn node(&mut self, node: &Node, (x, y): (f64, f64)) {
        let (width, height) = size(node);
        let radius = if node.round { height / 2.0 } else { 5.0 };
        self.rectangle(
            x - width / 2.0,
            y - height / 2.0,
            width,
            height,
            radius,
            node.colours.0,
            node.colours.1,
            "",
        );
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
        let _ = writeln!(
            self.body,
            "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"{dash} \
             marker-end=\"url(#head)\"/>"
        );
    }

    /// Lines of text on white, their middle at a point.
    pub fn label(&mut self, (x, y): (f64, f64), lines: &[String]) {
        let width = lines.iter().map(|l| text_width(l, 10.0, false)).fold(0.0, f64::max) + 6.0;
        let height = 12.5 * lines.len() as f64;
        let _ = writeln!(
            self.body,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"#fff\" \
             fill-opacity=\"0.9\"/>",
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
            self.text(
                x,
                y + 12.5 * (i as f64 + 0.5 - lines.len() as f64 / 2.0),
                10.0,
                "start",
                false,
                "#555",
                line,
            );
        }
    }

    /// The finished file.
    pub fn finish(self, width: f64, height: f64, title: &str) -> String {
        // English is what a reader takes a file for that says nothing.
        let language = match self.language {
            Language::English => String::new(),
            other => format!(" xml:lang=\"{}\"", other.code()),
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\"{language} width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}\">\n\
             <title>{}</title>\n<defs><marker id=\"head\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" \
             markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path d=\"M0,1 L10,5 L0,9 z\" fill=\"#555\"/></marker></defs>\n<rect width=\"100%\" \
             height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            escape(title),
            self.body
        )
    }
}

/// Width and height of a box.
pub fn size(node: &Node) -> Size {
    let width = node
        .lines
        .iter()
        .map(|l| text_width(l, TEXT, false))
        .fold(text_width(&node.title, TITLE, true), f64::max);
    (width + 24.0, LINE * (node.lines.len() as f64 + 1.0) + 14.0)
}

/// The point of the curve between two points that [`Canvas::path`] draws, at `t` of its way.
fn along((ax, ay): (f64, f64), (bx, by): (f64, f64), t: f64) -> (f64, f64) {
    let (middle, u) = (f64::midpoint(ay, by), 1.0 - t);
    let y = ay * u.powi(3) + 3.0 * middle * u * t * (u + t) + by * t.powi(3);
    (ax + (bx - ax) * t * t * (3.0 - 2.0 * t), y)
}

/// Left, top, right and bottom of a rectangle around a point.
fn around((x, y): (f64, f64), width: f64, height: f64) -> [f64; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

/// The area that two rectangles share.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    side(0) * side(1)
}

/// Side of a square of [`Grid`], a few lines of text.
const SQUARE: f64 = 64.0;
/// Squares that one thing is entered in; what is larger is compared with everything.
const MOST_SQUARES: usize = 256;
/// Points of all lines together up to which each piece of a line is looked at in twenty places.
const FINELY_SAMPLED: usize = 10_000;
/// Comparisons that placing the labels of a picture may take, some thousand for each of an ordinary graph.
const MOST_COMPARISONS: usize = 20_000_000;

/// Things by where they lie, so that what is near a place is found without looking at all.
struct Grid<T> {
    items: Vec<T>,
    squares: HashMap<(i64, i64), Vec<usize>>,
    large: Vec<usize>,
}

impl<T> Default for Grid<T> {
    fn default() -> Self {
        Self { items: Vec::new(), squares: HashMap::new(), large: Vec::new() }
    }
}

impl<T> Grid<T> {
    /// The squares that an area touches; none where they are too many.
    fn touched(area: [f64; 4]) -> Option<impl Iterator<Item = (i64, i64)>> {
        let [left, top, right, bottom] = area.map(|at| (at / SQUARE).floor() as i64);
        let count = (right - left + 1) as usize * (bottom - top + 1) as usize;
        (count <= MOST_SQUARES)
            .then(move || (left..=right).flat_map(move |x| (top..=bottom).map(move |y| (x, y))))
    }

    fn add(&mut self, area: [f64; 4], item: T) {
        let number = self.items.len();
        self.items.push(item);
        match Self::touched(area) {
            Some(squares) => squares.for_each(|square| self.squares.entry(square).or_default().push(number)),
            None => self.large.push(number),
        }
    }

    /// Shows `see` everything whose squares an area touches, each thing once, in the order in which they were
    /// added.
    fn near(&self, area: [f64; 4], mut see: impl FnMut(&T)) {
        let Some(squares) = Self::touched(area) else {
            self.items.iter().for_each(see);
            return;
        };
        let mut found: Vec<usize> =
            squares.filter_map(|square| self.squares.get(&square)).flatten().copied().collect();
        found.extend(&self.large);
        found.sort_unstable();
        found.dedup();
        found.into_iter().for_each(|number| see(&self.items[number]));
    }
}

/// Pictures side by side, their upper edges level.
pub fn beside(title: &str, mut pictures: Vec<Picture>, language: Language) -> String {
    if pictures.len() == 1 {
        return pictures.swap_remove(0).svg;
    }
    let mut canvas = Canvas::new(language);
    let (mut x, mut height) = (0.0, 0.0f64);
    for picture in &pictures {
        let _ = write!(canvas.body, "{}", picture.svg.replacen("<svg ", &format!("<svg x=\"{x:.0}\" "), 1));
        x += picture.width;
        height = height.max(picture.height);
    }
    canvas.finish(x, height, title)
}

/// A whole graph, laid out from top to bottom.
pub fn graph(title: &str, nodes: &[Node], arrows: &[Arrow], language: Language) -> Picture {
    let sizes: Vec<Size> = nodes.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = arrows.iter().map(|a| (a.from, a.to)).collect();
    let most = arrows.iter().map(|a| a.label.len()).max().unwrap_or(0) as f64;
    let layout = place(&sizes, &edges, 36.0 + 12.5 * most);
    let (margin, top) = (24.0, 54.0);
    let moved = |(x, y): (f64, f64)| (x + margin, y + top);
    let width = layout.width.max(text_width(title, 16.0, true)) + 2.0 * margin;
    let shift = (width - 2.0 * margin - layout.width) / 2.0;
    let mut canvas = Canvas::new(language);
    canvas.text(width / 2.0, 26.0, 16.0, "middle", true, "#222", title);
    for (arrow, path) in arrows.iter().zip(&layout.paths) {
        let points: Vec<(f64, f64)> = path.iter().map(|&p| moved(p)).map(|(x, y)| (x + shift, y)).collect();
        canvas.path(&points, arrow.dashed, if arrow.dashed { "#999" } else { "#555" });
    }
    // Points of the lines and boxes, that labels keep away from.
    let mut points: Grid<(usize, (f64, f64), bool)> = Grid::default();
    let samples = if layout.paths.iter().map(Vec::len).sum::<usize>() > FINELY_SAMPLED { 4 } else { 20 };
    for (number, path) in layout.paths.iter().enumerate() {
        let pairs = path.windows(2).map(|pair| (moved(pair[0]), moved(pair[1])));
        let line: Vec<(f64, f64)> = pairs
            .flat_map(|(a, b)| (0..=samples).map(move |i| along(a, b, f64::from(i) / f64::from(samples))))
            .collect();
        for (at, &point) in line.iter().enumerate() {
            points.add(around(point, 0.0, 0.0), (number, point, at + 1 == line.len()));
        }
    }
    let mut taken: Grid<[f64; 4]> = Grid::default();
    for (&centre, &(wide, high)) in layout.centres.iter().zip(&sizes) {
        let area = around(moved(centre), wide + 6.0, high + 6.0);
        taken.add(area, area);
    }
    if arrows.iter().any(|a| a.dashed) {
        canvas.text(width / 2.0, 44.0, 10.0, "middle", false, "#777", language.dashed());
    }
    let comparisons = Cell::new(0);
    for (number, arrow) in arrows.iter().enumerate().filter(|(_, a)| !a.label.is_empty() && !a.dashed) {
        let wide = arrow.label.iter().map(|l| text_width(l, 10.0, false)).fold(0.0, f64::max) + 6.0;
        let height = 12.5 * arrow.label.len() as f64;
        // Beside the head, where edges into one box are told apart; then wherever there is room.
        let path = &layout.paths[number];
        let candidates = path.windows(2).rev().flat_map(|pair| {
            let (a, b) = (moved(pair[0]), moved(pair[1]));
            [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9].map(|t| along(a, b, t))
        });
        let beside = |(x, y): (f64, f64)| [0.0, -0.4, 0.4, -0.55, 0.55].map(|part| (x + part * wide, y));
        let cost = |&(x, y): &(f64, f64)| -> f64 {
            let me = around((x, y), wide, height);
            let outside = (8.0 - shift - me[0]).max(0.0) + (me[2] + shift + 8.0 - width).max(0.0);
            let inside = |px: f64, py: f64| px > me[0] && px < me[2] && py > me[1] && py < me[3];
            let (mut crossed, mut tips) = (0, 0);
            // Three units lower, for the tips.
            points.near([me[0], me[1], me[2], me[3] + 3.0], |&(other, (px, py), is_tip)| {
                crossed += usize::from(other != number && inside(px, py));
                // The tip of an arrow is worth more than its line.
                tips += usize::from(is_tip && inside(px, py - 3.0));
                comparisons.update(|count| count + 1);
            });
            let mut covered = 0.0;
            taken.near(me, |other| {
                covered += overlap(&me, other);
                comparisons.update(|count| count + 1);
            });
            2.0 * covered + 30.0 * crossed as f64 + 300.0 * tips as f64 + 100.0 * outside
        };
        let mut least: Option<(f64, (f64, f64))> = None;
        for at in candidates.flat_map(beside) {
            // Crowded beyond what a search can mend: the label stays where it would begin.
            if comparisons.get() > MOST_COMPARISONS {
                least = least.or(Some((0.0, at)));
                break;
            }
            let cost = cost(&at);
            if least.is_none_or(|(known, _)| cost < known) {
                least = Some((cost, at));
            }
        }
        if let Some((_, (x, y))) = least {
            let area = around((x, y), wide, height);
            taken.add(area, area);
            canvas.label((x + shift, y), &arrow.label);
        }
    }
    for (node, &centre) in nodes.iter().zip(&layout.centres) {
        let (x, y) = moved(centre);
        canvas.node(node, (x + shift, y));
    }
    let height = layout.height + top + 24.0;
    Picture { svg: canvas.finish(width, height, title), width, height }
}
