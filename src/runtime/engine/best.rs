//! The best few scores of each row, in place of all of them: what greedy decoding and beam search need of a
//! step, and all that has to leave a device for them.

use s2s_kernels::search;

use crate::error::{Error, ErrorKind, Result};

/// What is needed of the scores of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// How many of each row, at least 1; a row has no more than symbols.
    pub best: usize,
    /// Ids that never come, each below the number of symbols: as if their logits were -inf.
    pub banned: &'a [u32],
    /// Over what log-sum-exp goes.
    pub sum: SumOver,
    /// Whether attention weights are needed too.
    pub attention: bool,
}

/// The symbols over which log-sum-exp of a row goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SumOver {
    /// It is not needed.
    #[default]
    Nothing,
    /// Those that are not banned.
    Open,
    /// All.
    All,
}

/// The best few of each row; the buffers are reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct BestFew {
    /// Columns of `ids` and `logits`: [`Wanted::best`], or the number of symbols if that is less.
    pub width: usize,
    /// Ids (rows, width), the highest logit first, of equal ones the lowest id.
    pub ids: Vec<u32>,
    /// Their logits, f32 (rows, width); -inf where no symbol is left, NaN throughout a row whose logits are
    /// no numbers (NaN or +inf).
    pub logits: Vec<f32>,
    /// log of the sum of exp, f32 (rows): as [`Wanted::sum`] says; good for nothing where that is
    /// [`SumOver::Nothing`] or the row has no symbol left.
    pub log_sum_exp: Vec<f32>,
    found: Vec<(usize, f32)>,
}

impl BestFew {
    /// Empties it for rows of `width`.
    pub(super) fn reset(&mut self, width: usize) {
        self.width = width;
        self.ids.clear();
        self.logits.clear();
        self.log_sum_exp.clear();
    }

    /// Takes the best of all logits.
    ///
    /// - `logits`: f32 (rows, `vocabulary`); the banned ones become -inf.
    ///
    /// # Errors
    /// [`ErrorKind::Engine`] if `logits` has no whole rows.
    pub fn take(&mut self, logits: &mut [f32], vocabulary: usize, wanted: &Wanted<'_>) -> Result<()> {
        if vocabulary == 0 || !logits.len().is_multiple_of(vocabulary) {
            let message = format!("{} logits are no rows of {vocabulary}", logits.len());
            return Err(Error::new(ErrorKind::Engine, message));
        }
        self.reset(wanted.best.clamp(1, vocabulary));
        logits.chunks_exact_mut(vocabulary).for_each(|row| self.push(row, wanted));
        Ok(())
    }

    /// Adds a row whose logits are all at hand; the banned ones become -inf.
    pub(crate) fn push(&mut self, row: &mut [f32], wanted: &Wanted<'_>) {
        let sum_of = |row: &[f32], highest: f32| {
            if highest > f32::NEG_INFINITY { search::log_sum_exp(row, highest) } else { f32::NAN }
        };
        let over_all = match wanted.sum {
            SumOver::All => search::maximum(row).map(|highest| sum_of(row, highest)),
            SumOver::Nothing | SumOver::Open => None,
        };
        for &id in wanted.banned {
            if let Some(x) = row.get_mut(id as usize) {
                *x = f32::NEG_INFINITY;
            }
        }
        let first = self.ids.len();
        self.ids.resize(first + self.width, 0);
        let highest = search::maximum(row).filter(|_| wanted.sum != SumOver::All || over_all.is_some());
        let Some(highest) = highest else {
            self.logits.resize(first + self.width, f32::NAN);
            self.log_sum_exp.push(f32::NAN);
            return;
        };
        self.logits.resize(first + self.width, f32::NEG_INFINITY);
        if self.width == 1 {
            self.logits[first] = highest;
            self.ids[first] = search::position(row, highest).map_or(0, id);
        } else {
            search::k_best(row, self.width, &mut self.found);
            let places = self.ids[first..].iter_mut().zip(&mut self.logits[first..]);
            for ((to_id, to_logit), &(at, logit)) in places.zip(&self.found) {
                (*to_id, *to_logit) = (id(at), logit);
            }
        }
        self.log_sum_exp.push(match wanted.sum {
            SumOver::Nothing => f32::NAN,
            SumOver::Open => sum_of(row, highest),
            SumOver::All => over_all.unwrap_or(f32::NAN),
        });
    }

    /// Adds a row of which somebody else found the best: logits and ids, the highest first.
    pub(super) fn push_found(&mut self, ranked: &[(f32, u32)], log_sum_exp: f32) {
        self.logits.extend(ranked.iter().map(|&(logit, _)| logit));
        self.ids.extend(ranked.iter().map(|&(_, id)| id));
        self.log_sum_exp.push(log_sum_exp);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ids are u32")]
fn id(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best(row: &[f32], wanted: Wanted<'_>) -> BestFew {
        let mut best = BestFew::default();
        best.take(&mut row.to_vec(), row.len(), &wanted).unwrap_or_default();
        best
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_stable_sort_and_the_sum_is_that_of_f64(
            row in prop::collection::vec(-9i8..9, 1..200),
            wanted in 1usize..12,
            banned in prop::collection::vec(0u32..200, 0..4),
            all in any::<bool>(),
        ) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let sum = if all { SumOver::All } else { SumOver::Open };
            let found = best(&row, Wanted { best: wanted, banned: &banned, sum, attention: false });
            let mut open: Vec<(f32, u32)> = row.iter().copied().zip(0..).filter(|(_, id)| !banned.contains(id)).collect();
            let counted: Vec<f32> = if all { row.clone() } else { open.iter().map(|&(x, _)| x).collect() };
            open.sort_by(|a, b| b.0.total_cmp(&a.0));
            prop_assert_eq!(found.width, wanted.min(row.len()));
            for at in 0..found.width {
                let expected = open.get(at).copied().unwrap_or((f32::NEG_INFINITY, 0));
                prop_assert_eq!((found.logits[at], found.ids[at]), expected);
            }
            if !open.is_empty() {
                let exact = counted.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
                prop_assert!((f64::from(found.log_sum_exp[0]) - exact).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn rows_that_are_no_numbers_say_so_unless_what_is_none_is_banned() {
        let wanted = |sum| Wanted { best: 2, banned: &[0], sum, attention: false };
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(best(&[0.0, bad, 1.0], wanted(SumOver::Nothing)).logits.iter().all(|x| x.is_nan()));
            assert!(best(&[bad, 0.0, 1.0], wanted(SumOver::All)).logits.iter().all(|x| x.is_nan()));
            let row = best(&[bad, 0.0, 1.0], wanted(SumOver::Open));
            assert_eq!((row.ids, row.logits), (vec![2, 1], vec![1.0, 0.0]));
        }
        assert_eq!(best(&[1.0, f32::NEG_INFINITY], wanted(SumOver::All)).logits, [f32::NEG_INFINITY; 2]);
    }

    #[test]
    fn logits_that_are_no_whole_rows_are_refused() {
        let wanted = Wanted { best: 1, banned: &[], sum: SumOver::Nothing, attention: false };
        assert!(BestFew::default().take(&mut [0.0; 5], 3, &wanted).is_err());
    }
}
