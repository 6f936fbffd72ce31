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
        const LANES: usize = 16;
        for (at, chunk) in logits.chunks(LANES).enumerate() {
            let lowest = self.lowest();
            let mut any = false;
            for &x in chunk {
                any |= sum + (x - log_sum_exp) > lowest;
            }
            if !any {
                continue;
            }
            for (lane, &x) in chunk.iter().enumerate() {
                let log_p = x - log_sum_exp;
                if sum + log_p > self.lowest() {
                    #[expect(clippy::cast_possible_truncation, reason = "ids are u32")]
                    let id = (at * LANES + lane) as u32;
                    self.insert(Candidate { sum: sum + log_p, log_p, beam, id });
                }
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
            rows in prop::collection::vec((-2i8..2, prop::collection::vec(-4i8..4, 40)), 1..4),
            most in 1usize..9,
        ) {
            let rows: Vec<(f32, Vec<f32>)> =
                rows.into_iter().map(|(s, r)| (f32::from(s), r.into_iter().map(f32::from).collect())).collect();
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
