//! A second kind of network, from the same layers: a multilayer perceptron, for what has a label instead of a
//! text.

mod features;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::limits::{MOST_LAYERS, WIDEST, check_count, within};
use crate::network::ground::pass::Pass;
use crate::network::layers::dense::{Dense, DenseBackward, DenseTape, PreparedDense};
use crate::network::{Layout, Network, Objective, Parameters, Summands, Sums};
use crate::onnx::builder::{Attribute, Axis, GraphBuilder};
use crate::onnx::messages::DataType;
use s2s_kernels::random::Random;
use s2s_kernels::{Real, Scratch, Team};

/// Features, f32 (batch, inputs), as they are in the data: the graph itself scales them.
pub const FEATURES: &str = "features";
/// One value a class, f32 (batch, classes); probabilities are their softmax.
pub const LOGITS: &str = "logits";
/// Softmax of the logits, f32 (batch, classes).
pub const PROBABILITIES: &str = "probabilities";

/// Sizes of a perceptron.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpArchitecture {
    /// The number of features of a sample.
    pub inputs: usize,
    /// Widths of the hidden layers, ReLU after each.
    pub hidden: Vec<usize>,
    /// The number of classes.
    pub classes: usize,
    /// Features are divided by this first.
    pub scale: f32,
}

/// The most features that a sample may have.
pub const MOST_INPUTS: usize = 10_000_000;
/// The most classes that there may be.
pub const MOST_CLASSES: usize = 1_000_000;

impl MlpArchitecture {
    /// Whether such a network can be built: the bounds of the config, wherever the sizes were read.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the option in question.
    pub fn check(&self) -> Result<()> {
        within("inputs", self.inputs, 1..=MOST_INPUTS)?;
        within("hidden", self.hidden.len(), 0..=MOST_LAYERS)?;
        self.hidden.iter().try_for_each(|&width| within("hidden", width, 1..=WIDEST))?;
        within("classes", self.classes, 2..=MOST_CLASSES)?;
        if !(self.scale.is_finite() && self.scale > 0.0) {
            let error = Error::new(ErrorKind::Config, format!("`scale` is {}", self.scale));
            return Err(error.help("features are divided by it: it must be finite and above 0"));
        }
        Ok(())
    }
}

/// A sample: its features as they are in the data, and its class.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// As many as the network has inputs.
    pub features: &'a [f32],
    /// Below the number of classes.
    pub label: u32,
}

/// The network: layers and where their parameters are; the values live in [`Parameters`].
#[derive(Clone, Debug)]
pub struct Mlp {
    architecture: MlpArchitecture,
    layers: Vec<Dense>,
    layout: Layout,
}

/// Memory of one shard's passes, reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct MlpWorkspace<R> {
    /// What each layer reads, (rows, width); behind ReLU all but the first.
    rows: Vec<Vec<R>>,
    /// Of the last pass with gradients.
    labels: Vec<u32>,
    tapes: Vec<DenseTape<R>>,
    d_rows: Vec<R>,
    d_below: Vec<R>,
    scratch: Scratch<R>,
}

impl Network for Mlp {
    type Architecture = MlpArchitecture;
    type Example<'a> = Sample<'a>;
    type Prepared<R: Real> = Vec<PreparedDense<R>>;
    type Workspace<R: Real> = MlpWorkspace<R>;

    fn new(architecture: MlpArchitecture) -> Result<Self> {
        let a = &architecture;
        a.check()?;
        let mut layout = Layout::default();
        let widths: Vec<usize> =
            [a.inputs].into_iter().chain(a.hidden.iter().copied()).chain([a.classes]).collect();
        let layer = |(i, pair): (usize, &[usize])| {
            Dense::new(&mut layout, &format!("dense_{i}"), pair[0], pair[1], None)
        };
        let layers = widths.windows(2).enumerate().map(layer).collect();
        check_count(&layout)?;
        Ok(Self { architecture, layers, layout })
    }

    fn architecture(&self) -> &MlpArchitecture {
        &self.architecture
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn initialise(&self, seed: u64) -> Parameters<f32> {
        let mut p = self.parameters();
        for (i, layer) in self.layers.iter().enumerate() {
            layer.initialise(&mut p, &mut Random::new(seed, i as u64));
        }
        p
    }

    fn targets(_: &Sample<'_>) -> usize {
        1
    }

    fn cost(_: &Sample<'_>) -> usize {
        1
    }

    fn rows(batch: &[Sample<'_>]) -> usize {
        batch.len()
    }

    fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        _: usize,
        _: bool,
        _: &mut Team,
        mut old: Self::Prepared<R>,
    ) -> Self::Prepared<R> {
        old.resize_with(self.layers.len(), PreparedDense::default);
        self.layers.iter().zip(old).map(|(layer, old)| layer.prepare(p, old)).collect()
    }

    // There is no dropout here.
    fn pass<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Self::Prepared<R>,
        samples: &[Sample<'_>],
        objective: &Objective,
        ws: &mut MlpWorkspace<R>,
    ) -> Sums {
        ws.labels.clear();
        if samples.is_empty() {
            return Sums::default();
        }
        self.run(p, prepared, samples.iter().map(|s| s.features), ws);
        let MlpWorkspace { rows, labels, tapes, d_rows, d_below, scratch } = ws;
        labels.extend(samples.iter().map(|s| s.label));
        let last = self.layers.len() - 1;
        let (scale, smoothing) = (R::from_f64(objective.scale), R::from_f64(objective.label_smoothing));
        let backward = Some(DenseBackward { scale, smoothing, d_h: &mut *d_rows });
        let mut pass = Pass { parameters: p, dropout: None, scratch };
        let (layer, prepared_last, tape) = (&self.layers[last], &prepared[last], &mut tapes[last]);
        let sums = layer.loss(&mut pass, prepared_last, &rows[last], labels, tape, backward);
        for l in (0..last).rev() {
            // The gradient of ReLU: rows[l + 1] is what it gave.
            d_rows
                .iter_mut()
                .zip(&rows[l + 1])
                .for_each(|(d, &h)| *d = if h > R::ZERO { *d } else { R::ZERO });
            let below = (l > 0).then_some(&mut *d_below);
            self.layers[l].backward(&mut pass, &prepared[l], d_rows, &mut tapes[l], below);
            std::mem::swap(d_rows, d_below);
        }
        sums
    }

    fn summands<'a, R: Real>(&self, _: &'a Parameters<R>, ws: &'a MlpWorkspace<R>) -> Summands<'a, R> {
        let mut out = Summands::new();
        if ws.labels.is_empty() {
            return out;
        }
        for ((layer, rows), tape) in self.layers.iter().zip(&ws.rows).zip(&ws.tapes) {
            layer.summands(rows, tape, &mut out);
        }
        out
    }

    fn evaluate<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Self::Prepared<R>,
        samples: &[Sample<'_>],
        ws: &mut MlpWorkspace<R>,
    ) -> Sums {
        if samples.is_empty() {
            return Sums::default();
        }
        self.run(p, prepared, samples.iter().map(|s| s.features), ws);
        let labels: Vec<u32> = samples.iter().map(|s| s.label).collect();
        let last = self.layers.len() - 1;
        let mut pass = Pass { parameters: p, dropout: None, scratch: &mut ws.scratch };
        let (layer, tape) = (&self.layers[last], &mut ws.tapes[last]);
        layer.loss(&mut pass, &prepared[last], &ws.rows[last], &labels, tape, None)
    }
}

impl Mlp {
    /// Logits (rows, classes) of samples, for comparison with the exported graph.
    pub fn forward<R: Real>(&self, p: &Parameters<R>, features: &[&[f32]]) -> Vec<R> {
        let mut ws = MlpWorkspace::default();
        let prepared = self.prepare(p, features.len(), false, &mut Team::new(1), Vec::new());
        self.run(p, &prepared, features.iter().copied(), &mut ws);
        let (Some(last), Some(prepared), Some(rows)) = (self.layers.last(), prepared.last(), ws.rows.last())
        else {
            return Vec::new();
        };
        let mut pass = Pass { parameters: p, dropout: None, scratch: &mut ws.scratch };
        last.logits(&mut pass, prepared, rows)
    }

    /// What every pass begins with: the rows that each layer reads.
    fn run<'s, R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &[PreparedDense<R>],
        samples: impl Iterator<Item = &'s [f32]>,
        ws: &mut MlpWorkspace<R>,
    ) {
        let scale = f64::from(self.architecture.scale);
        ws.rows.resize_with(self.layers.len(), Vec::new);
        ws.tapes.resize_with(self.layers.len(), DenseTape::default);
        ws.rows[0].clear();
        ws.rows[0].extend(samples.flatten().map(|&x| R::from_f64(f64::from(x) / scale)));
        let mut pass = Pass { parameters: p, dropout: None, scratch: &mut ws.scratch };
        for l in 1..self.layers.len() {
            let mut h = self.layers[l - 1].logits(&mut pass, &prepared[l - 1], &ws.rows[l - 1]);
            h.iter_mut().for_each(|x| *x = if *x > R::ZERO { *x } else { R::ZERO });
            ws.rows[l] = h;
        }
    }

    /// ONNX: features to logits and probabilities.
    pub fn emit(&self, p: &Parameters<f32>, g: &mut GraphBuilder) {
        let a = &self.architecture;
        let features = g.input(FEATURES, DataType::Float, &[Axis::Symbol("batch"), Axis::Fixed(a.inputs)]);
        g.scope("scale");
        let scale = g.float(&[1], &[a.scale]);
        let mut h = g.node("Div", &[&features, &scale], &[]);
        for (l, layer) in self.layers.iter().enumerate() {
            g.scope(&format!("dense_{l}"));
            h = layer.emit(p, g, &h);
            if l + 1 < self.layers.len() {
                h = g.node("Relu", &[&h], &[]);
            }
        }
        g.scope("softmax");
        let probabilities = g.node("Softmax", &[&h], &[("axis", Attribute::Int(-1))]);
        let axes = [Axis::Symbol("batch"), Axis::Fixed(a.classes)];
        g.output(LOGITS, &h, DataType::Float, &axes);
        g.output(PROBABILITIES, &probabilities, DataType::Float, &axes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::traits::tests::check_gradients;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mlp =
            Mlp::new(MlpArchitecture { inputs: 5, hidden: vec![7, 4], classes: 3, scale: 2.0 }).unwrap();
        let mut random = Random::new(3, 0);
        let mut p: Parameters<f64> = mlp.initialise(1).map(f64::from);
        p.data_mut().iter_mut().for_each(|x| *x += 0.1 * random.normal());
        let features: Vec<Vec<f32>> =
            (0..6).map(|_| (0..5).map(|_| random.normal() as f32).collect()).collect();
        let samples: Vec<Sample<'_>> =
            features.iter().zip(0..).map(|(f, i)| Sample { features: f, label: i % 3 }).collect();
        check_gradients(&mlp, &p, &samples);
    }
}
