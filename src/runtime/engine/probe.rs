//! What padding does to a pair of graphs that nothing else says it of: found out by running it once, on one
//! text alone and beside a longer one.
//!
//! An encoder that reads padding as if it were text gives another state where a longer text stands beside;
//! no metadata says so, and nothing fails. Such a pair is right only where texts of one length are encoded
//! together, and, if the decoder reads what padding left in its memory, only where they run together.

use std::sync::Arc;

use super::interface::{Encoded, Engine as _, IdMatrix, Joins, Lengths, StepOutput};
use super::onnx::{OnnxEngine, Probed};
use super::state::{Carried, Kind, Part};
use crate::error::Result;

/// How far scores may be apart, relative above 1, and still be the same.
///
/// A row of another batch is summed in another order: in f32 that makes some 1e-6 of difference for a graph,
/// and up to 1e-5 for a deep one. What padding leaves in a state is 1e-2 to 1. Graphs of lower precision
/// that round by what stands beside (dynamic quantisation does) are found too, rightly so.
const TOLERANCE: f32 = 1e-4;
/// Ids of the two sources: enough for a convolution, and no multiple of each other, so that no pooling maps
/// both to as many places.
const SHORT: usize = 5;
const LONG: usize = 12;
/// Decoder steps that are compared.
const STEPS: usize = 3;

/// Runs the pair and lets the engine know what that shows. Where the pair cannot be run at all, its first
/// text says why; until then nothing is put together.
pub(super) fn probe(engine: &mut OnnxEngine) {
    // Sources of a graph that fixes their length have no padding.
    if engine.plan().source_columns.is_some() {
        return;
    }
    let probed = found(engine).unwrap_or_else(|error| {
        let remark = format!("padding could not be tried: {}", error.message());
        Probed { lengths: Lengths::One, causal: false, remark: Some(remark.into()) }
    });
    engine.clear();
    engine.learn(probed, None);
}

fn found(engine: &mut OnnxEngine) -> Result<Probed> {
    let [short, long] = &sources(engine);
    let first = encode(engine, &[short])?;
    let second = encode(engine, &[long])?;
    let carried = own_times(engine, [&first, &second]);
    let [first, second] = match &carried {
        None => [first, second],
        // What was encoded says of itself which tensors have a time.
        Some(carried) => {
            engine.learn(Probed::default(), Some(Arc::clone(carried)));
            [encode(engine, &[short])?, encode(engine, &[long])?]
        }
    };
    let alone = scores(engine, &[&first])?;
    let mut probed = Probed::default();
    let [encoder, decoder] = [engine.plan().encoder.clone(), engine.plan().decoder.clone()];
    // Leaves the short source alone with what the encoder gave of it beside a longer one.
    let beside = encode(engine, &[short, long]).and_then(|both| scores_of_first(engine, &both));
    let (lengths, remark) = match beside {
        Err(error) if encode(engine, &[short, short]).is_err() => {
            (Lengths::Alone, Some(format!("{encoder} takes one text at a time: {}", error.message())))
        }
        beside => match differs(&alone, beside) {
            None => (Lengths::Any, None),
            Some(how) => {
                let remark = format!(
                    "{encoder} reads padding as text ({how}): only texts of one length are encoded together"
                );
                (Lengths::OneToEncode, Some(remark))
            }
        },
    };
    (probed.lengths, probed.remark) = (lengths, remark.map(Into::into));
    if let Some(how) = differs(&alone, scores(engine, &[&first, &second])) {
        let remark =
            format!("{decoder} reads padding as text ({how}): only texts of one length are decoded together");
        (probed.lengths, probed.remark) = (Lengths::One, Some(remark.into()));
    }
    if matches!(probed.lengths, Lengths::OneToEncode | Lengths::One) {
        // Is it padding, or any company?
        let other = long[..SHORT].to_vec();
        let beside = encode(engine, &[short, &other]).and_then(|both| scores(engine, &[&both]));
        if let Some(how) = differs(&alone, beside) {
            let remark = format!(
                "{decoder} scores a text by what is decoded beside it ({how}): texts are decoded one at a time"
            );
            (probed.lengths, probed.remark) = (Lengths::Apart, Some(remark.into()));
        }
    }
    if engine.plan().prefix.is_some_and(|prefix| !prefix.last_alone) {
        // Rows of two ages are let in for once.
        engine.learn(Probed { causal: true, ..Probed::default() }, None);
        probed.causal = engine.joins() == Joins::AnyAge && is_causal(engine, &first, &alone).unwrap_or(false);
    }
    Ok(probed)
}

/// Two sources of ordinary symbols.
fn sources(engine: &OnnxEngine) -> [Vec<u32>; 2] {
    let plan = engine.plan();
    let symbols = u32::try_from(plan.source_vocabulary).unwrap_or(u32::MAX);
    let special = plan.special.all();
    // Spread over the vocabulary; few are looked at, however many there are.
    let spread = (0..).map(|at: u32| (symbols / 3).wrapping_add(at.wrapping_mul(7)) % symbols.max(1));
    let mut ordinary: Vec<u32> = spread.take(64).filter(|id| !special.contains(id)).collect();
    if ordinary.is_empty() {
        ordinary.push(plan.special.unk);
    }
    let source =
        |from: usize, length: usize| ordinary.iter().copied().cycle().skip(from).take(length).collect();
    [source(0, SHORT), source(SHORT, LONG)]
}

fn encode(engine: &mut OnnxEngine, sources: &[&Vec<u32>]) -> Result<Encoded> {
    let pad = engine.special_ids().pad;
    engine.encode(&IdMatrix::left_padded(sources.iter().map(|source| source.as_slice()), pad))
}

/// The memory with a time that is not the source's, told by the lengths that it has for two sources; `None`
/// where there is none.
fn own_times(engine: &OnnxEngine, encoded: [&Encoded; 2]) -> Option<Arc<[Carried]>> {
    let parts = encoded.map(|encoded| encoded.get::<Part>());
    let [Some(short), Some(long)] = parts else { return None };
    let mut carried: Vec<Carried> = engine.plan().carried.to_vec();
    let mut changed = false;
    for (at, carried) in carried.iter_mut().enumerate() {
        let Kind::Memory { time } = &mut carried.kind else { continue };
        let [a, b] = [short, long].map(|part| part.row_shape(at, carried.batch));
        let varies: Vec<usize> = (0..a.len().min(b.len())).filter(|&axis| a[axis] != b[axis]).collect();
        let found = match varies[..] {
            // What has as many places for both has them for all.
            [] => (None, false),
            [axis] => (Some(axis), (a[axis], b[axis]) != (short.columns, long.columns)),
            // Such rows are not put side by side: their shapes differ.
            _ => continue,
        };
        changed |= (*time, carried.own_time) != found;
        (*time, carried.own_time) = found;
    }
    changed.then(|| carried.into())
}

/// The scores of the first row in some steps, beside the other rows.
fn scores(engine: &mut OnnxEngine, encoded: &[&Encoded]) -> Result<Vec<f32>> {
    engine.clear();
    encoded.iter().try_for_each(|encoded| engine.join(encoded, 0..encoded.rows))?;
    steps(engine)
}

/// The same of the first row alone, of several that were encoded.
fn scores_of_first(engine: &mut OnnxEngine, encoded: &Encoded) -> Result<Vec<f32>> {
    engine.clear();
    engine.join(encoded, 0..1)?;
    steps(engine)
}

fn steps(engine: &mut OnnxEngine) -> Result<Vec<f32>> {
    let (width, rows) = (engine.target_vocabulary(), engine.rows());
    let mut output = StepOutput::default();
    let mut scores = Vec::new();
    for token in tokens(engine) {
        engine.step(&vec![token; rows], &mut output)?;
        scores.extend_from_slice(output.logits.get(..width).unwrap_or_default());
    }
    Ok(scores)
}

/// START, and some symbols that a model might say.
fn tokens(engine: &OnnxEngine) -> [i64; STEPS] {
    let symbols = engine.target_vocabulary().max(1) as u64;
    let start = engine.special_ids().start;
    std::array::from_fn(|at| match at {
        0 => i64::from(start),
        _ => i64::try_from((symbols / 2 + at as u64) % symbols).unwrap_or(0),
    })
}

/// How far scores are from those of one text alone, if that is more than rounding.
fn differs(alone: &[f32], beside: Result<Vec<f32>>) -> Option<String> {
    let beside = match beside {
        Ok(beside) => beside,
        Err(error) => return Some(error.message().to_owned()),
    };
    if alone.len() != beside.len() {
        return Some(format!("{} scores instead of {}", beside.len(), alone.len()));
    }
    let error = |(a, b): (&f32, &f32)| match (a - b).abs() / (1.0 + a.abs()) {
        // Scores of symbols that are never said may be no numbers in both.
        _ if a == b || a.is_nan() && b.is_nan() => 0.0,
        error if error.is_nan() => f32::INFINITY,
        error => error,
    };
    let largest = alone.iter().zip(&beside).map(error).fold(0.0, f32::max);
    (largest > TOLERANCE).then(|| format!("scores off by {largest:.1e}"))
}

/// Whether a row that begins beside one that has begun says what it says alone.
fn is_causal(engine: &mut OnnxEngine, source: &Encoded, alone: &[f32]) -> Result<bool> {
    let (width, [start, next, _]) = (engine.target_vocabulary(), tokens(engine));
    let mut output = StepOutput::default();
    engine.clear();
    engine.join(source, 0..1)?;
    engine.step(&[start], &mut output)?;
    engine.step(&[next], &mut output)?;
    engine.join(source, 0..1)?;
    engine.step(&[next, start], &mut output)?;
    let young = output.logits.get(width..).unwrap_or_default().to_vec();
    Ok(differs(alone.get(..width).unwrap_or_default(), Ok(young)).is_none())
}
