//! Rules on a row of logits, f32 (target_vocabulary), in this order: repetition, n-gram, min length,
//! suppress, and for sampling temperature, top-k, top-p, min-p. A banned token gets -inf.
//!
//! log p in scores is the softmax after the first four and before the last four.

mod banned;
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
    ids: Vec<u32>,
    ranked: Vec<(f32, u32)>,
}

/// Whether the rules of every decode leave the row as it is (but for padding and START, which callers
/// never take).
pub(super) fn no_rules(settings: &Settings) -> bool {
    settings.repetition_penalty == 1.0
        && settings.no_repeat_ngram_size == 0
        && settings.min_new_tokens == 0
        && settings.suppress.is_empty()
        && !settings.disable_unk
}

/// The rules of every decode.
///
/// - `special`: padding and START are never generated, END not before its time.
/// - `ids`: the prefix and the generated tokens.
/// - `generated`: how many of them are generated.
pub(super) fn apply_rules(
    logits: &mut [f32],
    settings: &Settings,
    special: SpecialIds,
    ids: &[u32],
    generated: usize,
    scratch: &mut Scratch,
) {
    suppress::apply(logits, &[special.pad, special.start]);
    if settings.repetition_penalty != 1.0 {
        repetition::apply(logits, ids, settings.repetition_penalty, &mut scratch.ids);
    }
    if settings.no_repeat_ngram_size > 0 {
        ngram::apply(logits, ids, settings.no_repeat_ngram_size);
    }
    min_length::apply(logits, special.end, generated, settings.min_new_tokens);
    suppress::apply(logits, &settings.suppress);
    if settings.disable_unk {
        suppress::apply(logits, &[special.unk]);
    }
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
