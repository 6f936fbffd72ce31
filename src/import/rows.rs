//! The rows of a model's vocabularies under our ids; `None` stands for a symbol that the model does not have.

use s2s_runtime::contract::{END, START};
use s2s_runtime::vocabulary::VocabularySpec;

/// A vocabulary of ours, and the model's row behind each id; none is a row of zeros.
pub(super) struct Side {
    pub(super) spec: VocabularySpec,
    pub(super) rows: Vec<Option<usize>>,
}

/// A symbol that the model does not have gets a logit lower than any that it can give, by so many nats: its
/// probability is below 2e-9 of the least likely one.
const MARGIN: f32 = 20.0;

/// The rows of the target as the output layer has them. Where one symbol both starts and ends targets, the
/// model has one score for it: that of END.
pub(super) fn of_outputs(target: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut rows = target.to_vec();
    let [start, end] = [START, END].map(|id| id as usize);
    if rows[start] == rows[end] {
        rows[start] = None;
    }
    rows
}

/// The weight of the output layer (inputs, symbols).
///
/// - `weight`: the model's, an input each (its symbols).
pub(super) fn output_weight<'a>(
    weight: impl Iterator<Item = &'a [f32]>,
    rows: &[Option<usize>],
) -> (Vec<usize>, Vec<f32>) {
    let values: Vec<f32> =
        weight.flat_map(|row| rows.iter().map(|at| at.map_or(0.0, |at| row[at]))).collect();
    (vec![values.len() / rows.len().max(1), rows.len()], values)
}

/// The bias of the output layer (symbols), which reads values within 1: a state, a context of states, a tanh.
///
/// - `weight`, `bias`: the model's, an input each (its symbols), and (its symbols).
pub(super) fn output_bias<'a>(
    weight: impl Iterator<Item = &'a [f32]>,
    bias: &[f32],
    rows: &[Option<usize>],
) -> (Vec<usize>, Vec<f32>) {
    let mut sums = vec![0.0f32; bias.len()];
    for row in weight {
        sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w.abs());
    }
    // No logit is lower than its bias less the sum of its weights.
    let least = bias.iter().zip(&sums).map(|(bias, sum)| bias - sum);
    let lowest = least.fold(f32::INFINITY, f32::min) - MARGIN;
    (vec![rows.len()], rows.iter().map(|at| at.map_or(lowest, |at| bias[at])).collect())
}

/// The rows of an embedding; that of PAD is zero whatever the model has there, because no graph reads it.
///
/// - `values` (the model's rows, `width`).
pub(super) fn embedding(values: &[f32], width: usize, rows: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
    let row = |(id, at): (usize, &Option<usize>)| match at {
        Some(at) if id > 0 => values[at * width..][..width].to_vec(),
        _ => vec![0.0; width],
    };
    (vec![rows.len(), width], rows.iter().enumerate().flat_map(row).collect())
}
