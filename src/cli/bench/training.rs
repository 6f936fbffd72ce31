//! Steps a second of training on synthetic batches; `benches/peers/workloads.py` has the same sizes for the peers.

use s2s_runtime::contract::SPECIAL_SYMBOLS;
use s2s_runtime::translator::default_workers;
use serde::Serialize;

use super::measure::{processor_seconds, quantile, rounded, rounds, warm_up};
use super::{Input, TrainingArgs, Workload};
use crate::error::Result;
use crate::network::{Architecture, Example, InputForm, Seq2Seq};
use crate::random::Random;
use crate::train::{StepOptions, Stepper};

/// Batches that take turns, so that no step sees what the caches hold of the last one.
const BATCHES: usize = 8;
/// Width of an embedding where the workload does not say.
const EMBEDDING: usize = 256;

/// What is measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
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
    let (name, [source_vocabulary, target_vocabulary], own, layers, hidden, batch, source_steps, target_steps) = match workload {
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

/// Pairs of ids, uniform over the vocabulary without the special ids; `ragged` lengths are uniform from a fifth to the whole.
fn batches(sizes: &Sizes, ragged: bool) -> Vec<Vec<(Vec<u32>, Vec<u32>)>> {
    let mut random = Random::new(1, 0);
    let specials = SPECIAL_SYMBOLS.len();
    let mut row = |steps: usize, vocabulary: usize| -> Vec<u32> {
        let shortest = (steps / 5).max(1);
        let length = if ragged { shortest + random.below(steps - shortest + 1) } else { steps };
        (0..length).map(|_| (specials + random.below(vocabulary - specials)) as u32).collect()
    };
    let a = &sizes.architecture;
    let mut pair = || (row(sizes.source_steps, a.source_vocabulary), row(sizes.target_steps - 1, a.target_vocabulary));
    (0..BATCHES).map(|_| (0..sizes.batch).map(|_| pair()).collect()).collect()
}

/// Measures one workload.
pub(super) fn run(args: &TrainingArgs) -> Result<Report> {
    let sizes = sizes(args.workload, args.input);
    let threads = args.threads.unwrap_or_else(default_workers);
    let data = batches(&sizes, args.ragged);
    let examples: Vec<Vec<Example<'_>>> =
        data.iter().map(|batch| batch.iter().map(|(source, target)| Example { source, target }).collect()).collect();
    let network = Seq2Seq::new(sizes.architecture.clone())?;
    let parameters = network.initialise(1);
    let mut stepper = Stepper::new(network, parameters, StepOptions { threads, ..StepOptions::default() });
    let mut losses = Vec::new();
    let mut step = || {
        let sums = stepper.step(&examples[losses.len() % BATCHES]).sums;
        losses.push(sums.nats / sums.tokens.max(1) as f64);
        Ok(1)
    };
    warm_up(args.seconds, BATCHES, || step().map(drop))?;
    let used = processor_seconds();
    let mut steps = 0;
    let speeds = rounds(args.seconds, || {
        steps += 1;
        step()
    })?;
    let used = processor_seconds().zip(used).map(|(after, before)| after - before).filter(|&s| s > 0.0);
    Ok(Report {
        framework: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        workload: sizes.name,
        input: if sizes.architecture.source_input == InputForm::OneHot { "one-hot" } else { "embedding" },
        ragged: args.ragged,
        threads,
        steps_per_second: rounded(quantile(&speeds, 0.5), 3),
        steps_per_processor_second: used.map(|s| rounded(f64::from(steps) / s, 3)),
        rounds: speeds.iter().map(|&speed| rounded(speed, 3)).collect(),
        first_loss: rounded(losses.first().copied().unwrap_or(f64::NAN), 4),
        last_loss: rounded(losses.last().copied().unwrap_or(f64::NAN), 4),
    })
}

/// For people.
pub(super) fn in_words(report: &Report) -> String {
    let Report { workload, input, threads, steps_per_second, rounds, first_loss, last_loss, .. } = report;
    let lengths = if report.ragged { "ragged" } else { "full-length" };
    let each = rounds.iter().map(|speed| format!("{speed:.2}")).collect::<Vec<_>>().join(" ");
    let processor = report.steps_per_processor_second.map(|s| format!(", {s:.2} a second of one core")).unwrap_or_default();
    format!(
        "training {workload}, {input} input, {lengths} batches, {threads} threads: {steps_per_second:.2} steps/s{processor}\n\
         rounds: {each}; loss {first_loss:.3} -> {last_loss:.3}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_the_steps_of_the_workload() {
        for workload in [Workload::W1, Workload::W2, Workload::W3] {
            let sizes = sizes(workload, None);
            for ragged in [false, true] {
                let data = batches(&sizes, ragged);
                assert!(data.iter().all(|batch| batch.len() == sizes.batch));
                let rows: Vec<_> = data.iter().flatten().collect();
                let longest = |side: fn(&(Vec<u32>, Vec<u32>)) -> usize| rows.iter().map(|row| side(row)).max();
                assert_eq!(longest(|row| row.0.len()), Some(sizes.source_steps));
                assert_eq!(longest(|row| row.1.len()), Some(sizes.target_steps - 1));
                assert_eq!(rows.iter().any(|row| row.0.len() < sizes.source_steps), ragged);
                let within = |ids: &[u32], vocabulary: usize| ids.iter().all(|&id| (4..vocabulary as u32).contains(&id));
                assert!(rows.iter().all(|row| within(&row.0, sizes.architecture.source_vocabulary)));
                assert!(rows.iter().all(|row| within(&row.1, sizes.architecture.target_vocabulary)));
            }
        }
    }
}
