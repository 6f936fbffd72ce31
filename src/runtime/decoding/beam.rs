//! The best continuations of all beams of one request.

use s2s_kernels::search::first_above;

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

/// The highest candidates seen so far, best first; of equal ones the earlier beam, then the lower id.
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

    /// Offers every token of a beam. Beams come in order.
    ///
    /// - `sum`: of the beam so far. `logits`: after the rules; `log_sum_exp`: theirs.
    pub(super) fn offer(&mut self, beam: usize, sum: f32, logits: &[f32], log_sum_exp: f32) {
        let mut from = 0;
        while let Some(at) = first_above(logits, from, self.least(sum, log_sum_exp)) {
            let log_p = logits[at] - log_sum_exp;
            if sum + log_p > self.lowest() {
                #[expect(clippy::cast_possible_truncation, reason = "ids are u32")]
                let id = at as u32;
                self.insert(Candidate { sum: sum + log_p, log_p, beam, id });
            }
            from = at + 1;
        }
    }

    /// A logit that a candidate must exceed at least: one comparison leaves most of a wide vocabulary out. It
    /// is lower than the true limit by more than what rounding can make of that.
    fn least(&self, sum: f32, log_sum_exp: f32) -> f32 {
        let lowest = self.lowest();
        let slack = 8.0 * f32::EPSILON * (lowest.abs() + sum.abs() + log_sum_exp.abs());
        // Not a number where no logit can be left out.
        let least = (lowest - sum) + log_sum_exp - slack;
        if least.is_nan() { f32::NEG_INFINITY } else { least }
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
                best.offer(beam, *sum, row, 1.0);
                all.extend(row.iter().zip(0u32..).map(|(x, id)| Candidate { sum: sum + (x - 1.0), log_p: x - 1.0, beam, id }));
            }
            all.sort_by(|a, b| b.sum.total_cmp(&a.sum));
            all.truncate(most);
            prop_assert_eq!(best.ranked(), &all[..]);
        }
    }
}
