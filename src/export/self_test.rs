//! The bundle's self test, computed by the trainer's own pass.

use std::collections::BTreeMap;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{START, UNK, file};
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::manifest::{Io, Manifest};
use s2s_runtime::self_test::{Case, SelfTest};

use super::input::{ExportInput, ExportOptions};
use super::reference::{greedy, log_softmax};
use super::rounding::throws;
use super::tolerances::allowed;
use crate::error::Result;
use s2s_kernels::random::Random;

/// Scores of the first step that are kept.
const SCORES: usize = 16;
/// Steps after which the greedy outputs are cut off.
const STEPS: usize = 24;
/// The longest source: enough for padding to matter, short enough to open bundles quickly.
const LONGEST: usize = 24;

/// The text of `self_test.json`: four sources of different lengths, random over the vocabulary but the same
/// for the same weights, since a self test is to be reproducible and the training texts need not be at hand.
pub(super) fn vectors(input: &ExportInput<'_>, options: &ExportOptions) -> Result<Vec<u8>> {
    let cases = sources(input).map(|source| case(input, options.io, source));
    SelfTest { tolerance: tolerance(input), cases: cases.into() }.to_json()
}

/// The same sources through an engine: for weights that the graphs round, which the trainer does not.
pub(super) fn recorded(
    input: &ExportInput<'_>,
    files: &BTreeMap<String, Vec<u8>>,
    manifest: &Manifest,
) -> Result<Vec<u8>> {
    let mut files = files.clone();
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
    let bundle = Bundle::from_files("the new bundle", files)?;
    let mut engine = engine::open(&bundle, EngineKind::Auto)?;
    let test = SelfTest::record(&mut *engine, &manifest.wiring, &sources(input), STEPS)?;
    SelfTest { tolerance: tolerance(input), ..test }.to_json()
}

fn sources(input: &ExportInput<'_>) -> [Vec<u32>; 4] {
    let [symbols, _] = input.network.vocabularies();
    let longest = input.source.spec().longest.clamp(4, LONGEST);
    let mut random = Random::new(1, 0);
    [longest, 1, longest / 2, 3]
        .map(|length| (0..length).map(|_| random_symbol(&mut random, symbols)).collect())
}

/// What engines may be off by: the usual tolerance, wider for a network that amplifies rounding (as
/// [`Tolerances::for_rounding`](super::Tolerances::for_rounding)). The vectors themselves are f32, so that
/// both sides round.
fn tolerance(input: &ExportInput<'_>) -> f32 {
    let sources = sources(input);
    let start = sources.each_ref().map(|_| vec![START]);
    let exact = input.network.forward_exact(&input.parameters.map(f64::from), &sources, &start);
    let error = |a: f32, b: f64| (f64::from(a) - b).abs() / (1.0 + b.abs());
    let largest = throws(input.parameters).fold(0.0, |largest, parameters| {
        let rounded = input.network.forward(&parameters, &sources, &start);
        let states = rounded.states.iter().flat_map(|(_, a)| a).zip(exact.states.iter().flat_map(|(_, b)| b));
        states
            .chain(rounded.logits.iter().zip(&exact.logits))
            .map(|(&a, &b)| error(a, b))
            .fold(largest, f64::max)
    });
    allowed(SelfTest::TOLERANCE, largest as f32)
}

/// A source id that a text can have: any but PAD, START and END.
pub(super) fn random_symbol(random: &mut Random, symbols: usize) -> u32 {
    UNK + random.below(symbols - UNK as usize) as u32
}

fn case(input: &ExportInput<'_>, io: Io, source: Vec<u32>) -> Case {
    let forward = input.network.forward(input.parameters, std::slice::from_ref(&source), &[vec![START]]);
    let decoded =
        greedy(input.network, input.parameters, std::slice::from_ref(&source), STEPS).swap_remove(0);
    // Graphs with one-hot tensors give probabilities, which the runtime reads as logits that are normalised.
    let logits = match io {
        Io::Ids => decoded.first_logits,
        Io::OneHot => log_softmax(&decoded.first_logits),
    };
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(SCORES);
    Case {
        source_ids: source,
        states: forward.states.into_iter().collect(),
        first_logits: ranked,
        output_ids: decoded.ids,
    }
}
