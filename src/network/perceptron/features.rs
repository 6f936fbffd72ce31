//! The perceptron as export and verification see it.

use super::{FEATURES, LOGITS, Mlp, PROBABILITIES};
use crate::network::features::{FeatureNetwork, Measure, Port};
use crate::network::{Network, Parameters};
use crate::onnx::GraphBuilder;
use s2s_kernels::random::Random;

impl FeatureNetwork for Mlp {
    const KIND: &'static str = "mlp";

    fn input(&self) -> Port {
        Port { name: FEATURES, width: self.architecture().inputs }
    }

    fn outputs(&self) -> Vec<(Port, Measure)> {
        let port = |name| Port { name, width: self.architecture().classes };
        vec![(port(LOGITS), Measure::Logits), (port(PROBABILITIES), Measure::Probabilities)]
    }

    fn emit(&self, p: &Parameters<f32>, g: &mut GraphBuilder) {
        Self::emit(self, p, g);
    }

    fn draw(&self, random: &mut Random) -> Vec<f32> {
        let a = self.architecture();
        (0..a.inputs).map(|_| (random.unit() * f64::from(a.scale)) as f32).collect()
    }

    fn forward_exact(&self, p: &Parameters<f64>, rows: &[&[f32]]) -> Vec<Vec<f64>> {
        let logits = self.forward(p, rows);
        let softmax = |row: &[f64]| {
            let highest = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|x| (x - highest).exp()).sum();
            row.iter().map(move |x| (x - highest).exp() / sum).collect::<Vec<_>>()
        };
        let probabilities = logits.chunks_exact(self.architecture().classes).flat_map(softmax).collect();
        vec![logits, probabilities]
    }
}
