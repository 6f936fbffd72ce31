//! Ragged rows without padding: time-major, longest first.

/// How the tokens of several texts lie in one matrix: all first tokens, then all second tokens, and so on,
/// the longest text first, so that the texts still running at a step are always the first rows and no padded
/// step is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The text at each position, longest first.
    pub order: Vec<usize>,
    /// The number of texts still running at each step.
    pub sizes: Vec<usize>,
    /// The first row of each step.
    pub offsets: Vec<usize>,
    /// The number of tokens of all texts.
    pub rows: usize,
}

impl Packing {
    /// Lays out texts of these lengths; equal lengths keep their order.
    pub fn new(lengths: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
        let steps = order.first().map_or(0, |&i| lengths[i]);
        let (mut sizes, mut offsets) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
        let (mut running, mut rows) = (lengths.len(), 0);
        for step in 0..steps {
            while lengths[order[running - 1]] <= step {
                running -= 1;
            }
            sizes.push(running);
            offsets.push(rows);
            rows += running;
        }
        Self { order, sizes, offsets, rows }
    }

    /// Counts the steps of the longest text.
    pub fn steps(&self) -> usize {
        self.sizes.len()
    }

    /// Counts the texts, empty ones with them.
    pub fn batch(&self) -> usize {
        self.order.len()
    }

    /// Lists (step, position, text) of every row in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.sizes
            .iter()
            .enumerate()
            .flat_map(move |(step, &n)| (0..n).map(move |position| (step, position, self.order[position])))
    }

    /// Finds the first row of the step before the one that starts at row `first`; `None` for the first step.
    pub fn before(&self, first: usize) -> Option<usize> {
        let step = self.offsets.partition_point(|&offset| offset < first);
        step.checked_sub(1).map(|previous| self.offsets[previous])
    }

    /// Lists the rows of the text at `position`, first token first.
    pub fn rows_of(&self, position: usize) -> impl Iterator<Item = usize> {
        let length = self.sizes.partition_point(|&n| n > position);
        self.offsets[..length].iter().map(move |&first| first + position)
    }

    /// Finds for each row the row of the same text's opposite token: the first for the last, and so on; its
    /// own inverse.
    pub fn reversed_rows(&self) -> Vec<usize> {
        self.iter()
            .map(|(step, position, _)| {
                let length = self.sizes.partition_point(|&n| n > position);
                self.offsets[length - 1 - step] + position
            })
            .collect()
    }

    /// Lists the row of each position's last token; `None` for an empty text.
    pub fn last_rows(&self) -> impl Iterator<Item = Option<usize>> {
        (0..self.batch()).map(|position| {
            let length = self.sizes.partition_point(|&n| n > position);
            length.checked_sub(1).map(|step| self.offsets[step] + position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_time_major_and_longest_first() {
        let packing = Packing::new(&[2, 0, 3, 2]);
        assert_eq!(packing.order, [2, 0, 3, 1]);
        assert_eq!(packing.sizes, [3, 3, 1]);
        assert_eq!(packing.offsets, [0, 3, 6]);
        assert_eq!(packing.rows, 7);
        assert_eq!(packing.last_rows().collect::<Vec<_>>(), [Some(6), Some(4), Some(5), None]);
        assert_eq!(packing.iter().last(), Some((2, 0, 2)));
        assert_eq!(packing.reversed_rows(), [6, 4, 5, 3, 1, 2, 0]);
    }
}
