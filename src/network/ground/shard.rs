//! A shard's texts packed side by side, and which rows of both sides belong together.

use std::ops::Range;

use s2s_runtime::contract::{END, START};

use super::packing::Packing;
use s2s_kernels::Real;

/// A source text and a target text as ids, without START and END: the network adds them where teacher forcing
/// needs them.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// The text that is read.
    pub source: &'a [u32],
    /// The text that is to be written.
    pub target: &'a [u32],
}

/// A shard's texts, packed.
#[derive(Clone, Debug)]
pub(in crate::network) struct Shard {
    pub(in crate::network) source: Packing,
    pub(in crate::network) target: Packing,
    pub(in crate::network) source_ids: Vec<u32>,
    pub(in crate::network) decoder_ids: Vec<u32>,
    pub(in crate::network) target_ids: Vec<u32>,
    /// For each position of the target packing, the position of the same example in the source packing.
    source_position: Vec<usize>,
}

/// Rows of both sides text by text, for attention.
#[derive(Clone, Debug, Default)]
pub struct Alignment {
    /// Packed source rows in the order of the texts.
    pub source_rows: Vec<usize>,
    /// Packed target rows in the order of the texts.
    pub target_rows: Vec<usize>,
    /// Where each text lies.
    pub texts: Vec<AlignedText>,
    /// Pairs of a target token and a source token, over all texts.
    pub cells: usize,
}

/// One text within an [`Alignment`].
#[derive(Clone, Debug)]
pub struct AlignedText {
    /// Its part of `source_rows`.
    pub sources: Range<usize>,
    /// Its part of `target_rows`.
    pub targets: Range<usize>,
    /// Its part of the pairs, (target tokens, source tokens).
    pub cells: Range<usize>,
}

impl Shard {
    /// Teacher forcing: the decoder reads START and the target, and is to write the target and END.
    pub(in crate::network) fn new(examples: &[Example<'_>]) -> Self {
        let sources: Vec<&[u32]> = examples.iter().map(|e| e.source).collect();
        let inputs: Vec<Vec<u32>> = examples.iter().map(|e| [&[START], e.target].concat()).collect();
        let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
        let targets: Vec<&[u32]> = examples.iter().map(|e| e.target).collect();
        Self::of(&sources, &inputs, &targets)
    }

    /// Any texts; without `targets` there is nothing to score.
    pub(in crate::network) fn of(sources: &[&[u32]], inputs: &[&[u32]], targets: &[&[u32]]) -> Self {
        let source = Packing::new(&sources.iter().map(|s| s.len()).collect::<Vec<_>>());
        let target = Packing::new(&inputs.iter().map(|s| s.len()).collect::<Vec<_>>());
        let mut position = vec![0; sources.len()];
        source.order.iter().enumerate().for_each(|(p, &example)| position[example] = p);
        Self {
            source_ids: source.iter().map(|(step, _, example)| sources[example][step]).collect(),
            decoder_ids: target.iter().map(|(step, _, example)| inputs[example][step]).collect(),
            target_ids: match targets {
                [] => Vec::new(),
                _ => target
                    .iter()
                    .map(|(step, _, example)| targets[example].get(step).copied().unwrap_or(END))
                    .collect(),
            },
            source_position: target.order.iter().map(|&example| position[example]).collect(),
            source,
            target,
        }
    }

    /// Rows in the source packing's order, brought into the target packing's order.
    pub(in crate::network) fn to_target<R: Real>(&self, rows: &[R]) -> Vec<R> {
        let width = rows.len() / self.source.batch().max(1);
        self.source_position.iter().flat_map(|&p| &rows[p * width..(p + 1) * width]).copied().collect()
    }

    /// The inverse of [`to_target`](Self::to_target).
    pub(in crate::network) fn to_source<R: Real>(&self, rows: &[R]) -> Vec<R> {
        let width = rows.len() / self.source.batch().max(1);
        let mut out = vec![R::ZERO; rows.len()];
        for (row, &p) in rows.chunks_exact(width.max(1)).zip(&self.source_position) {
            out[p * width..(p + 1) * width].copy_from_slice(row);
        }
        out
    }

    /// Which source rows each target row may look at.
    pub(in crate::network) fn alignment(&self) -> Alignment {
        let mut alignment = Alignment::default();
        for (position, &source_position) in self.source_position.iter().enumerate() {
            let (sources, targets) = (alignment.source_rows.len(), alignment.target_rows.len());
            alignment.source_rows.extend(self.source.rows_of(source_position));
            alignment.target_rows.extend(self.target.rows_of(position));
            let (sources, targets) =
                (sources..alignment.source_rows.len(), targets..alignment.target_rows.len());
            let cells = alignment.cells..alignment.cells + sources.len() * targets.len();
            alignment.cells = cells.end;
            alignment.texts.push(AlignedText { sources, targets, cells });
        }
        alignment
    }
}
