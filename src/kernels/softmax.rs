//! Softmax cross-entropy on packed rows, loss and gradient in one pass over the logits.

use super::activations::exp;
use super::level::multiversion;
use super::real::Real;

/// What one row contributed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowLoss {
    /// -ln of the softmax of the logits at the target, in nats.
    pub nats: f64,
    /// Whether the target had the highest logit.
    pub correct: bool,
}

/// Gives the loss of one row of logits and turns the row into the gradient of the logits.
///
/// - `logits` (vocabulary): become (softmax(logits) - aim) * `scale`, where the aim is the one-hot target or,
///   with label smoothing, (1 - `smoothing`) of it and `smoothing` spread evenly over all symbols. The loss
///   is always that of the target alone, so that it can be compared.
pub fn softmax_cross_entropy<R: Real>(logits: &mut [R], target: usize, scale: R, smoothing: R) -> RowLoss {
    let highest = highest(logits);
    let at_target = logits[target];
    let sum = exponentiate(logits, highest);
    let nats = (highest - at_target).to_f64() + sum.to_f64().ln();
    let spread = scale * smoothing * R::from_f64(1.0 / logits.len() as f64);
    rescale(logits, scale / sum, spread);
    logits[target] = logits[target] - scale * (R::ONE - smoothing);
    RowLoss { nats, correct: at_target >= highest }
}

/// Turns a row of scores into probabilities: e^score over the sum of all.
pub fn softmax<R: Real>(scores: &mut [R]) {
    let highest = highest(scores);
    let sum = exponentiate(scores, highest);
    rescale(scores, R::ONE / sum, R::ZERO);
}

multiversion! {
    /// Turns each row of `scores` (rows, `width`) into probabilities. What a row's own scores become does not
    /// depend on how many masked ones stand before or behind them: a score that is lower than the highest by
    /// more than 87 gets 0, and the sum begins at the first that has more.
    pub fn softmax_rows(scores: &mut [f32], width: usize) {
        if width == 0 {
            return;
        }
        for row in scores.chunks_exact_mut(width) {
            // What does not fill the lanes is computed in them all the same: rows of attention are short.
            let (chunks, rest) = row.as_chunks_mut::<LANES>();
            let mut last = [f32::NEG_INFINITY; LANES];
            last[..rest.len()].copy_from_slice(rest);
            let mut lanes = last;
            for chunk in &*chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = if x > *lane { x } else { *lane };
                }
            }
            let highest = halved(lanes, |a, b| if a > b { a } else { b });
            let probability = |x: f32| {
                let below = x - highest;
                // Not e^-87, which times a value may be subnormal.
                if below < -87.0 { 0.0 } else { exp::<FMA>(below) }
            };
            chunks.as_flattened_mut().iter_mut().for_each(|x| *x = probability(*x));
            last.iter_mut().for_each(|x| *x = probability(*x));
            rest.copy_from_slice(&last[..rest.len()]);
            let begin = row.iter().position(|&x| x != 0.0).unwrap_or(0);
            let (chunks, rest) = row[begin..].as_chunks::<LANES>();
            let mut sums = [0.0f32; LANES];
            for chunk in chunks {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum += x;
                }
            }
            for (sum, x) in sums.iter_mut().zip(rest) {
                *sum += x;
            }
            let factor = 1.0 / halved(sums, |a, b| a + b);
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// Combines the lanes in pairs, half of them at a time.
#[inline(always)]
fn halved(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] = combine(lanes[j], lanes[j + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Lanes that sums and maxima run in, so that the compiler may vectorise them without reordering within a
/// lane.
const LANES: usize = 16;

multiversion! {
    /// Finds the highest logit.
    fn highest<R: Real>(logits: &[R]) -> R {
        let mut lanes = [logits[0]; LANES];
        let (chunks, rest) = logits.as_chunks::<LANES>();
        for chunk in chunks {
            for j in 0..LANES {
                lanes[j] = if chunk[j] > lanes[j] { chunk[j] } else { lanes[j] };
            }
        }
        let mut highest = lanes[0];
        for &x in lanes.iter().chain(rest) {
            highest = if x > highest { x } else { highest };
        }
        highest
    }
}

multiversion! {
    /// Replaces each x by e^(x - highest) and gives their sum.
    fn exponentiate<R: Real>(logits: &mut [R], highest: R) -> R {
        let mut lanes = [R::ZERO; LANES];
        let (chunks, rest) = logits.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for j in 0..LANES {
                chunk[j] = (chunk[j] - highest).exp::<FMA>();
                lanes[j] += chunk[j];
            }
        }
        let mut sum = R::ZERO;
        for x in rest {
            *x = (*x - highest).exp::<FMA>();
            sum += *x;
        }
        for lane in lanes {
            sum += lane;
        }
        sum
    }
}

multiversion! {
    /// Multiplies each value, then subtracts.
    fn rescale<R: Real>(values: &mut [R], factor: R, less: R) {
        for x in values {
            *x = *x * factor - less;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_gradient_are_those_of_the_definition() {
        let logits: Vec<f64> = (0..37).map(|i| f64::from((i * 7) % 11) * 0.3 - 1.0).collect();
        let sum: f64 = logits.iter().map(|x| x.exp()).sum();
        let mut gradient = logits.clone();
        for smoothing in [0.0, 0.1] {
            gradient.clone_from(&logits);
            let loss = softmax_cross_entropy(&mut gradient, 5, 0.5, smoothing);
            assert!((loss.nats - (sum.ln() - logits[5])).abs() < 1e-12);
            for (j, g) in gradient.iter().enumerate() {
                let aim = (1.0 - smoothing) * f64::from(u8::from(j == 5)) + smoothing / 37.0;
                assert!((g - 0.5 * (logits[j].exp() / sum - aim)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn rows_of_scores_become_their_probabilities() {
        for width in [1, 7, 16, 25, 64, 100] {
            let scores: Vec<f32> = (0..3 * width).map(|i| ((i * 37) % 101) as f32 / 5.0 - 150.0).collect();
            let mut rows = scores.clone();
            softmax_rows(&mut rows, width);
            for (row, scores) in rows.chunks_exact(width).zip(scores.chunks_exact(width)) {
                let highest = scores.iter().fold(f64::MIN, |a, &b| a.max(f64::from(b)));
                let sum: f64 = scores.iter().map(|&x| (f64::from(x) - highest).exp()).sum();
                for (&got, &x) in row.iter().zip(scores) {
                    let want = (f64::from(x) - highest).exp() / sum;
                    assert!((f64::from(got) - want).abs() <= 1e-6 * want, "{got} for {want}, width {width}");
                }
            }
        }
    }

    #[test]
    fn masked_scores_before_and_behind_a_row_change_no_bit_of_it() {
        let scores: Vec<f32> = (0..37).map(|i| ((i * 29) % 37) as f32 / 3.0).collect();
        let mut alone = scores.clone();
        softmax_rows(&mut alone, scores.len());
        for (before, behind) in [(1, 0), (0, 1), (5, 18), (16, 3), (40, 0), (0, 40)] {
            let mut row = [vec![-1e9; before], scores.clone(), vec![f32::NEG_INFINITY; behind]].concat();
            let width = row.len();
            softmax_rows(&mut row, width);
            assert_eq!(row[before..][..scores.len()], alone, "{before} before, {behind} behind");
            assert!(row[..before].iter().chain(&row[before + scores.len()..]).all(|&x| x == 0.0));
        }
    }

    #[test]
    fn a_nan_logit_gives_a_nan_loss() {
        let mut logits = vec![0.0f32; 20];
        logits[3] = f32::NAN;
        assert!(softmax_cross_entropy(&mut logits, 5, 1.0, 0.0).nats.is_nan());
    }
}
