//! Which engine is the fastest for a bundle: known from a table of operators, or measured.

use std::time::{Duration, Instant};

use super::best::{SumOver, Wanted};
use super::interface::{Engine, IdMatrix, StepOutput};
use super::kind::EngineKind;
use crate::bundle::Bundle;
use crate::error::Result;
use crate::manifest::Role;

/// Operators that tract runs with plain loops, or with a copy at each step, and ONNX Runtime does not: 8-bit
/// products are a hundred times slower there, TopK 4 to 12 times.
const SLOW_IN_TRACT: &[&str] = &[
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DynamicQuantizeLinear",
    "Einsum",
    "If",
    "Loop",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "Scan",
    "TopK",
];

/// An operator of the bundle for which tract may be the slower engine, or none at all.
pub(super) fn doubtful(bundle: &Bundle) -> Result<Option<String>> {
    for role in [Role::Encoder, Role::Decoder] {
        let operators = &bundle.graph_info(role)?.operators;
        let found = operators.iter().find(|op| op.contains('.') || SLOW_IN_TRACT.contains(&op.as_str()));
        if let Some(operator) = found {
            return Ok(Some(operator.clone()));
        }
    }
    Ok(None)
}

/// What `auto` stands for where nothing need be measured, and why.
///
/// - `doubtful`: as [`doubtful`] says. `has_ort`: whether ONNX Runtime's library works here.
pub(super) fn known(doubtful: Option<&str>, has_ort: impl Fn() -> bool) -> Option<(EngineKind, String)> {
    let compiled = |kind: EngineKind| EngineKind::COMPILED.contains(&kind);
    match doubtful {
        _ if !compiled(EngineKind::Tract) => {
            Some((EngineKind::Ort, "no other engine is compiled in".to_owned()))
        }
        None => Some((EngineKind::Tract, "it is fast at every operator of both graphs".to_owned())),
        Some(operator) if !compiled(EngineKind::Ort) || !has_ort() => Some((
            EngineKind::Tract,
            format!("ONNX Runtime, which may be faster at {operator}, is not there"),
        )),
        Some(_) => None,
    }
}

/// Rows of the steps that are measured.
pub(super) const ROWS: [usize; 2] = [1, 64];
/// Steps that are measured at most, after some to warm up.
const STEPS: usize = 8;
const WARM_UP: usize = 2;
/// Of one engine and number of rows: all of it stays below a tenth of a second.
const LIMIT: Duration = Duration::from_millis(20);

/// The median time of a decoder step with `rows` rows that begin together.
///
/// # Errors
/// Of the engine.
pub(super) fn step_time(engine: &mut dyn Engine, rows: usize) -> Result<Duration> {
    let ids = engine.special_ids();
    let source = IdMatrix { rows, columns: 8, data: vec![i64::from(ids.unk); rows * 8] };
    engine.clear();
    let begin = Instant::now();
    let encoded = engine.encode(&source)?;
    engine.join(&encoded, 0..rows)?;
    let (tokens, mut output, mut times) = (vec![i64::from(ids.start); rows], StepOutput::default(), vec![]);
    let wanted = Wanted { best: 1, banned: &[], sum: SumOver::Nothing, attention: false };
    while times.is_empty() || times.len() < WARM_UP + STEPS && begin.elapsed() < LIMIT {
        let begin = Instant::now();
        engine.step_best(&tokens, &wanted, &mut output)?;
        times.push(begin.elapsed());
    }
    engine.clear();
    let warm = times.len().min(WARM_UP + 1) - 1;
    let times = &mut times[warm..];
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The times of a step with each of [`ROWS`], where so many sources may be encoded together.
///
/// # Errors
/// Of the engine.
pub(super) fn step_times(engine: &mut dyn Engine) -> Result<[Duration; 2]> {
    let [few, many] = ROWS;
    let alone = step_time(engine, few)?;
    // What takes long with one row takes longer with many, and opening shall not.
    if alone > LIMIT / 20 {
        return Ok([alone; 2]);
    }
    let together = step_time(engine, many);
    // A pair for one text at a time is measured with that.
    Ok([alone, together.unwrap_or(alone)])
}

/// Which of two is faster, by the product of their times: a third more at one size outweighs a quarter less
/// at the other.
pub(super) fn is_faster(first: [Duration; 2], second: [Duration; 2]) -> bool {
    let product = |times: [Duration; 2]| times.iter().map(Duration::as_secs_f64).product::<f64>();
    product(first) <= product(second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[cfg(all(feature = "tract", feature = "ort"))]
    #[test]
    fn an_operator_that_tract_is_slow_at_is_measured_where_there_is_a_choice() {
        let kind = |doubtful, has_ort: bool| known(doubtful, || has_ort).map(|(kind, _)| kind);
        assert_eq!(kind(None, true), Some(EngineKind::Tract));
        assert_eq!(kind(Some("Conv"), true), None);
        assert_eq!(kind(Some("Conv"), false), Some(EngineKind::Tract));
        // Where the table knows, the library is not even looked for.
        assert_eq!(known(None, || unreachable!()).map(|(kind, _)| kind), Some(EngineKind::Tract));
    }

    #[test]
    fn the_faster_engine_is_faster_at_both_sizes_together() {
        let times = |few, many| [Duration::from_micros(few), Duration::from_micros(many)];
        assert!(is_faster(times(10, 100), times(11, 100)));
        assert!(is_faster(times(10, 130), times(20, 100)));
        assert!(!is_faster(times(10, 300), times(20, 100)));
    }
}
