//! The least time that a text could take on this machine: the model's arithmetic at the measured peak of a
//! matrix product, or its weights at the measured bandwidth of memory, whichever takes longer.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::time::Instant;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::checked::CheckedModel;
use s2s_runtime::manifest::Role;
use serde::Serialize;

use crate::error::Result;
use crate::onnx::messages::GraphProto;
use s2s_kernels::{MatRef, Packed, Scratch, Store, matmul_packed};

/// Weights that every token is multiplied with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Weights {
    /// Elements in products of each token by itself: MatMul, Gemm, and an LSTM's or GRU's W.
    pub(super) plain: usize,
    /// Elements in products that wait for the token before: an LSTM's or GRU's R.
    pub(super) recurrent: usize,
}

impl Weights {
    /// Of one graph: initialisers that reach a product, directly or through nodes that only change their
    /// form.
    pub(super) fn of(graph: &GraphProto) -> Self {
        const FORMS: [&str; 8] = [
            "Cast",
            "DequantizeLinear",
            "Identity",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
            "Reshape",
            "DynamicQuantizeLinear",
        ];
        let elements = |name: &str| {
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == name)?;
            Some(tensor.dims.iter().map(|&axis| usize::try_from(axis).unwrap_or(0)).product::<usize>())
        };
        let from: HashMap<&str, &str> = graph
            .node
            .iter()
            .filter(|node| FORMS.contains(&node.op_type.as_str()))
            .filter_map(|node| Some((node.output.first()?.as_str(), node.input.first()?.as_str())))
            .collect();
        let mut counted = HashSet::new();
        let mut weight = |name: Option<&String>| {
            let mut name = name.map_or("", String::as_str);
            for _ in 0..8 {
                match from.get(name) {
                    Some(before) => name = before,
                    None => break,
                }
            }
            // A matrix that several nodes read (a loss, say) is multiplied once a token all the same.
            if counted.insert(name.to_owned()) { elements(name).unwrap_or(0) } else { 0 }
        };
        let mut found = Self::default();
        for node in &graph.node {
            match node.op_type.as_str() {
                "MatMul" | "Gemm" | "MatMulInteger" => {
                    found.plain += weight(node.input.first()) + weight(node.input.get(1));
                }
                "LSTM" | "GRU" | "RNN" => {
                    found.plain += weight(node.input.get(1));
                    found.recurrent += weight(node.input.get(2));
                }
                _ => {}
            }
        }
        found
    }

    fn all(self) -> usize {
        self.plain + self.recurrent
    }
}

/// What the machine does at best, with as many threads as decode.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Peak {
    /// 10^9 floating-point operations a second, of a matrix product of this program in f32, all threads
    /// together.
    pub(super) gflops: f64,
    /// 10^9 bytes a second, reading a buffer as large as the decoder's weights, all threads together.
    pub(super) gigabytes: f64,
}

/// Weights of encoder and decoder, and how long a text takes at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    encoder: Weights,
    decoder: Weights,
    pub(super) peak: Peak,
}

impl Floor {
    /// Reads the graphs and measures the machine.
    pub(super) fn measure(bundle: &Bundle, threads: usize) -> Result<Self> {
        let weights = |role| -> Result<Weights> {
            Ok(Weights::of(CheckedModel::read(bundle.graph_name(role), bundle.graph(role)?)?.graph()))
        };
        let (encoder, decoder) = (weights(Role::Encoder)?, weights(Role::Decoder)?);
        Ok(Self { encoder, decoder, peak: Peak::measure(threads, decoder.all()) })
    }

    /// Seconds of one decoder step of `rows` rows on one of `threads` threads.
    pub(super) fn step(&self, rows: usize, threads: usize) -> f64 {
        let share = 1.0 / threads as f64;
        let arithmetic = 2.0 * (rows * self.decoder.all()) as f64 / (self.peak.gflops * share * 1e9);
        arithmetic.max((4 * self.decoder.all()) as f64 / (self.peak.gigabytes * share * 1e9))
    }

    /// Seconds of one text on all threads together, `rows` texts to a batch.
    pub(super) fn text(&self, source_tokens: f64, generated_tokens: f64, rows: usize) -> f64 {
        let operations =
            2.0 * (source_tokens * self.encoder.all() as f64 + generated_tokens * self.decoder.all() as f64);
        let once = self.encoder.plain as f64;
        let each =
            source_tokens * self.encoder.recurrent as f64 + generated_tokens * self.decoder.all() as f64;
        let bytes = 4.0 * (once + each) / rows as f64;
        (operations / (self.peak.gflops * 1e9)).max(bytes / (self.peak.gigabytes * 1e9))
    }
}

impl Peak {
    /// The best of several tries; `elements` is the size of the buffer that is read.
    fn measure(threads: usize, elements: usize) -> Self {
        Self {
            gflops: peak_gflops(threads),
            gigabytes: together(threads, |until| reading(until, elements.max(1024))),
        }
    }
}

/// 10^9 floating-point operations a second of a small matrix product in f32, the fastest of many, all threads
/// together.
pub(super) fn peak_gflops(threads: usize) -> f64 {
    together(threads, product)
}

/// The sum of what `threads` threads measure side by side.
fn together(threads: usize, measure: impl Fn(Instant) -> f64 + Sync) -> f64 {
    let until = Instant::now() + std::time::Duration::from_millis(400);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| measure(until))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum()
    })
}

/// The rate of the fastest call until then; `work` is what one call does.
fn fastest(until: Instant, work: f64, mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    loop {
        let begin = Instant::now();
        call();
        best = best.min(begin.elapsed().as_secs_f64().max(1e-9));
        if Instant::now() >= until {
            return work / best / 1e9;
        }
    }
}

fn product(until: Instant) -> f64 {
    const M: usize = 192;
    const K: usize = 256;
    const N: usize = 1024;
    let (a, b) = (vec![0.5f32; M * K], vec![0.25f32; K * N]);
    let packed = Packed::default().repacked(MatRef::new(&b, K, N));
    let (mut c, mut scratch) = (vec![0.0f32; M * N], Scratch::default());
    fastest(until, 2.0 * (M * K * N) as f64, || {
        matmul_packed(&mut c, Store::Overwrite, MatRef::new(black_box(&a), M, K), &packed, &mut scratch);
        black_box(&c);
    })
}

fn reading(until: Instant, elements: usize) -> f64 {
    const LANES: usize = 64;
    let data = vec![1.0f32; elements];
    fastest(until, 4.0 * elements as f64, || {
        let mut sums = [0.0f32; LANES];
        for chunk in black_box(&data).chunks_exact(LANES) {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += x;
            }
        }
        black_box(sums);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Network, Seq2Seq};
    use crate::onnx::GraphBuilder;
    use s2s_runtime::manifest::Io;

    #[test]
    fn the_weights_of_products_are_counted_and_tables_that_are_only_looked_up_are_not() {
        let architecture = serde_json::json!({
            "source_vocabulary": 9, "target_vocabulary": 7, "source_input": {"embedding": 3}, "target_input": {"embedding": 3},
            "cell": "lstm", "hidden": 5, "layers": 2,
        });
        let network =
            Seq2Seq::new(serde_json::from_value(architecture).expect("an architecture")).expect("a network");
        let parameters = network.initialise(1);
        let weights = |emit: &dyn Fn(&mut GraphBuilder)| {
            let mut builder = GraphBuilder::new("g");
            emit(&mut builder);
            Weights::of(&builder.finish(17, 8, &[]).graph.unwrap_or_default())
        };
        let encoder = weights(&|g| network.emit_encoder(&parameters, g, Io::Ids));
        // W (20, 3 + 1) and (20, 5 + 1), R (20, 5) twice.
        assert_eq!(encoder, Weights { plain: 20 * 4 + 20 * 6, recurrent: 2 * 20 * 5 });
        let decoder = weights(&|g| network.emit_decoder(&parameters, g, Io::Ids));
        // R of the first layer, W over R of the second, the output layer.
        assert_eq!(decoder, Weights { plain: 20 * 5 + 10 * 20 + 5 * 7, recurrent: 0 });
    }

    #[test]
    fn a_text_takes_at_least_its_arithmetic_and_at_batch_one_at_least_its_weights() {
        let weights = Weights { plain: 1000, recurrent: 0 };
        let peak = Peak { gflops: 1.0, gigabytes: 1.0 };
        let floor = Floor { encoder: Weights::default(), decoder: weights, peak };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(floor.text(0.0, 3.0, 1), 3.0 * 4000e-9);
        close(floor.text(0.0, 3.0, 64), 3.0 * 2000e-9);
        close(floor.step(1, 1), 4000e-9);
        close(floor.step(64, 2), 2.0 * 64.0 * 2000e-9);
    }
}
