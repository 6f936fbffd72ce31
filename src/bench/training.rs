//! Steps a second of training on synthetic batches; `benches/peers/workloads.py` has the same sizes for the
//! peers.

use std::fmt;

use clap::ValueEnum;
use s2s_runtime::contract::SPECIAL_SYMBOLS;
use s2s_runtime::translator::default_workers;
use serde::Serialize;

use super::floor::peak_gflops;
use super::measure::{processor_seconds, quantile, rounded, rounds, warm_up};
use crate::error::Result;
use crate::network::{Architecture, Example, InputForm, Network, Seq2Seq};
use crate::train::{StepOptions, Stepper};
use s2s_kernels::random::Random;

/// Batches that take turns, so that no step sees what the caches hold of the last one.
const BATCHES: usize = 8;
/// Width of an embedding where the workload does not say.
const EMBEDDING: usize = 256;

/// Sizes of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Vocabularies 80 and 2,500, one-hot, one layer of 256, batch 64, 25 and 15 steps
    W1,
    /// Vocabularies 30 and 75, embedding of 256, two layers of 512, batch 128, 8 and 8 steps
    W2,
    /// Vocabularies 10,000, embedding of 128, one layer of 256, batch 64, 50 and 51 steps
    W3,
}

/// How ids enter the network.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Input {
    /// One channel a symbol
    OneHot,
    /// A learnt row a symbol, of 256 numbers (128 in w3)
    Embedding,
}

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes of network and batches.
    pub workload: Workload,
    /// How ids enter the network; the workload's own way where it is `None`.
    pub input: Option<Input>,
    /// Whether rows have different lengths.
    pub ragged: bool,
    /// Worker threads; one a core where it is `None`.
    pub threads: Option<usize>,
    /// Of measuring, after the warm-up.
    pub seconds: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    framework: String,
    workload: &'static str,
    input: &'static str,
    ragged: bool,
    threads: usize,
    /// Median over the rounds.
    steps_per_second: f64,
    rounds: Vec<f64>,
    /// Steps for a second of processor time of one core: what other programs did meanwhile does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_per_processor_second: Option<f64>,
    /// 10^9 floating-point operations of the products of a step, see [`products`].
    gflop_per_step: f64,
    /// 10^9 floating-point operations a second of this program's own matrix product on data in the cache, all
    /// threads together.
    peak_gflops: f64,
    /// How much of that peak the products of the median round use up, and those of the fastest round.
    share_of_peak: f64,
    share_of_peak_fastest: f64,
    /// Mean nats a target token at the first step and at the last.
    first_loss: f64,
    last_loss: f64,
}

/// A synthetic workload.
struct Sizes {
    name: &'static str,
    architecture: Architecture,
    batch: usize,
    source_steps: usize,
    /// Steps of the decoder: one more than the tokens of a target, for START in front and END behind.
    target_steps: usize,
}

fn sizes(workload: Workload, input: Option<Input>) -> Sizes {
    let (
        name,
        [source_vocabulary, target_vocabulary],
        own,
        layers,
        hidden,
        batch,
        source_steps,
        target_steps,
    ) = match workload {
        Workload::W1 => ("w1", [80, 2500], Input::OneHot, 1, 256, 64, 25, 15),
        Workload::W2 => ("w2", [30, 75], Input::Embedding, 2, 512, 128, 8, 8),
        // configs/embedding_10k.yaml.
        Workload::W3 => ("w3", [10_000, 10_000], Input::Embedding, 1, 256, 64, 50, 51),
    };
    let width = if workload == Workload::W3 { 128 } else { EMBEDDING };
    let form = match input.unwrap_or(own) {
        Input::OneHot => InputForm::OneHot,
        Input::Embedding => InputForm::Embedding(width),
    };
    let architecture = Architecture {
        source_vocabulary,
        target_vocabulary,
        source_input: form,
        target_input: form,
        hidden,
        layers,
        ..Architecture::default()
    };
    Sizes { name, architecture, batch, source_steps, target_steps }
}

/// Pairs of ids, uniform over the vocabulary without the special ids; `ragged` lengths are uniform from a
/// fifth to the whole.
fn batches(sizes: &Sizes, ragged: bool) -> Vec<Vec<(Vec<u32>, Vec<u32>)>> {
    let mut random = Random::new(1, 0);
    let specials = SPECIAL_SYMBOLS.len();
    let mut row = |steps: usize, vocabulary: usize| -> Vec<u32> {
        let shortest = (steps / 5).max(1);
        let length = if ragged { shortest + random.below(steps - shortest + 1) } else { steps };
        (0..length).map(|_| (specials + random.below(vocabulary - specials)) as u32).collect()
    };
    let a = &sizes.architecture;
    let mut pair =
        || (row(sizes.source_steps, a.source_vocabulary), row(sizes.target_steps - 1, a.target_vocabulary));
    (0..BATCHES).map(|_| (0..sizes.batch).map(|_| pair()).collect()).collect()
}

/// Floating-point operations of a step's matrix products, the mean over the batches: a multiplication and an
/// addition, forward and for the gradients of both operands.
///
/// Looking symbols up is no product, though it is one in a framework that has one-hot rows, or an embedding
/// and a matrix, in front of its gates (so that with an embedding and too many symbols for a table the figure
/// is a lower bound); nor is anything counted where the encoder's state is still zero.
fn products(sizes: &Sizes, data: &[Vec<(Vec<u32>, Vec<u32>)>]) -> f64 {
    const LSTM_GATES: usize = 4;
    let Architecture { hidden, layers, target_vocabulary, .. } = sizes.architecture;
    let recurrent = layers * LSTM_GATES * hidden * hidden;
    let from_below = (layers - 1) * LSTM_GATES * hidden * hidden;
    let pair = |(source, target): &(Vec<u32>, Vec<u32>)| {
        let (source_steps, target_steps) = (source.len(), target.len() + 1);
        source_steps * from_below
            + (source_steps - 1) * recurrent
            + target_steps * (from_below + recurrent + hidden * target_vocabulary)
    };
    let multiplications: usize = data.iter().flatten().map(pair).sum();
    (2 * 3 * multiplications) as f64 / data.len() as f64
}

/// Trains a network of the workload's sizes and counts its optimiser steps.
///
/// # Errors
/// None today: every workload is a network that there can be.
pub fn run(plan: &Plan) -> Result<Report> {
    let sizes = sizes(plan.workload, plan.input);
    let threads = plan.threads.unwrap_or_else(default_workers);
    let data = batches(&sizes, plan.ragged);
    let examples: Vec<Vec<Example<'_>>> = data
        .iter()
        .map(|batch| batch.iter().map(|(source, target)| Example { source, target }).collect())
        .collect();
    let network = Seq2Seq::new(sizes.architecture.clone())?;
    let parameters = network.initialise(1);
    let mut stepper = Stepper::new(network, parameters, StepOptions { threads, ..StepOptions::default() });
    let mut losses = Vec::new();
    let mut step = || {
        let sums = stepper.step(&examples[losses.len() % BATCHES]).sums;
        losses.push(sums.nats / sums.tokens.max(1) as f64);
        Ok(1)
    };
    let peak_before = peak_gflops(threads);
    warm_up(plan.seconds, BATCHES, || step().map(drop))?;
    let used = processor_seconds();
    let mut steps = 0;
    let speeds = rounds(plan.seconds, || {
        steps += 1;
        step()
    })?;
    let used = processor_seconds().zip(used).map(|(after, before)| after - before).filter(|&s| s > 0.0);
    // The machine may have been busy during one of the two.
    let peak = peak_gflops(threads).max(peak_before);
    let gflop = products(&sizes, &data) / 1e9;
    let share = |q| rounded(quantile(&speeds, q) * gflop / peak, 3);
    Ok(Report {
        framework: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        workload: sizes.name,
        input: if sizes.architecture.source_input == InputForm::OneHot { "one-hot" } else { "embedding" },
        ragged: plan.ragged,
        threads,
        steps_per_second: rounded(quantile(&speeds, 0.5), 3),
        steps_per_processor_second: used.map(|s| rounded(f64::from(steps) / s, 3)),
        rounds: speeds.iter().map(|&speed| rounded(speed, 3)).collect(),
        gflop_per_step: rounded(gflop, 3),
        peak_gflops: rounded(peak, 1),
        share_of_peak: share(0.5),
        share_of_peak_fastest: share(1.0),
        first_loss: rounded(losses.first().copied().unwrap_or(f64::NAN), 4),
        last_loss: rounded(losses.last().copied().unwrap_or(f64::NAN), 4),
    })
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workload,
            input,
            threads,
            steps_per_second,
            rounds,
            first_loss,
            last_loss,
            gflop_per_step,
            peak_gflops,
            ..
        } = self;
        let lengths = if self.ragged { "ragged" } else { "full-length" };
        let each = rounds.iter().map(|speed| format!("{speed:.2}")).collect::<Vec<_>>().join(" ");
        let processor = self
            .steps_per_processor_second
            .map(|s| format!(", {s:.2} a second of one core"))
            .unwrap_or_default();
        write!(
            f,
            "training {workload}, {input} input, {lengths} batches, {threads} threads: {steps_per_second:.2} \
             steps/s{processor}\n\
         rounds: {each}; loss {first_loss:.3} -> {last_loss:.3}\n\
         products: {gflop_per_step:.2} GFLOP a step, {:.0} % of {peak_gflops:.0} GFLOP/s (fastest round \
         {:.0} %)",
            100.0 * self.share_of_peak,
            100.0 * self.share_of_peak_fastest,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_recurrences_the_layers_above_and_the_output() {
        let with = |workload, batch: Vec<(Vec<u32>, Vec<u32>)>| products(&sizes(workload, None), &[batch]);
        let pair = |source, target| (vec![5; source], vec![5; target]);
        // Two steps over a state that is not zero, four of the decoder.
        let expected = 6 * (2 * 4 * 256 * 256 + 4 * (4 * 256 * 256 + 256 * 2500));
        assert_eq!(with(Workload::W1, vec![pair(3, 3)]), f64::from(expected));
        // Two layers: each has a recurrence, one reads the other.
        let square = 4 * 512 * 512;
        let expected = 6 * ((3 + 2 * 2) * square + 4 * (3 * square + 512 * 75));
        assert_eq!(with(Workload::W2, vec![pair(3, 3)]), f64::from(expected));
    }

    #[test]
    fn batches_have_the_steps_of_the_workload() {
        for workload in [Workload::W1, Workload::W2, Workload::W3] {
            let sizes = sizes(workload, None);
            for ragged in [false, true] {
                let data = batches(&sizes, ragged);
                assert!(data.iter().all(|batch| batch.len() == sizes.batch));
                let rows: Vec<_> = data.iter().flatten().collect();
                let longest =
                    |side: fn(&(Vec<u32>, Vec<u32>)) -> usize| rows.iter().map(|row| side(row)).max();
                assert_eq!(longest(|row| row.0.len()), Some(sizes.source_steps));
                assert_eq!(longest(|row| row.1.len()), Some(sizes.target_steps - 1));
                assert_eq!(rows.iter().any(|row| row.0.len() < sizes.source_steps), ragged);
                let within = |ids: &[u32], vocabulary: usize| {
                    ids.iter().all(|&id| (4..vocabulary as u32).contains(&id))
                };
                assert!(rows.iter().all(|row| within(&row.0, sizes.architecture.source_vocabulary)));
                assert!(rows.iter().all(|row| within(&row.1, sizes.architecture.target_vocabulary)));
            }
        }
    }
}
