//! Arrangements as one lookup: every tensor is a table of equal blocks, and the result picks some of them.
//! That is all that a device must be able to do to let rows join, leave, change places and grow.

use super::arrange::{Arrangement, Run};

/// What blocks of which parts make the result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Values of a block; 0 where the result has none.
    pub(super) width: usize,
    /// The parts whose blocks stand one behind the other in the table, in that order.
    pub(super) parts: Vec<usize>,
    /// Whether a block of zeros stands behind them.
    pub(super) zeros: bool,
    /// For each block of the result, the block of the table.
    pub(super) index: Vec<i64>,
}

impl Blocks {
    /// The largest blocks that make `arrangement` of parts with these axes.
    ///
    /// # Errors
    /// A sentence about a part that does not fit.
    pub(super) fn of(arrangement: &Arrangement<'_>, shapes: &[&[usize]]) -> Result<Self, String> {
        let parts: Vec<(&[usize], usize)> =
            shapes.iter().map(|&shape| (shape, shape.iter().product())).collect();
        let total: usize = arrangement.shape().iter().product();
        let (mut runs, mut used) = (Vec::new(), vec![false; parts.len()]);
        arrangement.for_each_run(&parts, |run| {
            used[run.part] = true;
            runs.push(run);
        })?;
        let mut width = total;
        for &Run { part, from, to, len } in &runs {
            width = [from, to, len, parts[part].1].into_iter().fold(width, greatest_common_divisor);
        }
        if width == 0 {
            return Ok(Self::default());
        }
        let mut blocks = Self { width, ..Self::default() };
        let mut begins = vec![0; parts.len()];
        let mut behind = 0;
        for (part, _) in used.iter().enumerate().filter(|(_, used)| **used) {
            begins[part] = behind;
            behind += parts[part].1 / width;
            blocks.parts.push(part);
        }
        #[expect(clippy::cast_possible_wrap, reason = "a tensor has fewer than 2^63 blocks")]
        let number = |block: usize| block as i64;
        blocks.index = vec![number(behind); total / width];
        for Run { part, from, to, len } in runs {
            let first = begins[part] + from / width;
            let places = &mut blocks.index[to / width..(to + len) / width];
            places.iter_mut().zip(first..).for_each(|(place, block)| *place = number(block));
        }
        blocks.zeros = blocks.index.contains(&number(behind));
        Ok(blocks)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::vocabulary::PaddingSide;
    use proptest::prelude::*;

    /// Parts of (a, rows, b, ...) in random order, and what is made of them.
    fn looked_up(
        arrangement: &Arrangement<'_>,
        parts: &[(Vec<usize>, Vec<u32>)],
    ) -> Result<Vec<u32>, String> {
        let shapes: Vec<&[usize]> = parts.iter().map(|(shape, _)| shape.as_slice()).collect();
        let blocks = Blocks::of(arrangement, &shapes)?;
        let mut table: Vec<u32> = blocks.parts.iter().flat_map(|&part| parts[part].1.clone()).collect();
        table.extend(vec![0; if blocks.zeros { blocks.width } else { 0 }]);
        let block = |&at: &i64| {
            let first = usize::try_from(at).unwrap() * blocks.width;
            table[first..first + blocks.width].to_vec()
        };
        Ok(blocks.index.iter().flat_map(block).collect())
    }

    proptest! {
        #[test]
        fn a_lookup_makes_what_copying_makes(
            lengths in prop::collection::vec((1usize..4, 0usize..5), 1..4),
            inner in 1usize..4,
            heads in 1usize..3,
            picks in prop::collection::vec((0usize..4, 0usize..4), 1..6),
            wanted in 0usize..6,
            from in 0usize..2,
            to in 0usize..2,
            left: bool,
            grows: bool,
        ) {
            // Rows of (heads, time, inner).
            let mut next = 0;
            let time = |length: usize| if grows { length } else { wanted };
            let parts: Vec<(Vec<usize>, Vec<u32>)> = lengths.iter().map(|&(rows, length)| {
                let mut shape = vec![heads, time(length), inner];
                shape.insert(from, rows);
                let count: usize = shape.iter().product();
                let data = (0..count).map(|_| { next += 1; next }).collect();
                (shape, data)
            }).collect();
            let rows: Vec<(usize, usize)> = picks.iter().map(|&(part, row)| {
                let part = part % parts.len();
                (part, row % parts[part].0[from])
            }).collect();
            let side = if left { PaddingSide::Left } else { PaddingSide::Right };
            let along = grows.then_some((1, side));
            let arrangement = Arrangement { rows: &rows, row_shape: &[heads, wanted, inner], from, to, along };
            let views: Vec<(&[usize], &[u32])> = parts.iter().map(|(s, d)| (s.as_slice(), d.as_slice())).collect();
            prop_assert_eq!(looked_up(&arrangement, &parts), arrangement.collect(&views));
        }
    }

    #[test]
    fn rows_that_change_places_are_one_block_each() {
        let rows = [(0, 2), (0, 0), (0, 0)];
        let beams = Arrangement { rows: &rows, row_shape: &[8, 5, 64], from: 0, to: 0, along: None };
        let blocks = Blocks::of(&beams, &[&[3, 8, 5, 64]]).unwrap();
        assert_eq!(blocks, Blocks { width: 8 * 5 * 64, parts: vec![0], zeros: false, index: vec![2, 0, 0] });
        // Only what one part has is read.
        let blocks = Blocks::of(&beams, &[&[3, 8, 5, 64], &[9, 8, 5, 64]]).unwrap();
        assert_eq!(blocks.parts, [0]);
    }

    #[test]
    fn a_part_that_does_not_fit_is_refused() {
        let arrangement = Arrangement { rows: &[(0, 3)], row_shape: &[2], from: 0, to: 0, along: None };
        assert!(Blocks::of(&arrangement, &[&[3, 2]]).is_err());
        assert!(Blocks::of(&Arrangement { rows: &[(1, 0)], ..arrangement }, &[&[3, 2]]).is_err());
        assert!(Blocks::of(&Arrangement { rows: &[(0, 0)], ..arrangement }, &[&[3, 4]]).is_err());
    }
}
