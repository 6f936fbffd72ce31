//! `curves.svg`: losses, scores and learning rate of a run, drawn from its metrics.

use std::fmt::Write;

use super::metrics::EpochMetrics;
use super::report::percent;

const FONT: &str = "'DejaVu Sans', Verdana, 'Segoe UI', sans-serif";
const WIDTH: f64 = 860.0;
/// Left and right of the curves: labels of the axis, and names with their last values.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 208.0;
const HEAD: f64 = 58.0;
/// Height of a panel's curves, and of what lies between two panels.
const PANEL: f64 = 168.0;
const GAP: f64 = 50.0;
/// Least distance between two names at the right.
const NAME: f64 = 15.0;
/// Above so many epochs a curve has no dots.
const DOTS: usize = 40;
/// A scale is logarithmic if its ends differ by more than this factor.
const LOGARITHMIC: f64 = 30.0;

/// One curve: a point an epoch where the figure was measured.
struct Curve {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

/// How the numbers of a panel are written.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Nats,
    Percent,
    Rate,
}

struct Panel {
    title: &'static str,
    unit: Unit,
    curves: Vec<Curve>,
}

/// An axis: where a number lies between 0 and 1, and the numbers that are written beside it.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Scale {
    /// Round ends around the values.
    fn around(values: impl Iterator<Item = f64> + Clone, may_be_logarithmic: bool) -> Self {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if may_be_logarithmic && low > 0.0 && high / low > LOGARITHMIC {
            return Self::decades(low, high);
        }
        // What does not move is shown against zero.
        let (low, high) = match (low, high) {
            _ if high > low => (low, high),
            _ if high > 0.0 => (0.0, high),
            _ => (low.min(0.0), 1.0),
        };
        let step = round_step((high - low) / 5.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks: Vec<f64> = (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect();
        Self { low: first * step, high: last * step, logarithmic: false, ticks }
    }

    /// Whole steps of 1, 2 and 5 times a power of ten, fewer where there are many.
    fn decades(low: f64, high: f64) -> Self {
        let marks = |steps: &[f64]| -> Vec<f64> {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            decades
                .flat_map(|decade| steps.iter().map(move |s| s * 10f64.powi(decade)).collect::<Vec<_>>())
                .collect()
        };
        let steps: &[f64] = if high / low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let marks = marks(steps);
        let first = marks.iter().rposition(|&m| m <= low * 1.000_001).unwrap_or(0);
        let last = marks.iter().position(|&m| m >= high / 1.000_001).unwrap_or(marks.len() - 1);
        let ticks = marks[first..=last].to_vec();
        Self { low: marks[first], high: marks[last], logarithmic: true, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low).max(f64::MIN_POSITIVE)
        }
    }
}

/// 1, 2 or 5 times a power of ten, no smaller than `least`.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|s| s * decade).find(|s| *s >= least * 0.999_999).unwrap_or(10.0 * decade)
}

/// A number as short as it is exact enough.
fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => trimmed(&percent(value / 100.0, 1)).to_owned(),
        Unit::Rate if value == 0.0 => "0".to_owned(),
        Unit::Rate => {
            let text = format!("{value:.2e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", trimmed(digits))
        }
        Unit::Nats if value != 0.0 && value.abs() < 0.1 => trimmed(&format!("{value:.4}")).to_owned(),
        Unit::Nats => trimmed(&format!("{value:.3}")).to_owned(),
    }
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

fn panels(metrics: &[EpochMetrics]) -> Vec<Panel> {
    let curve = |name, colour, value: fn(&EpochMetrics) -> Option<f64>| {
        let points = metrics
            .iter()
            .filter_map(|m| value(m).map(|v| (m.epoch as f64, v)))
            .filter(|p| p.1.is_finite())
            .collect();
        Curve { name, colour, points }
    };
    let of_samples = metrics.iter().any(|m| m.samples_per_second.is_some());
    let all = vec![
        Panel {
            title: if of_samples { "Loss: nats a sample" } else { "Loss: nats a target token" },
            unit: Unit::Nats,
            curves: vec![
                curve("training", "#0072b2", |m| Some(m.train_loss)),
                curve("validation", "#d55e00", |m| Some(m.validation_loss)),
            ],
        },
        Panel {
            title: if of_samples {
                "Accuracy on the validation samples, out of 100"
            } else {
                "Scores on the validation pairs, out of 100"
            },
            unit: Unit::Percent,
            curves: vec![
                curve("accuracy", "#56b4e9", |m| Some(100.0 * m.validation_accuracy)),
                curve("exact match", "#009e73", |m| m.exact_match.map(|v| 100.0 * v)),
                curve("token error rate", "#cc79a7", |m| m.token_error_rate.map(|v| 100.0 * v)),
                curve("chrF", "#a6761d", |m| m.chrf),
                curve("BLEU", "#7570b3", |m| m.bleu),
            ],
        },
        Panel {
            title: "Learning rate",
            unit: Unit::Rate,
            curves: vec![curve("learning rate", "#555555", |m| m.learning_rate)],
        },
    ];
    all.into_iter()
        .map(|panel| Panel {
            curves: panel.curves.into_iter().filter(|c| !c.points.is_empty()).collect(),
            ..panel
        })
        .filter(|panel| !panel.curves.is_empty())
        .collect()
}

/// The picture; `name` is the run's.
pub(super) fn svg(name: &str, metrics: &[EpochMetrics]) -> String {
    let panels = panels(metrics);
    let height = HEAD + panels.len() as f64 * (PANEL + GAP) + 6.0;
    let epochs = metrics.last().map_or(0, |m| m.epoch);
    let best = metrics.iter().rfind(|m| m.best);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 \
         {WIDTH} {height}\" font-family=\"{FONT}\">\n\
         <title>Training of {name}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, 16.0, 24.0, 16.0, "start", "#222222", true, name);
    let mut about = format!("{epochs} epochs");
    if let (Some(last), Some(best)) = (metrics.last(), best) {
        let seconds: f64 = metrics.iter().map(|m| m.seconds).sum();
        let _ = write!(about, ", {} steps, {}; best epoch {}", last.step, duration(seconds), best.epoch);
    }
    text(&mut out, 16.0, 42.0, 11.5, "start", "#555555", false, &about);
    for (i, panel) in panels.iter().enumerate() {
        draw(
            &mut out,
            panel,
            HEAD + i as f64 * (PANEL + GAP) + 16.0,
            epochs,
            best.map(|m| m.epoch),
            i + 1 == panels.len(),
        );
    }
    out += "</svg>\n";
    out
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
        s => format!("{:.0} h {:.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

fn draw(out: &mut String, panel: &Panel, top: f64, epochs: usize, best: Option<usize>, last: bool) {
    let right = WIDTH - RIGHT;
    let scale = Scale::around(
        panel.curves.iter().flat_map(|c| c.points.iter().map(|p| p.1)),
        panel.unit == Unit::Nats,
    );
    let x = |epoch: f64| {
        if epochs > 1 {
            LEFT + (epoch - 1.0) / (epochs as f64 - 1.0) * (right - LEFT)
        } else {
            (LEFT + right) / 2.0
        }
    };
    let y = |value: f64| top + PANEL * (1.0 - scale.place(value));
    text(out, 16.0, top - 12.0, 12.0, "start", "#222222", true, panel.title);
    for &tick in &scale.ticks {
        line(out, (LEFT, y(tick)), (right, y(tick)), "#e3e3e3", "");
        text(out, LEFT - 8.0, y(tick), 10.5, "end", "#555555", false, &number(tick, panel.unit));
    }
    let step = round_step((epochs as f64 / 10.0).max(1.0)) as usize;
    for epoch in (1..=epochs).filter(|e| *e == 1 || e % step == 0) {
        line(out, (x(epoch as f64), top + PANEL), (x(epoch as f64), top + PANEL + 4.0), "#888888", "");
        text(out, x(epoch as f64), top + PANEL + 13.0, 10.5, "middle", "#555555", false, &epoch.to_string());
    }
    line(out, (LEFT, top + PANEL), (right, top + PANEL), "#888888", "");
    if last {
        text(out, LEFT - 8.0, top + PANEL + 13.0, 10.5, "end", "#555555", false, "epoch");
    }
    if let Some(best) = best {
        line(out, (x(best as f64), top), (x(best as f64), top + PANEL), "#999999", "3 3");
        text(out, x(best as f64), top - 8.0, 10.0, "middle", "#777777", false, "best");
    }
    for curve in &panel.curves {
        let points: Vec<String> =
            curve.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" \
             stroke-linejoin=\"round\"/>",
            points.join(" "),
            curve.colour
        );
        for p in curve.points.iter().filter(|_| curve.points.len() <= DOTS) {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" fill=\"{}\"/>",
                x(p.0),
                y(p.1),
                curve.colour
            );
        }
    }
    for (curve, place) in panel.curves.iter().zip(names(panel, &y, top)) {
        let value = curve.points.last().map_or(0.0, |p| p.1);
        text(
            out,
            right + 14.0,
            place,
            11.0,
            "start",
            curve.colour,
            true,
            &format!("{} {}", curve.name, number(value, panel.unit)),
        );
    }
}

/// Where the names at the right stand: at the ends of their curves, or as near as they fit.
fn names(panel: &Panel, y: &dyn Fn(f64) -> f64, top: f64) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> =
        panel.curves.iter().enumerate().map(|(i, c)| (i, c.points.last().map_or(top, |p| y(p.1)))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut places = vec![0.0; order.len()];
    let mut above = f64::NEG_INFINITY;
    let count = order.len();
    for (nth, (i, wanted)) in order.into_iter().enumerate() {
        // Those still to come need room below.
        let lowest = top + PANEL - (count - 1 - nth) as f64 * NAME;
        above = wanted.min(lowest).max(above + NAME);
        places[i] = above;
    }
    places
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, dash: &str) {
    let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"{dash}/>",
        from.0, from.1, to.0, to.1
    );
}

#[allow(clippy::too_many_arguments)] // One call each; a struct would only rename them.
fn text(out: &mut String, x: f64, y: f64, size: f64, anchor: &str, colour: &str, bold: bool, text: &str) {
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let y = y + size * 0.36;
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" \
         fill=\"{colour}\"{weight}>{escaped}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(epoch: usize) -> EpochMetrics {
        let at = epoch as f64;
        EpochMetrics {
            epoch,
            train_loss: 3.0 / at,
            validation_loss: 3.0 / at.sqrt(),
            validation_accuracy: 1.0 - 0.5 / at,
            exact_match: epoch.is_multiple_of(2).then_some(0.5),
            learning_rate: Some(1e-3),
            best: true,
            ..EpochMetrics::default()
        }
    }

    #[test]
    fn every_curve_has_a_point_for_every_epoch_that_measured_it() {
        let all: Vec<EpochMetrics> = (1..=6).map(metrics).collect();
        let picture = svg("a<b", &all);
        let points: Vec<usize> = picture
            .lines()
            .filter_map(|l| l.strip_prefix("<polyline points=\""))
            .map(|l| l.split('"').next().unwrap_or("").split(' ').count())
            .collect();
        assert_eq!(points, [6, 6, 6, 3, 6]);
        assert!(
            picture.contains("a&lt;b") && !picture.contains("NaN") && !picture.contains("inf"),
            "{picture}"
        );
    }

    #[test]
    fn one_epoch_and_none_are_drawn_too() {
        for count in [0, 1] {
            let picture = svg("a", &(1..=count).map(metrics).collect::<Vec<_>>());
            assert!(
                picture.ends_with("</svg>\n") && !picture.contains("NaN") && !picture.contains("inf"),
                "{picture}"
            );
        }
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let ticks = |values: &[f64]| -> Vec<String> {
            Scale::around(values.iter().copied(), true)
                .ticks
                .into_iter()
                .map(|t| number(t, Unit::Nats))
                .collect()
        };
        assert_eq!(ticks(&[0.13, 0.94]), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(ticks(&[7.0, 93.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(ticks(&[2.0, 2.0]), ["0", "0.5", "1", "1.5", "2"]);
        assert_eq!(
            ticks(&[0.004, 0.9]),
            ["0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
        );
        assert_eq!(number(0.00123, Unit::Rate), "1.23e-3");
        assert_eq!(number(0.5, Unit::Rate), "5e-1");
        assert_eq!(number(50.0, Unit::Percent), "50");
        // Not all of them were right, and not all were wrong.
        assert_eq!(
            [99.97, 99.996, 100.0, 0.03, 0.0, 99.94].map(|v| number(v, Unit::Percent)),
            ["99.97", "99.996", "100", "0.03", "0", "99.9"]
        );
    }
}
