//! What the running rows have said so far, for decoders without states that are fed all of it at each step.

/// The tokens of each running row, START first.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    rows: Vec<Vec<i64>>,
    scratch: Vec<Vec<i64>>,
}

impl Prefixes {
    /// Lets so many rows come behind those that are there; they have said nothing.
    pub(super) fn join(&mut self, rows: usize) {
        self.rows.extend((0..rows).map(|_| Vec::new()));
    }

    /// Keeps `rows` in that order, any row any number of times.
    pub(super) fn keep(&mut self, rows: &[usize]) {
        self.scratch.clear();
        self.scratch.extend(rows.iter().map(|&row| self.rows[row].clone()));
        std::mem::swap(&mut self.rows, &mut self.scratch);
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// Adds a token to each row; gives the tokens of the longest.
    pub(super) fn push(&mut self, tokens: &[i64]) -> usize {
        self.rows.iter_mut().zip(tokens).for_each(|(row, &token)| row.push(token));
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// (rows, columns), filled up with `pad` on the right.
    pub(super) fn padded(&self, columns: usize, pad: i64) -> Vec<i64> {
        let mut ids = Vec::with_capacity(self.rows.len() * columns);
        for row in &self.rows {
            ids.extend(row.iter().take(columns));
            ids.resize(ids.len() + columns.saturating_sub(row.len()), pad);
        }
        ids
    }

    /// Where each row's last token stands among (rows, columns).
    pub(super) fn last(&self, columns: usize) -> Vec<usize> {
        let last = |(at, row): (usize, &Vec<i64>)| at * columns + row.len().clamp(1, columns.max(1)) - 1;
        self.rows.iter().enumerate().map(last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_their_tokens_with_them_and_shorter_ones_are_filled_up_on_the_right() {
        let mut prefixes = Prefixes::default();
        prefixes.join(2);
        assert_eq!(prefixes.push(&[1, 1]), 1);
        assert_eq!(prefixes.push(&[4, 5]), 2);
        prefixes.keep(&[1, 1]);
        prefixes.join(1);
        assert_eq!(prefixes.push(&[6, 7, 1]), 3);
        assert_eq!(prefixes.padded(3, 0), [1, 5, 6, 1, 5, 7, 1, 0, 0]);
        assert_eq!(prefixes.last(3), [2, 5, 6]);
        prefixes.clear();
        assert_eq!((prefixes.push(&[]), prefixes.padded(3, 0)), (0, vec![]));
    }
}
