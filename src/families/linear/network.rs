//! Softmax regression: logits = x W + b, the whole of it.

use serde::{Deserialize, Serialize};

use crate::config::raw::Field;
use crate::config::samples::SampleModel;
use crate::error::Result;
use crate::families::features::Classifier;
use crate::network::features::{FeatureNetwork, Measure, Port};
use crate::network::perceptron::Sample;
use crate::network::{Layout, Network, Objective, ParameterId, Parameters, Summand, Summands, Sums};
use crate::onnx::GraphBuilder;
use crate::onnx::builder::Axis;
use crate::onnx::messages::DataType;
use s2s_kernels::random::Random;
use s2s_kernels::{MatRef, Real, Team};

/// Sizes of a linear network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sizes {
    inputs: usize,
    classes: usize,
}

impl SampleModel for Sizes {
    const EXAMPLE: &'static str = "{kind: linear, inputs: 2, classes: 2}";
    const NOUN: &'static str = "a linear network";

    fn read(model: &Field<'_>, _: f32) -> Result<Self> {
        let model = model.section(&["kind", "inputs", "classes"])?;
        Ok(Self {
            inputs: model.required("inputs", "2")?.count(1..=1000)?,
            classes: model.required("classes", "2")?.count(2..=1000)?,
        })
    }

    fn sizes(&self) -> [usize; 2] {
        [self.inputs, self.classes]
    }
}

/// The network.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    sizes: Sizes,
    layout: Layout,
    /// (inputs, classes).
    weight: ParameterId,
    /// (1, classes).
    bias: ParameterId,
}

/// What a pass leaves: the samples' features (rows, inputs), the gradients of the logits (rows, classes), and
/// their sum over the rows.
#[derive(Debug)]
pub(crate) struct Tape<R> {
    features: Vec<R>,
    d_logits: Vec<R>,
    d_bias: Vec<R>,
}

impl<R> Default for Tape<R> {
    fn default() -> Self {
        Self { features: Vec::new(), d_logits: Vec::new(), d_bias: Vec::new() }
    }
}

impl Linear {
    fn logits<R: Real>(&self, p: &Parameters<R>, features: &[f32]) -> Vec<R> {
        let mut logits = p.get(self.bias).to_vec();
        for (&x, row) in features.iter().zip(p.get(self.weight).chunks_exact(self.sizes.classes)) {
            logits.iter_mut().zip(row).for_each(|(logit, &w)| *logit += R::from_f64(f64::from(x)) * w);
        }
        logits
    }
}

fn softmax<R: Real>(logits: &[R]) -> Vec<f64> {
    let highest = logits.iter().map(|x| x.to_f64()).fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|x| (x.to_f64() - highest).exp()).sum();
    logits.iter().map(|x| (x.to_f64() - highest).exp() / sum).collect()
}

impl Network for Linear {
    type Architecture = Sizes;
    type Example<'a> = Sample<'a>;
    type Prepared<R: Real> = ();
    type Workspace<R: Real> = Tape<R>;

    fn new(sizes: Sizes) -> Result<Self> {
        let mut layout = Layout::default();
        let weight = layout.add("weight", &[sizes.inputs, sizes.classes]);
        let bias = layout.add("bias", &[1, sizes.classes]);
        Ok(Self { sizes, layout, weight, bias })
    }

    fn architecture(&self) -> &Sizes {
        &self.sizes
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn initialise(&self, seed: u64) -> Parameters<f32> {
        let (mut p, mut random) = (self.parameters(), Random::new(seed, 0));
        p.get_mut(self.weight).iter_mut().for_each(|w| *w = 0.1 * random.normal() as f32);
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

    fn prepare<R: Real>(&self, _: &Parameters<R>, _: usize, _: bool, _: &mut Team, (): ()) {}

    fn pass<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &(),
        samples: &[Sample<'_>],
        objective: &Objective,
        tape: &mut Tape<R>,
    ) -> Sums {
        tape.features = samples.iter().flat_map(|s| s.features).map(|&x| R::from_f64(x.into())).collect();
        tape.d_logits.clear();
        tape.d_bias = vec![R::ZERO; self.sizes.classes];
        for sample in samples {
            let found = softmax(&self.logits(p, sample.features));
            for (class, found) in found.into_iter().enumerate() {
                // The gradient of the cross-entropy: what is found less what is wanted.
                let wanted = f64::from(u8::from(class == sample.label as usize));
                let d = R::from_f64(objective.scale * (found - wanted));
                tape.d_logits.push(d);
                tape.d_bias[class] += d;
            }
        }
        self.evaluate(p, prepared, samples, &mut Tape::default())
    }

    fn summands<'a, R: Real>(&self, _: &'a Parameters<R>, tape: &'a Tape<R>) -> Summands<'a, R> {
        let Sizes { inputs, classes } = self.sizes;
        let rows = tape.d_logits.len() / classes;
        if rows == 0 {
            return Summands::new();
        }
        let a = MatRef::new(&tape.features, rows, inputs).transposed();
        let b = MatRef::new(&tape.d_logits, rows, classes);
        vec![
            (self.weight, Summand::Product { first_row: 0, a, b }),
            (self.bias, Summand::Row { at: 0, values: &tape.d_bias }),
        ]
    }

    fn evaluate<R: Real>(&self, p: &Parameters<R>, (): &(), samples: &[Sample<'_>], _: &mut Tape<R>) -> Sums {
        let mut sums = Sums::default();
        for sample in samples {
            let found = softmax(&self.logits(p, sample.features));
            let label = found[sample.label as usize];
            sums += Sums {
                nats: -label.ln(),
                tokens: 1,
                correct: usize::from(found.iter().all(|&other| other <= label)),
            };
        }
        sums
    }
}

impl FeatureNetwork for Linear {
    const KIND: &'static str = "linear";

    fn input(&self) -> Port {
        Port { name: "features", width: self.sizes.inputs }
    }

    fn outputs(&self) -> Vec<(Port, Measure)> {
        vec![(Port { name: "logits", width: self.sizes.classes }, Measure::Logits)]
    }

    fn emit(&self, p: &Parameters<f32>, g: &mut GraphBuilder) {
        let axes = |width| [Axis::Symbol("batch"), Axis::Fixed(width)];
        let features = g.input("features", DataType::Float, &axes(self.sizes.inputs));
        let [weight, bias] = [self.weight, self.bias]
            .map(|id| g.initializer(&p.entry(id).name, &p.entry(id).shape, p.get(id)));
        let product = g.node("MatMul", &[&features, &weight], &[]);
        let logits = g.node("Add", &[&product, &bias], &[]);
        g.output("logits", &logits, DataType::Float, &axes(self.sizes.classes));
    }

    fn draw(&self, random: &mut Random) -> Vec<f32> {
        (0..self.sizes.inputs).map(|_| random.normal() as f32).collect()
    }

    fn forward_exact(&self, p: &Parameters<f64>, rows: &[&[f32]]) -> Vec<Vec<f64>> {
        vec![rows.iter().flat_map(|row| self.logits(p, row)).collect()]
    }
}

impl Classifier for Linear {}
