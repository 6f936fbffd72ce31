//! Whole texts through the shipped decoding loop: one by one, in batches, in every engine, and by the
//! trainer's own pass.

use std::sync::Arc;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::START;
use s2s_runtime::decoding::{DecodingOptions, FinishReason, Hypothesis, Settings, decode_each};
use s2s_runtime::engine::Engine;
use s2s_runtime::manifest::Role;

use super::super::reference::highest_generated;
use super::super::tolerances::Tolerances;
use super::report::{Check, Outcome};
use super::weights::Rebuilt;
use crate::error::{Error, ErrorKind, Result};

/// Rows that are decoded together.
pub(super) const BATCH: usize = 64;

/// Longest outputs of models that do not say how long theirs were in training.
const LONGEST: usize = 64;
/// The same for models from elsewhere, which are larger, and whose random outputs seldom end.
const FOREIGN_LONGEST: usize = 32;

/// The output of one source: target ids, END counted where it was reached.
pub(super) type Output = Vec<u32>;

/// Whether a bundle's graphs come from elsewhere, without the one that a network is rebuilt from.
pub(super) fn is_foreign(bundle: &Bundle) -> bool {
    !bundle.manifest().graphs.contains_key(&Role::Training)
}

/// What the texts of a bundle are decoded with: greedily (1) or with beams, up to the longest target. Models
/// from elsewhere keep what they say of decoding: it may force or ban tokens.
///
/// # Errors
/// Of what the bundle says of decoding.
pub(super) fn settings(bundle: &Bundle, beams: usize) -> Result<Arc<Settings>> {
    let longest = match bundle.target().spec().longest {
        0 if is_foreign(bundle) => FOREIGN_LONGEST,
        0 => LONGEST,
        longest => longest + 1,
    };
    let mut options = DecodingOptions {
        max_new_tokens: Some(longest),
        max_input_length: Some(0),
        num_beams: Some(beams),
        ..DecodingOptions::default()
    };
    if is_foreign(bundle) {
        let plain = DecodingOptions { do_sample: Some(false), num_return_sequences: Some(1), ..options };
        options = DecodingOptions::layered([&bundle.manifest().decoding, &plain]);
        options.time_limit = None;
        options.max_new_tokens = options.max_new_tokens.max(options.min_new_tokens);
    }
    let settings = Settings::with_symbols(&options, bundle.target())?;
    Ok(Arc::new(settings.with_source(&options, &**bundle.source())?))
}

/// Decodes greedily, `rows` texts at a time.
pub(super) fn greedy(
    engine: &mut dyn Engine,
    sources: &[Vec<u32>],
    rows: usize,
    settings: &Arc<Settings>,
) -> Result<Vec<Output>> {
    let end = settings.eos.first().copied().unwrap_or(engine.special_ids().end);
    decode_each(engine, sources.to_vec(), settings, rows)
        .into_iter()
        .map(|hypotheses| {
            let best = hypotheses?.into_iter().next();
            best.map(|best| output(best, end, settings.max_new_tokens))
                .ok_or_else(|| Error::new(ErrorKind::Internal, "decoding gave no hypothesis"))
        })
        .collect()
}

fn output(hypothesis: Hypothesis, end: u32, longest: usize) -> Output {
    let mut ids = hypothesis.ids;
    if hypothesis.finish == FinishReason::Eos && ids.len() < longest {
        ids.push(end);
    }
    ids
}

/// The best hypothesis of a beam search: target ids without END, and its score.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scored {
    ids: Vec<u32>,
    score: f32,
}

/// Decodes with beams, `rows` rows at a time.
pub(super) fn beam(
    engine: &mut dyn Engine,
    sources: &[Vec<u32>],
    rows: usize,
    settings: &Arc<Settings>,
) -> Result<Vec<Scored>> {
    decode_each(engine, sources.to_vec(), settings, rows)
        .into_iter()
        .map(|hypotheses| {
            let best = hypotheses?
                .into_iter()
                .next()
                .ok_or_else(|| Error::new(ErrorKind::Internal, "decoding gave no hypothesis"))?;
            Ok(Scored { ids: best.ids, score: best.score })
        })
        .collect()
}

/// Compares two beam searches of the same sources. They may differ where the two best hypotheses score alike
/// within the tolerance; such texts are listed.
pub(super) fn compare_beams(
    what: &str,
    engine: Option<&str>,
    bundle: &Bundle,
    sources: &[Vec<u32>],
    [a, b]: [&[Scored]; 2],
    tolerances: &Tolerances,
) -> Check {
    let mut ties = Vec::new();
    let mut count = Count::default();
    for ((source, a), b) in sources.iter().zip(a).zip(b) {
        if a.ids == b.ids {
            continue;
        }
        if (a.score - b.score).abs() <= tolerances.score {
            let [text, first, second] = [
                bundle.source().detokenise(source),
                bundle.target().detokenise(&a.ids),
                bundle.target().detokenise(&b.ids),
            ];
            ties.push(format!("{text:?}: {first:?} ({:.7}) and {second:?} ({:.7})", a.score, b.score));
        } else {
            count.differ(source);
        }
    }
    let check = count.check(what, engine, sources.len());
    if ties.is_empty() {
        return check;
    }
    let detail = format!("{}; scores within {:e}: {}", check.detail, tolerances.score, ties.join(", "));
    check.detail(detail)
}

/// Whether, of a source and the tokens before, two tokens are equally good.
pub(super) type IsTie<'a> = dyn FnMut(&[u32], &[u32], [u32; 2]) -> bool + 'a;

/// Compares two decodings of the same sources, text by text.
///
/// - `is_tie`: whether two tokens are equally good after a prefix of the output of a source.
pub(super) fn compare(
    what: &str,
    engine: Option<&str>,
    sources: &[Vec<u32>],
    [a, b]: [&[Output]; 2],
    is_tie: &mut IsTie<'_>,
) -> Check {
    let mut count = Count::default();
    for ((source, a), b) in sources.iter().zip(a).zip(b) {
        if a == b {
            continue;
        }
        let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        match (a.get(at), b.get(at)) {
            (Some(&first), Some(&second)) if is_tie(source, &a[..at], [first, second]) => count.ties += 1,
            _ => count.differ(source),
        }
    }
    count.check(what, engine, sources.len())
}

/// Holds outputs against the trainer: fed with them, it must choose each of their tokens itself.
pub(super) fn against_trainer(
    engine: &str,
    sources: &[Vec<u32>],
    outputs: &[Output],
    rebuilt: &Rebuilt,
    tolerances: &Tolerances,
) -> Check {
    let mut count = Count::default();
    let [_, vocabulary] = rebuilt.network.vocabularies();
    for (sources, outputs) in sources.chunks(BATCH).zip(outputs.chunks(BATCH)) {
        let inputs: Vec<Vec<u32>> =
            outputs.iter().map(|ids| [&[START], &ids[..ids.len().saturating_sub(1)]].concat()).collect();
        let forward = rebuilt.network.forward(&rebuilt.parameters, sources, &inputs);
        for (row, (source, ids)) in sources.iter().zip(outputs).enumerate() {
            let mut tie = false;
            let agrees = ids.iter().enumerate().all(|(step, &id)| {
                let logits = &forward.logits[(row * forward.target_time + step) * vocabulary..][..vocabulary];
                let (best, top) = highest_generated(logits);
                tie |= best != id;
                best == id || near(logits[id as usize], top, tolerances)
            });
            match (agrees, tie) {
                (true, false) => {}
                (true, true) => count.ties += 1,
                (false, _) => count.differ(source),
            }
        }
    }
    count.check("greedy tokens against the trainer", Some(engine), sources.len())
}

/// Whether the trainer, if it is there, finds the two tokens equally good after `prefix`.
pub(super) fn is_tie(
    rebuilt: Option<&Rebuilt>,
    source: &[u32],
    prefix: &[u32],
    tokens: [u32; 2],
    tolerances: &Tolerances,
) -> bool {
    let Some(rebuilt) = rebuilt else { return false };
    let input = [&[START], prefix].concat();
    let forward =
        rebuilt.network.forward(&rebuilt.parameters, &[source.to_vec()], std::slice::from_ref(&input));
    let [_, vocabulary] = rebuilt.network.vocabularies();
    let logits = &forward.logits[(input.len() - 1) * vocabulary..];
    near(logits[tokens[0] as usize], logits[tokens[1] as usize], tolerances)
}

pub(super) fn near(a: f32, b: f32, tolerances: &Tolerances) -> bool {
    (a - b).abs() <= tolerances.tie * a.abs().max(b.abs()).max(1.0)
}

#[derive(Default)]
struct Count {
    differing: usize,
    ties: usize,
    example: Option<Vec<u32>>,
}

impl Count {
    fn differ(&mut self, source: &[u32]) {
        self.differing += 1;
        self.example.get_or_insert_with(|| source.to_vec());
    }

    fn check(self, what: &str, engine: Option<&str>, sources: usize) -> Check {
        let check = Check::measured("decoding", what, engine, self.differing as f64, 0.0);
        let ties = match self.ties {
            0 => String::new(),
            ties => format!("; {ties} ties of two logits fell differently"),
        };
        match self.example {
            Some(ids) if check.outcome == Outcome::Failed => {
                check.detail(format!("of {sources} texts{ties}; the first: source ids {ids:?}"))
            }
            _ => check.detail(format!("of {sources} texts{ties}")),
        }
    }
}
