//! Rules on a row of logits, f32 (target_vocabulary), in the order of transformers: the source's tokens,
//! repetition, n-grams, n-grams of the source, bad words, min length, forced first and last token, growth of
//! END, suppressed tokens; and for sampling temperature, top-k, top-p, min-p. A banned token gets -inf.
//!
//! log p in scores is the softmax after the rules and before what sampling alone has; in a beam search with
//! `renormalize_logits` the rules work on log p instead (see [`Group`](super::group::Group)).

mod bad_words;
mod banned;
mod end_growth;
mod forced;
mod min_length;
mod min_p;
mod ngram;
mod repetition;
mod suppress;
mod temperature;
mod top_k;
mod top_p;

use super::settings::Settings;
use crate::contract::SpecialIds;

/// Buffers that the rules reuse.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    history: Vec<u32>,
    ids: Vec<u32>,
    ranked: Vec<(f32, u32)>,
}

/// What the rules know of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) special: SpecialIds,
    /// Ids that are never generated.
    pub(super) never: &'a [u32],
    /// The ids that end an output.
    pub(super) ends: &'a [u32],
    /// Without padding.
    pub(super) source: &'a [u32],
    /// The prefix and the generated tokens.
    pub(super) ids: &'a [u32],
    /// How many of them are generated.
    pub(super) generated: usize,
}

/// Whether the rules of every decode leave every row as it is (but for what is never generated, which callers
/// never take).
pub(super) fn no_rules(settings: &Settings) -> bool {
    !changes_values(settings)
        && settings.no_repeat_ngram_size == 0
        && settings.encoder_no_repeat_ngram_size == 0
        && settings.bad_words.is_empty()
        && settings.min_new_tokens == 0
        && settings.forced_bos.is_none()
        && settings.forced_eos.is_empty()
        && settings.suppress.is_empty()
        && settings.begin_suppress.is_empty()
        && !settings.disable_unk
}

/// Whether a rule does more than ban and force tokens, so that it matters whether it is given logits or log
/// p.
pub(super) fn changes_values(settings: &Settings) -> bool {
    settings.repetition_penalty != 1.0
        || settings.encoder_repetition_penalty != 1.0
        || settings.exponential_decay.is_some()
}

/// The rules of every decode.
///
/// - `certain`: what a token gets that is forced: the value in `logits` that means log p = 0.
pub(super) fn apply_rules(logits: &mut [f32], context: Context<'_>, certain: f32, scratch: &mut Scratch) {
    let Context { settings, special, never, ends, source, ids, generated } = context;
    // START counts as the first token, as it does for transformers: it matters where START is an id that may
    // come again (that of END, in BART).
    scratch.history.clear();
    scratch.history.push(special.start);
    scratch.history.extend_from_slice(ids);
    let history = &scratch.history[..];
    // Of every beam; transformers 4.57 reaches the first one alone.
    if settings.encoder_repetition_penalty != 1.0 {
        repetition::apply(logits, source, settings.encoder_repetition_penalty.recip(), &mut scratch.ids);
    }
    if settings.repetition_penalty != 1.0 {
        repetition::apply(logits, history, settings.repetition_penalty, &mut scratch.ids);
    }
    if settings.no_repeat_ngram_size > 0 {
        ngram::apply(logits, history, history, settings.no_repeat_ngram_size);
    }
    if settings.encoder_no_repeat_ngram_size > 0 {
        ngram::apply(logits, source, history, settings.encoder_no_repeat_ngram_size);
    }
    bad_words::apply(logits, &settings.bad_words, history, ends);
    min_length::apply(logits, ends, generated, settings.min_new_tokens);
    if let Some(first) = settings.forced_bos.filter(|_| ids.is_empty()) {
        forced::apply(logits, &[first], certain);
    }
    if !settings.forced_eos.is_empty() && generated + 1 == settings.max_new_tokens {
        forced::apply(logits, &settings.forced_eos, certain);
    }
    if let Some((start, factor)) = settings.exponential_decay {
        end_growth::apply(logits, ends, generated.saturating_sub(start), factor);
    }
    suppress::apply(logits, &settings.suppress);
    let forces_first = settings.forced_bos.is_some() && settings.prefix.is_empty();
    if generated == usize::from(forces_first) {
        suppress::apply(logits, &settings.begin_suppress);
    }
    if settings.disable_unk {
        suppress::apply(logits, &[special.unk]);
    }
    suppress::apply(logits, never);
}

/// The rules that only shape what is drawn.
pub(super) fn apply_sampling(logits: &mut [f32], settings: &Settings, scratch: &mut Scratch) {
    temperature::apply(logits, settings.temperature);
    if settings.top_k > 0 {
        top_k::apply(logits, settings.top_k, &mut scratch.ranked);
    }
    if settings.top_p < 1.0 {
        top_p::apply(logits, settings.top_p, &mut scratch.ranked);
    }
    if settings.min_p > 0.0 {
        min_p::apply(logits, settings.min_p);
    }
}
