//! Which pairs are trained together, and in which order: a function of (seed, epoch) alone.

use crate::config::training::BatchOrder;
use s2s_kernels::random::Random;

/// Batches of a bucket are cut from so many batches' worth of shuffled pairs, sorted by length.
const BUCKET: usize = 50;

/// The batches of an epoch: positions in the training pairs, cut into runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batches {
    positions: Vec<u32>,
    /// (start, end) of each batch.
    runs: Vec<[u32; 2]>,
}

impl Batches {
    /// Cuts positions into runs of `size`, in their order; the last may be smaller.
    pub fn cut(positions: Vec<u32>, size: usize) -> Self {
        let all = positions.len();
        let size = size.clamp(1, u32::MAX as usize);
        let runs = (0..all).step_by(size).map(|at| [at as u32, all.min(at + size) as u32]).collect();
        Self { positions, runs }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The positions of each batch, in the order of training.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.runs.iter().map(|&[start, end]| &self.positions[start as usize..end as usize])
    }
}

/// The batches of one epoch, as positions in the training pairs; each pair comes once, the last batch may be
/// smaller.
///
/// - `pairs`: how many there are, fewer than 2^32.
/// - `lengths`: (source tokens, target tokens) of a pair.
/// - `epoch`: counted from 1.
///
/// Equal arguments give equal batches on every machine, so that a resumed run needs no state of a generator.
pub fn epoch(
    pairs: usize,
    lengths: impl Fn(usize) -> (usize, usize),
    batch_size: usize,
    order: BatchOrder,
    seed: u64,
    epoch: usize,
) -> Batches {
    let mut random = Random::new(seed, epoch as u64);
    let mut positions: Vec<u32> = (0..u32::try_from(pairs).unwrap_or(u32::MAX)).collect();
    random.shuffle(&mut positions);
    let batch_size = batch_size.clamp(1, u32::MAX as usize);
    let mut runs = Vec::with_capacity(positions.len().div_ceil(batch_size));
    let mut cut = |start: usize, length: usize| {
        let ends = (start..start + length)
            .step_by(batch_size)
            .map(|at| [at as u32, (start + length).min(at + batch_size) as u32]);
        runs.extend(ends);
    };
    match order {
        BatchOrder::Shuffled => cut(0, positions.len()),
        BatchOrder::Bucketed => {
            let mut start = 0;
            for bucket in positions.chunks_mut(batch_size.saturating_mul(BUCKET)) {
                // The target side is the dearer one: its steps end in the output layer.
                bucket.sort_by_cached_key(|&p| {
                    let (source, target) = lengths(p as usize);
                    (target, source)
                });
                cut(start, bucket.len());
                start += bucket.len();
            }
            random.shuffle(&mut runs);
        }
    }
    Batches { positions, runs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(n: usize) -> Vec<(usize, usize)> {
        let mut random = Random::new(9, 9);
        (0..n).map(|_| (1 + random.below(30), 1 + random.below(30))).collect()
    }

    fn all(
        lengths: &[(usize, usize)],
        batch_size: usize,
        order: BatchOrder,
        seed: u64,
        nth: usize,
    ) -> Vec<Vec<u32>> {
        epoch(lengths.len(), |p| lengths[p], batch_size, order, seed, nth)
            .iter()
            .map(<[u32]>::to_vec)
            .collect()
    }

    /// Buckets as lists of lists, which is what runs trained by older versions saw.
    fn bucketed(lengths: &[(usize, usize)], batch_size: usize, seed: u64, nth: u64) -> Vec<Vec<u32>> {
        let mut random = Random::new(seed, nth);
        let mut positions: Vec<u32> = (0..lengths.len() as u32).collect();
        random.shuffle(&mut positions);
        let mut batches = Vec::new();
        for bucket in positions.chunks_mut(batch_size * BUCKET) {
            bucket.sort_by_key(|&p| (lengths[p as usize].1, lengths[p as usize].0));
            batches.extend(bucket.chunks(batch_size).map(<[u32]>::to_vec));
        }
        random.shuffle(&mut batches);
        batches
    }

    #[test]
    fn every_pair_comes_once_an_epoch_and_the_remainder_is_kept() {
        for order in [BatchOrder::Shuffled, BatchOrder::Bucketed] {
            let batches = all(&lengths(1_003), 64, order, 1, 1);
            let mut all: Vec<u32> = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..1_003).collect::<Vec<_>>());
            assert_eq!(
                batches.iter().filter(|b| b.len() != 64).map(Vec::len).collect::<Vec<_>>(),
                [1_003 % 64]
            );
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_and_on_nothing_else() {
        let (lengths, order) = (lengths(300), BatchOrder::Shuffled);
        assert_eq!(all(&lengths, 32, order, 7, 3), all(&lengths, 32, order, 7, 3));
        assert_ne!(all(&lengths, 32, order, 7, 3), all(&lengths, 32, order, 7, 4));
        assert_ne!(all(&lengths, 32, order, 7, 3), all(&lengths, 32, order, 8, 3));
    }

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        assert_eq!(all(&[(1, 1); 8], 4, BatchOrder::Shuffled, 1, 1), GOLDEN);
        let lengths = lengths(1_003);
        for batch_size in [1, 7, 64, 2_000] {
            assert_eq!(
                all(&lengths, batch_size, BatchOrder::Bucketed, 5, 2),
                bucketed(&lengths, batch_size, 5, 2)
            );
        }
    }

    #[test]
    fn buckets_waste_less_padding_than_random_batches() {
        let lengths = lengths(10_000);
        let padding = |order| -> usize {
            let batches = all(&lengths, 64, order, 1, 1);
            let wasted = |b: &Vec<u32>| {
                b.len() * b.iter().map(|&p| lengths[p as usize].1).max().unwrap_or(0)
                    - b.iter().map(|&p| lengths[p as usize].1).sum::<usize>()
            };
            batches.iter().map(wasted).sum()
        };
        assert!(padding(BatchOrder::Bucketed) * 10 < padding(BatchOrder::Shuffled));
    }

    const GOLDEN: [[u32; 4]; 2] = [[1, 2, 6, 5], [4, 0, 3, 7]];
}
