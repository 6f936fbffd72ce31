//! The graph that decodes by itself, against the runtime's loop.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{ENCODER_INPUT, END, GENERATED_IDS, GENERATED_LENGTHS, MAX_NEW_TOKENS, PAD};
use s2s_runtime::engine::graph::{DataView, Graph, Tensor, TensorView};
use s2s_runtime::engine::{EngineKind, IdMatrix, load_graph};
use s2s_runtime::manifest::Role;

use super::super::tolerances::Tolerances;
use super::decoding::{BATCH, Output, compare, is_tie};
use super::report::{Check, Outcome};
use super::weights::Rebuilt;
use crate::error::{Error, ErrorKind, Result};

/// Texts that are decoded one by one too.
const SINGLE: usize = 16;

/// Decodes `sources` in batches and the first of them one by one; `expected` is what the runtime's loop gave
/// in the same engine with at most `longest` tokens.
pub(super) fn check(
    bundle: &Bundle,
    kind: EngineKind,
    sources: &[Vec<u32>],
    expected: &[Output],
    longest: usize,
    rebuilt: Option<&Rebuilt>,
    tolerances: &Tolerances,
) -> Result<Vec<Check>> {
    if kind == EngineKind::Tract {
        let check = Check::new(
            bundle.graph_name(Role::Translate),
            "greedy tokens",
            Some(kind.as_str()),
            Outcome::Skipped,
        );
        return Ok(vec![check.detail("tract has no Loop")]);
    }
    let name = bundle.graph_name(Role::Translate);
    let mut graph = load_graph(
        kind,
        name,
        bundle.graph(Role::Translate)?,
        &[ENCODER_INPUT, MAX_NEW_TOKENS],
        &[GENERATED_IDS, GENERATED_LENGTHS],
    )?;
    let batched = decode(&mut *graph, name, sources, BATCH, longest)?;
    let few = sources.len().min(SINGLE);
    let single = decode(&mut *graph, name, &sources[..few], 1, longest)?;
    let on = Some(kind.as_str());
    let compare = |what: &str, sources, outputs| Check {
        subject: name.to_owned(),
        ..compare(what, on, sources, outputs, &mut |source, prefix, tokens| {
            is_tie(rebuilt, source, prefix, tokens, tolerances)
        })
    };
    let all = format!("greedy tokens, batch {BATCH} against the runtime's loop");
    Ok(vec![
        compare(&all, sources, [expected, &batched]),
        compare(
            "greedy tokens, batch 1 against the runtime's loop",
            &sources[..few],
            [&expected[..few], &single],
        ),
    ])
}

fn decode(
    graph: &mut dyn Graph,
    name: &str,
    sources: &[Vec<u32>],
    rows: usize,
    longest: usize,
) -> Result<Vec<Output>> {
    let mut found = Vec::with_capacity(sources.len());
    let mut tensors = Vec::new();
    for batch in sources.chunks(rows) {
        let source = IdMatrix::left_padded(batch.iter().map(Vec::as_slice), PAD);
        let limit = [i64::try_from(longest).unwrap_or(i64::MAX)];
        let inputs = [
            TensorView { shape: &[source.rows, source.columns], data: DataView::I64(&source.data) },
            TensorView { shape: &[], data: DataView::I64(&limit) },
        ];
        graph.run(&inputs, &mut tensors)?;
        let wrong = |message: &str| Error::new(ErrorKind::Parity, message).in_graph(name, None);
        let [ids, lengths] = &tensors[..] else { return Err(wrong("it gives no two outputs")) };
        found.extend(outputs(ids, lengths, batch.len(), longest).map_err(wrong)?);
    }
    Ok(found)
}

/// The rows of one call, END put back where a row ended before the limit.
fn outputs(
    ids: &Tensor,
    lengths: &Tensor,
    rows: usize,
    longest: usize,
) -> std::result::Result<Vec<Output>, &'static str> {
    let &[height, width] = &ids.shape[..] else { return Err("its ids are no matrix") };
    if height != rows || lengths.data.len() != rows || width > longest {
        return Err("its outputs have other sizes than the batch");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ids and lengths")]
    let row = |(at, &length): (usize, &f32)| {
        let (written, rest) = ids.data[at * width..(at + 1) * width].split_at((length as usize).min(width));
        if rest.iter().any(|&id| id != PAD as f32) {
            return Err("a row is not padded after its length");
        }
        let mut output: Output = written.iter().map(|&id| id as u32).collect();
        if output.len() < longest {
            output.push(END);
        }
        Ok(output)
    };
    lengths.data.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor { shape: shape.to_vec(), data: data.to_vec() }
    }

    #[test]
    fn rows_end_where_their_length_says_and_padding_must_follow() {
        let lengths = tensor(&[2], &[3.0, 1.0]);
        assert_eq!(
            outputs(&tensor(&[2, 3], &[5.0, 6.0, 7.0, 4.0, 0.0, 0.0]), &lengths, 2, 3),
            Ok(vec![vec![5, 6, 7], vec![4, END]])
        );
        assert!(outputs(&tensor(&[2, 3], &[5.0, 6.0, 7.0, 4.0, 0.0, 4.0]), &lengths, 2, 3).is_err());
        assert!(outputs(&tensor(&[2, 3], &[0.0; 6]), &lengths, 2, 2).is_err());
    }
}
