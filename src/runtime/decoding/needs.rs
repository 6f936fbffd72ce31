//! What requests need of the scores of a step: the best few of each row, unless a rule or a draw may look at
//! any of them.

use super::settings::Settings;
use crate::engine::SumOver;

/// What one request needs of the scores of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// None: its next token is given.
    Nothing,
    /// As many of the best of each row that are not banned for good.
    Best { best: usize, sum: SumOver },
    /// All.
    All,
}

/// Ids that do not come in any row, whatever it has said; in order, each once.
///
/// - `never`: what the tokeniser says is never generated. `unknown`: the id of unknown symbols. `ends`: the
///   ids that end an output. `early`: what does not come yet.
pub(super) fn banned(
    settings: &Settings,
    never: &[u32],
    unknown: u32,
    ends: &[u32],
    early: &[u32],
) -> Vec<u32> {
    let words = settings.bad_words.iter().filter_map(|word| match word.as_slice() {
        &[id] if !ends.contains(&id) => Some(id),
        _ => None,
    });
    let suppressed = settings.suppress.iter().copied();
    let mut banned: Vec<u32> = never.iter().chain(early).copied().chain(words).chain(suppressed).collect();
    banned.extend(settings.disable_unk.then_some(unknown));
    banned.sort_unstable();
    banned.dedup();
    banned
}

impl Needs {
    /// Whatever rules may do at some time or other.
    ///
    /// - `changes_values`: a rule does more than ban and force tokens.
    /// - `ends`: how many ids end an output.
    /// - `wants_log_p`: somebody reads log p of greedy decoding.
    pub(super) fn of(settings: &Settings, changes_values: bool, ends: usize, wants_log_p: bool) -> Self {
        let looks_back = settings.no_repeat_ngram_size > 0
            || settings.encoder_no_repeat_ngram_size > 0
            || settings.bad_words.iter().any(|word| word.len() > 1);
        if settings.do_sample || changes_values || looks_back || settings.forced.is_some() {
            return Self::All;
        }
        if !settings.search {
            let sum = if wants_log_p { SumOver::Open } else { SumOver::Nothing };
            return Self::Best { best: 1, sum };
        }
        // Where log p is not made anew after the rules, what they ban counts in it.
        let sum = if settings.renormalize_logits == Some(false) { SumOver::All } else { SumOver::Open };
        Self::Best { best: candidates(settings, ends), sum }
    }

    /// The same for a step of rows that have said so much.
    ///
    /// - `said`: tokens with the prefix; `generated`: without it.
    pub(super) fn at(self, settings: &Settings, said: usize, generated: usize) -> Self {
        if said < settings.prefix.len() {
            return Self::Nothing;
        }
        let forces_first = settings.forced_bos.is_some();
        let begins = !settings.begin_suppress.is_empty()
            && generated == usize::from(forces_first && settings.prefix.is_empty());
        let forced = forces_first && said == 0
            || !settings.forced_eos.is_empty() && generated + 1 == settings.max_new_tokens;
        if forced || begins { Self::All } else { self }
    }
}

/// The best continuations of all beams that are looked at: so many that as many beams go on, whichever of the
/// others end.
pub(super) fn candidates(settings: &Settings, ends: usize) -> usize {
    (1 + ends).max(2) * settings.num_beams
}
