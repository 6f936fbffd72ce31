//! Scores of hypotheses: sums of log probabilities, divided by a power of the length, plus the coverage term;
//! and the rule that ends a beam search, which compares them.

use super::options::{EarlyStopping, LengthPenaltyType};
use super::settings::Settings;

/// What the sum of log p is divided by, for `n` generated tokens (END counted): `avg` n^a; `gnmt` ((5 + n) /
/// 6)^a (Wu et al. 2016, arXiv 1609.08144, equation 14); `none` 1.
pub fn length_divisor(kind: LengthPenaltyType, a: f32, n: usize) -> f32 {
    // An empty hypothesis (no token, not even END) has sum 0: any divisor will do.
    let n = n.max(1) as f32;
    match kind {
        LengthPenaltyType::Avg => n.powf(a),
        LengthPenaltyType::Gnmt => ((5.0 + n) / 6.0).powf(a),
        LengthPenaltyType::None => 1.0,
    }
}

/// b * sum over source positions of log min(sum over steps of attention, 1) (the same paper; b is
/// `coverage_penalty`).
///
/// - `coverage`: attention summed over the steps, f32 (source_time), padding left out.
pub fn coverage_term(coverage: &[f32], b: f32) -> f32 {
    if b == 0.0 {
        return 0.0;
    }
    // A position that was never attended has log 0: the smallest positive number keeps hypotheses comparable.
    b * coverage.iter().map(|&c| c.clamp(f32::MIN_POSITIVE, 1.0).ln()).sum::<f32>()
}

/// The score of a hypothesis with `n` generated tokens, END counted.
pub fn score(settings: &Settings, sum: f32, n: usize, coverage: &[f32]) -> f32 {
    sum / length_divisor(settings.length_penalty_type, settings.length_penalty, n)
        + coverage_term(coverage, settings.coverage_penalty)
}

/// Whether a beam search is over, as transformers does it.
///
/// - `finished`: scores of the finished hypotheses, the best `enough` kept.
/// - `best_running`: the highest sum of log p among running beams; none is over.
/// - `generated`: tokens of a running beam.
pub(super) fn beams_done(
    settings: &Settings,
    finished: &[f32],
    best_running: Option<f32>,
    generated: usize,
) -> bool {
    let Some(best) = best_running else { return true };
    if finished.len() < settings.enough {
        return false;
    }
    let worst = finished.iter().copied().fold(f32::INFINITY, f32::min);
    let attainable =
        |n: usize| best / length_divisor(settings.length_penalty_type, settings.length_penalty, n);
    match settings.early_stopping {
        EarlyStopping::True => true,
        // A sum of log p is negative, so the largest divisor gives the highest score; a longer hypothesis has
        // a larger one if a > 0.
        EarlyStopping::Never if settings.length_penalty > 0.0 => worst >= attainable(settings.max_new_tokens),
        EarlyStopping::False | EarlyStopping::Never => worst >= attainable(generated),
    }
}
