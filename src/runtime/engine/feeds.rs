//! Sources, ids and masks as the graphs of a plan want them.

use super::graph::DataView;
use super::interface::IdMatrix;
use super::plan::{Mask, Plan};
use super::tokens::Tokens;
use crate::vocabulary::PaddingSide;

/// Ids as an input wants them; as they are where it wants int64.
pub(super) fn id_view<'a>(buffer: &'a mut Tokens, element_type: i32, ids: &'a [i64]) -> DataView<'a> {
    match element_type {
        crate::graph_info::INT64 => DataView::I64(ids),
        other => buffer.fill(other, ids.iter().copied()),
    }
}

/// Left-padded sources where the encoder wants them, with what stands around them.
pub(super) fn placed(plan: &Plan, sources: &IdMatrix, lengths: &[usize], columns: usize) -> Vec<i64> {
    let mut ids = Vec::with_capacity(sources.rows * columns);
    for (row, &length) in sources.data.chunks_exact(sources.columns).zip(lengths) {
        let padding = columns - length;
        let around = usize::from(plan.before.is_some()) + usize::from(plan.behind.is_some());
        let fill = std::iter::repeat_n(i64::from(plan.special.pad), padding);
        let own = &row[row.len() - (length - around)..];
        let (left, right) = match plan.side {
            PaddingSide::Left => (Some(fill), None),
            PaddingSide::Right => (None, Some(fill)),
        };
        ids.extend(left.into_iter().flatten());
        ids.extend(plan.before.iter().chain(own).chain(&plan.behind));
        ids.extend(right.into_iter().flatten());
    }
    ids
}

/// (rows, columns) that say where padding is.
pub(super) fn mask_view<'a>(
    buffer: &'a mut Tokens,
    mask: &Mask,
    side: PaddingSide,
    lengths: impl Iterator<Item = usize>,
    columns: usize,
) -> DataView<'a> {
    let [token, padding] = mask.values;
    let value = move |length: usize, column: usize| {
        let own = match side {
            PaddingSide::Left => column + length >= columns,
            PaddingSide::Right => column < length,
        };
        if own { token } else { padding }
    };
    let values = lengths.flat_map(move |length| (0..columns).map(move |column| value(length, column)));
    buffer.fill(mask.element_type, values)
}
