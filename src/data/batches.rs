//! Which pairs are trained together, and in which order: a function of (seed, epoch) alone.

use crate::config::training::BatchOrder;
use crate::random::Random;

/// Batches of a bucket are cut from so many batches' worth of shuffled pairs, sorted by length.
const BUCKET: usize = 50;

/// The batches of one epoch, as positions in the training pairs; each pair comes once, the last batch may be smaller.
///
/// - `lengths`: (source tokens, target tokens) of each pair.
/// - `epoch`: counted from 1.
///
/// Equal arguments give equal batches on every machine, so that a resumed run needs no state of a generator.
pub fn epoch(lengths: &[(usize, usize)], batch_size: usize, order: BatchOrder, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut random = Random::new(seed, epoch as u64);
    let mut positions: Vec<usize> = (0..lengths.len()).collect();
    random.shuffle(&mut positions);
    let batch_size = batch_size.max(1);
    let mut batches = Vec::with_capacity(positions.len().div_ceil(batch_size));
    match order {
        BatchOrder::Shuffled => batches.extend(positions.chunks(batch_size).map(<[usize]>::to_vec)),
        BatchOrder::Bucketed => {
            for bucket in positions.chunks_mut(batch_size.saturating_mul(BUCKET)) {
                // The target side is the dearer one: its steps end in the output layer.
                bucket.sort_by_key(|&p| (lengths[p].1, lengths[p].0));
                batches.extend(bucket.chunks(batch_size).map(<[usize]>::to_vec));
            }
            random.shuffle(&mut batches);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(n: usize) -> Vec<(usize, usize)> {
        let mut random = Random::new(9, 9);
        (0..n).map(|_| (1 + random.below(30), 1 + random.below(30))).collect()
    }

    #[test]
    fn every_pair_comes_once_an_epoch_and_the_remainder_is_kept() {
        for order in [BatchOrder::Shuffled, BatchOrder::Bucketed] {
            let batches = epoch(&lengths(1_003), 64, order, 1, 1);
            let mut all: Vec<usize> = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..1_003).collect::<Vec<_>>());
            assert_eq!(batches.iter().filter(|b| b.len() != 64).map(Vec::len).collect::<Vec<_>>(), [1_003 % 64]);
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_and_on_nothing_else() {
        let (lengths, order) = (lengths(300), BatchOrder::Shuffled);
        assert_eq!(epoch(&lengths, 32, order, 7, 3), epoch(&lengths, 32, order, 7, 3));
        assert_ne!(epoch(&lengths, 32, order, 7, 3), epoch(&lengths, 32, order, 7, 4));
        assert_ne!(epoch(&lengths, 32, order, 7, 3), epoch(&lengths, 32, order, 8, 3));
    }

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        assert_eq!(epoch(&[(1, 1); 8], 4, BatchOrder::Shuffled, 1, 1), GOLDEN);
    }

    #[test]
    fn buckets_waste_less_padding_than_random_batches() {
        let lengths = lengths(10_000);
        let padding = |order| -> usize {
            let batches = epoch(&lengths, 64, order, 1, 1);
            let wasted = |b: &Vec<usize>| {
                b.len() * b.iter().map(|&p| lengths[p].1).max().unwrap_or(0) - b.iter().map(|&p| lengths[p].1).sum::<usize>()
            };
            batches.iter().map(wasted).sum()
        };
        assert!(padding(BatchOrder::Bucketed) * 10 < padding(BatchOrder::Shuffled));
    }

    const GOLDEN: [[usize; 4]; 2] = [[1, 2, 6, 5], [4, 0, 3, 7]];
}
