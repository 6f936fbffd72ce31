//! The best continuations of all beams of one request.

/// A beam continued by one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Sum of log p, this token counted.
    pub(super) sum: f32,
    /// log p of this token.
    pub(super) log_p: f32,
    /// Which beam.
    pub(super) beam: usize,
    /// Which token.
    pub(super) id: u32,
}

/// The highest candidates seen so far, best first; of equal ones the earlier beam, then the higher logit, then
/// the lower id.
#[derive(Debug, Default)]
pub(super) struct Best {
    kept: Vec<Candidate>,
    most: usize,
}

impl Best {
    /// Empties it; it will keep `most`.
    pub(super) fn reset(&mut self, most: usize) {
        self.kept.clear();
        self.most = most;
    }

    /// Offers tokens of a beam. Beams come in order.
    ///
    /// - `sum`: of the beam so far. `ids`, `logits`: of the best tokens after the rules, the highest first, at
    ///   least as many as are kept; `log_sum_exp`: of all.
    pub(super) fn offer(&mut self, beam: usize, sum: f32, ids: &[u32], logits: &[f32], log_sum_exp: f32) {
        for (&id, &logit) in ids.iter().zip(logits) {
            let log_p = logit - log_sum_exp;
            if sum + log_p > self.lowest() {
                self.insert(Candidate { sum: sum + log_p, log_p, beam, id });
            }
        }
    }

    /// Best first.
    pub(super) fn ranked(&self) -> &[Candidate] {
        &self.kept
    }

    /// What a candidate must exceed.
    fn lowest(&self) -> f32 {
        if self.kept.len() < self.most {
            f32::NEG_INFINITY
        } else {
            self.kept.last().map_or(f32::NEG_INFINITY, |c| c.sum)
        }
    }

    fn insert(&mut self, candidate: Candidate) {
        // After equal ones, which came from an earlier beam or a lower id.
        let at = self.kept.partition_point(|c| c.sum >= candidate.sum);
        if self.kept.len() == self.most {
            self.kept.pop();
        }
        self.kept.insert(at, candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_stable_sort(
            rows in prop::collection::vec((-2i8..2, prop::collection::vec(-4i8..4, 90)), 1..4),
            most in 1usize..9,
            scale in prop::sample::select(vec![1f32, 0.1, 1.0 / 3.0, 1e-6, 1e7]),
        ) {
            let rows: Vec<(f32, Vec<f32>)> = rows
                .into_iter()
                .map(|(s, r)| (f32::from(s), r.into_iter().map(|x| f32::from(x) * scale).collect()))
                .collect();
            let mut best = Best::default();
            best.reset(most);
            let mut all = Vec::new();
            for (beam, (sum, row)) in rows.iter().enumerate() {
                let mut ranked: Vec<(f32, u32)> = row.iter().copied().zip(0..).collect();
                ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
                let (logits, ids): (Vec<f32>, Vec<u32>) = ranked.iter().copied().unzip();
                best.offer(beam, *sum, &ids[..most], &logits[..most], 1.0);
                all.extend(ranked.iter().map(|&(x, id)| Candidate { sum: sum + (x - 1.0), log_p: x - 1.0, beam, id }));
            }
            all.sort_by(|a, b| b.sum.total_cmp(&a.sum));
            all.truncate(most);
            prop_assert_eq!(best.ranked(), &all[..]);
        }
    }
}
