//! Greedy decoding by the trainer's own pass: what every engine is held against.

use s2s_runtime::contract::{END, PAD, START};

use crate::network::{Parameters, SequenceNetwork};

/// What greedy decoding of one source gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Greedy {
    /// Target ids without START; the last is END where it was reached.
    pub(super) ids: Vec<u32>,
    /// Logits of the first step, (target_vocabulary).
    pub(super) first_logits: Vec<f32>,
}

/// The highest logit: its id and value; of equal ones the lower id.
pub(super) fn highest(logits: &[f32]) -> (u32, f32) {
    (0u32..)
        .zip(logits)
        .fold((END, f32::NEG_INFINITY), |best, (id, &logit)| if logit > best.1 { (id, logit) } else { best })
}

/// The highest logit among the tokens that the runtime's loop may generate: all but PAD and START.
pub(super) fn highest_generated(logits: &[f32]) -> (u32, f32) {
    debug_assert_eq!((PAD, START), (0, 1), "the special ids are the first ones");
    let (id, logit) = highest(&logits[2..]);
    (id + 2, logit)
}

/// Natural logarithms of the softmax of a row of logits.
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let (_, top) = highest(logits);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - top).exp()).sum();
    logits.iter().map(|&x| (f64::from(x - top) - sum.ln()) as f32).collect()
}

/// Softmax of a row of logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let (_, top) = highest(logits);
    let exponentials: Vec<f64> = logits.iter().map(|&x| f64::from(x - top).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|x| (x / sum) as f32).collect()
}

/// Decodes by running the whole teacher-forced pass again for each further token: slow, and with no step of
/// its own that could be wrong in the same way as the exported one.
pub(super) fn greedy(
    network: &dyn SequenceNetwork,
    parameters: &Parameters<f32>,
    sources: &[Vec<u32>],
    steps: usize,
) -> Vec<Greedy> {
    let [_, vocabulary] = network.vocabularies();
    let mut inputs = vec![vec![START]; sources.len()];
    let mut results = vec![Greedy { ids: Vec::new(), first_logits: Vec::new() }; sources.len()];
    let runs = |result: &Greedy| result.ids.len() < steps && result.ids.last() != Some(&END);
    while results.iter().any(runs) {
        let forward = network.forward(parameters, sources, &inputs);
        for (row, (result, input)) in
            results.iter_mut().zip(&mut inputs).enumerate().filter(|(_, (result, _))| runs(result))
        {
            let last =
                &forward.logits[(row * forward.target_time + input.len() - 1) * vocabulary..][..vocabulary];
            if result.first_logits.is_empty() {
                result.first_logits = last.to_vec();
            }
            let (id, _) = highest_generated(last);
            result.ids.push(id);
            input.push(id);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_logits_the_lower_id_wins_and_padding_and_start_are_never_generated() {
        assert_eq!(highest(&[1.0, 8.0, 8.0, 3.0]), (1, 8.0));
        assert_eq!(highest_generated(&[9.0, 8.0, 1.0, 3.0, 3.0, 2.0]), (3, 3.0));
    }

    #[test]
    fn softmax_survives_wide_logits_and_its_logarithm_agrees() {
        let logits = [1000.0, 0.0, 999.0];
        let (p, log) = (softmax(&logits), log_softmax(&logits));
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((p[0].ln() - log[0]).abs() < 1e-6 && log[1] < -999.0 && log[1].is_finite());
    }
}
