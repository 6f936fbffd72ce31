//! Inputs of the checks: ids drawn at random or from texts, and their tensors.

use s2s_runtime::contract::{END, PAD, START, UNK};
use s2s_runtime::engine::graph::{DataView, TensorView};
use s2s_runtime::graph_info::{FLOAT, TensorInfo};
use s2s_runtime::vocabulary::Tokeniser;

use super::super::reference::greedy;
use super::weights::Rebuilt;
use s2s_kernels::random::Random;

/// A ragged batch for one size of the sweep.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Source ids, no padding.
    pub(super) sources: Vec<Vec<u32>>,
    /// START and target ids, no padding.
    pub(super) inputs: Vec<Vec<u32>>,
}

/// Texts in a batch of the sweep.
pub(super) const BATCHES: [usize; 3] = [1, 2, 7];
/// Tokens of the longest text in a batch of the sweep.
pub(super) const TIMES: [usize; 3] = [1, 5, 33];

/// Batches of every size of the sweep; the first text of each is as long as the batch, the others are of any
/// length.
pub(super) fn sweep(source_symbols: usize, target_symbols: usize, seed: u64) -> Vec<Batch> {
    let mut random = Random::new(seed, 1);
    let mut batches = Vec::new();
    for batch in BATCHES {
        for (i, time) in TIMES.into_iter().enumerate() {
            // Source and target lengths of a real batch differ: a graph that mixes up its axes is to be
            // found.
            let target_time = TIMES[(i + batch) % TIMES.len()];
            let mut ids = |row: usize, longest: usize, symbols: usize| -> Vec<u32> {
                let length = if row == 0 { longest } else { 1 + random.below(longest) };
                (0..length).map(|_| UNK + random.below(symbols - UNK as usize) as u32).collect()
            };
            let sources = (0..batch).map(|row| ids(row, time, source_symbols)).collect();
            let inputs = (0..batch)
                .map(|row| [vec![START], ids(row, target_time, target_symbols)[1..].to_vec()].concat())
                .collect();
            batches.push(Batch { sources, inputs });
        }
    }
    batches
}

/// Texts that are compared number by number: enough to be typical, few enough to be quick.
const TEXTS: usize = 64;

/// One batch of the texts, spread over all that were given, each with what the trainer itself writes for it.
pub(super) fn of_texts(sources: &[Vec<u32>], rebuilt: &Rebuilt, longest_target: usize) -> Vec<Batch> {
    let stride = sources.len().div_ceil(TEXTS).max(1);
    let sources: Vec<Vec<u32>> = sources.iter().step_by(stride).cloned().collect();
    let written = greedy(&*rebuilt.network, &rebuilt.parameters, &sources, longest_target.clamp(1, 64));
    let inputs =
        written.iter().map(|w| [&[START], w.ids.strip_suffix(&[END]).unwrap_or(&w.ids)].concat()).collect();
    vec![Batch { sources, inputs }]
}

/// `count` sources of random lengths and ids.
pub(super) fn random_sources(vocabulary: &dyn Tokeniser, count: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Random::new(seed, 2);
    let longest = vocabulary.spec().longest.clamp(8, 64);
    let symbol = |random: &mut Random| UNK + random.below(vocabulary.size() - UNK as usize) as u32;
    (0..count)
        .map(|_| {
            let length = 1 + random.below(longest);
            (0..length).map(|_| symbol(&mut random)).collect()
        })
        .collect()
}

impl Batch {
    /// What the decoder is to write: its input shifted by one, and END.
    pub(super) fn targets(&self) -> Vec<Vec<u32>> {
        self.inputs.iter().map(|input| [&input[1..], &[END]].concat()).collect()
    }

    /// Tokens of the longest decoder input.
    pub(super) fn target_time(&self) -> usize {
        self.inputs.iter().map(Vec::len).max().unwrap_or_default()
    }
}

/// Tokens as a graph takes them: ids, or one-hot rows whose padding is zero.
pub(super) struct Tokens {
    shape: Vec<usize>,
    ids: Vec<i64>,
    rows: Option<Vec<f32>>,
}

/// On which side a text is filled up with PAD.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Tokens {
    /// A batch as the input `info` wants it: ids, or one-hot rows if it is f32.
    pub(super) fn new(info: Option<&TensorInfo>, texts: &[Vec<u32>], side: Side, vocabulary: usize) -> Self {
        let time = texts.iter().map(Vec::len).max().unwrap_or_default();
        let mut ids = Vec::with_capacity(texts.len() * time);
        for text in texts {
            let padding = std::iter::repeat_n(i64::from(PAD), time - text.len());
            let tokens = text.iter().map(|&id| i64::from(id));
            match side {
                Side::Left => ids.extend(padding.chain(tokens)),
                Side::Right => ids.extend(tokens.chain(padding)),
            }
        }
        let mut shape = vec![texts.len(), time];
        let rows = info.is_some_and(|info| info.element_type == FLOAT).then(|| {
            shape.push(vocabulary);
            let mut rows = vec![0.0; ids.len() * vocabulary];
            for (row, &id) in rows.chunks_exact_mut(vocabulary).zip(&ids) {
                if id != i64::from(PAD) {
                    row[usize::try_from(id).unwrap_or_default()] = 1.0;
                }
            }
            rows
        });
        Self { shape, ids, rows }
    }

    pub(super) fn view(&self) -> TensorView<'_> {
        let data = self.rows.as_deref().map_or(DataView::I64(&self.ids), DataView::F32);
        TensorView { shape: &self.shape, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sweep_has_every_size_with_ragged_rows_and_known_ids() {
        let batches = sweep(9, 6, 0);
        assert_eq!(batches.len(), BATCHES.len() * TIMES.len());
        let sizes: Vec<(usize, usize)> =
            batches.iter().map(|b| (b.sources.len(), b.sources[0].len())).collect();
        assert!(BATCHES.iter().all(|&b| TIMES.iter().all(|&t| sizes.contains(&(b, t)))), "{sizes:?}");
        assert!(batches.iter().any(|b| b.sources.iter().any(|s| s.len() < b.sources[0].len())));
        assert!(batches.iter().all(|b| b.sources.iter().flatten().all(|&id| (UNK..9).contains(&id))));
        assert!(batches.iter().all(|b| {
            b.inputs.iter().all(|i| i[0] == START && i[1..].iter().all(|&id| (UNK..6).contains(&id)))
        }));
    }

    #[test]
    fn one_hot_rows_of_padding_are_zero() {
        let float = TensorInfo { name: "x".to_owned(), element_type: FLOAT, shape: None };
        let tokens = Tokens::new(Some(&float), &[vec![3], vec![1, 2]], Side::Left, 4);
        let TensorView { shape, data: DataView::F32(rows) } = tokens.view() else { panic!("rows") };
        assert_eq!(shape, [2, 2, 4]);
        assert_eq!(rows[..8], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
