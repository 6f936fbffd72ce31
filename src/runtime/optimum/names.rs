//! The names that Optimum gives to files, inputs and outputs.

/// What the encoder gives, and the decoder's input for that.
pub(super) const HIDDEN: &str = "encoder_hidden_states";
/// The decoder's input that says where sources are padding.
pub(super) const ENCODER_MASK: &str = "encoder_attention_mask";
/// Tokens: the encoder's input, and the decoder's.
pub(super) const IDS: &str = "input_ids";
/// The encoder's input that says where sources are padding.
pub(super) const MASK: &str = "attention_mask";
/// The encoder's output.
pub(super) const LAST_HIDDEN: &str = "last_hidden_state";
/// The decoder's scores.
pub(super) const LOGITS: &str = "logits";
/// Chooses the branch of a merged decoder.
pub(super) const USE_CACHE: &str = "use_cache_branch";
/// Inputs that are computed from the number of tokens before.
pub(super) const POSITION_IDS: &str = "position_ids";
pub(super) const CACHE_POSITION: &str = "cache_position";
pub(super) const DECODER_MASK: &str = "decoder_attention_mask";

/// Whose keys or values a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Decoder,
    Encoder,
}

/// Whose cache an input `past_key_values.LAYER.SIDE.{key,value}` is.
pub(super) fn past(name: &str) -> Option<Side> {
    side(name.strip_prefix("past_key_values.")?)
}

/// The output that is the next value of an input as [`past`] knows it.
pub(super) fn present_of(past: &str) -> String {
    past.replacen("past_key_values.", "present.", 1)
}

/// Whether an output is the keys or values of the encoder, `present.LAYER.encoder.{key,value}`.
pub(super) fn is_encoder_present(name: &str) -> bool {
    name.strip_prefix("present.").and_then(side) == Some(Side::Encoder)
}

fn side(rest: &str) -> Option<Side> {
    let mut parts = rest.split('.');
    parts.next()?.parse::<u16>().ok()?;
    let side = match parts.next()? {
        "decoder" => Side::Decoder,
        "encoder" => Side::Encoder,
        _ => return None,
    };
    (matches!(parts.next()?, "key" | "value") && parts.next().is_none()).then_some(side)
}
