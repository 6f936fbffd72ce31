//! The bundle's self test, computed by the trainer's own pass.

use std::collections::BTreeMap;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{UNK, file};
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::manifest::{Io, Manifest};
use s2s_runtime::self_test::{Case, SelfTest};

use super::reference::{greedy, log_softmax};
use super::{ExportInput, ExportOptions};
use crate::error::Result;
use crate::random::Random;

/// Scores of the first step that are kept.
const SCORES: usize = 16;
/// Steps after which the greedy outputs are cut off.
const STEPS: usize = 24;
/// The longest source: enough for padding to matter, short enough to open bundles quickly.
const LONGEST: usize = 24;

/// The text of `self_test.json`: four sources of different lengths, random over the vocabulary but the same for the same
/// weights, since a self test is to be reproducible and the training texts need not be at hand.
pub(super) fn vectors(input: &ExportInput<'_>, options: &ExportOptions) -> Result<Vec<u8>> {
    let cases = sources(input).map(|source| case(input, options.io, source));
    SelfTest { tolerance: SelfTest::TOLERANCE, cases: cases.into() }.to_json()
}

/// The same sources through an engine: for weights that the graphs round, which the trainer does not.
pub(super) fn recorded(input: &ExportInput<'_>, files: &BTreeMap<String, Vec<u8>>, manifest: &Manifest) -> Result<Vec<u8>> {
    let mut files = files.clone();
    files.insert(file::MANIFEST.to_owned(), manifest.to_yaml()?.into_bytes());
    let bundle = Bundle::from_files("the new bundle", files)?;
    let mut engine = engine::open(&bundle, EngineKind::Auto)?;
    SelfTest::record(&mut *engine, &manifest.wiring, &sources(input), STEPS)?.to_json()
}

fn sources(input: &ExportInput<'_>) -> [Vec<u32>; 4] {
    let symbols = input.network.architecture().source_vocabulary;
    let longest = input.source.spec().longest.clamp(4, LONGEST);
    let mut random = Random::new(1, 0);
    [longest, 1, longest / 2, 3].map(|length| (0..length).map(|_| random_symbol(&mut random, symbols)).collect())
}

/// A source id that a text can have: any but PAD, START and END.
pub(super) fn random_symbol(random: &mut Random, symbols: usize) -> u32 {
    UNK + random.below(symbols - UNK as usize) as u32
}

fn case(input: &ExportInput<'_>, io: Io, source: Vec<u32>) -> Case {
    let forward = input.network.forward(input.parameters, std::slice::from_ref(&source), &[vec![s2s_runtime::contract::START]]);
    let decoded = greedy(input.network, input.parameters, std::slice::from_ref(&source), STEPS).swap_remove(0);
    // Graphs with one-hot tensors give probabilities, which the runtime reads as logits that are normalised.
    let logits = match io {
        Io::Ids => decoded.first_logits,
        Io::OneHot => log_softmax(&decoded.first_logits),
    };
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(SCORES);
    Case { source_ids: source, states: forward.states.into_iter().collect(), first_logits: ranked, output_ids: decoded.ids }
}
