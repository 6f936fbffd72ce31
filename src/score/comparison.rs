//! What smaller weights cost and gain, measured through the exported graphs.

use std::fmt;
use std::time::Instant;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{self, EngineKind};
use s2s_runtime::manifest::Role;
use s2s_runtime::translator::{Translator, TranslatorPool};

use super::evaluation::{Measures, Score, evaluate};
use crate::data::groups::Group;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Dtype, ExportInput, ExportOptions, bundle_files};

/// One export: its size, what it scores and how fast.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How its weights are stored.
    pub dtype: Dtype,
    /// Bytes of encoder and decoder.
    pub bytes: [usize; 2],
    /// On the pairs given.
    pub score: Score,
    /// Engine and sources a second, with one worker.
    pub speeds: Vec<(String, f64)>,
}

/// f32 weights and smaller ones, side by side.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// With f32 weights.
    pub before: Measured,
    /// What was asked for.
    pub after: Measured,
}

/// Exports in memory with f32 weights and as `options` say, and scores both on `groups` in every engine that
/// is here.
///
/// # Errors
/// As [`bundle_files`], [`engine::open`] and [`evaluate`].
pub fn compare(input: &ExportInput<'_>, options: &ExportOptions, groups: &[Group]) -> Result<Comparison> {
    let measured =
        |dtype| measure(input, &ExportOptions { dtype, graphs_only: true, ..options.clone() }, groups);
    Ok(Comparison { before: measured(Dtype::F32)?, after: measured(options.dtype)? })
}

fn measure(input: &ExportInput<'_>, options: &ExportOptions, groups: &[Group]) -> Result<Measured> {
    let bundle = Bundle::from_files("in memory", bundle_files(input, options)?)?;
    let bytes = [bundle.graph(Role::Encoder)?.len(), bundle.graph(Role::Decoder)?.len()];
    let mut measured = Measured { dtype: options.dtype, bytes, score: Score::default(), speeds: Vec::new() };
    for report in engine::available().into_iter().filter(|report| report.problem.is_none()) {
        let kind: EngineKind = report.name.parse()?;
        let mut pool = TranslatorPool::new(Translator::new(&bundle, engine::open(&bundle, kind)?), 1)?;
        let begin = Instant::now();
        let evaluation = evaluate(&mut pool, groups, &DecodingOptions::default(), Measures::default())?;
        measured
            .speeds
            .push((report.name.to_owned(), groups.len() as f64 / begin.elapsed().as_secs_f64().max(1e-9)));
        // Engines agree on the score; the worst counts where they do not.
        if measured.score.sources == 0 || evaluation.score.exact < measured.score.exact {
            measured.score = evaluation.score;
        }
    }
    Ok(measured)
}

impl Comparison {
    /// Exact matches lost, as a share of the sources; negative if more are right than before.
    pub fn loss(&self) -> f64 {
        // One division, so that a loss of exactly the share allowed is not above it by rounding.
        (self.before.score.exact as f64 - self.after.score.exact as f64)
            / self.before.score.sources.max(1) as f64
    }

    /// Whether no more than `most` is lost.
    ///
    /// # Errors
    /// [`ErrorKind::Parity`] with the numbers.
    pub fn check(&self, most: f64) -> Result<()> {
        if self.loss() <= most {
            return Ok(());
        }
        let Self { before, after } = self;
        let message = format!(
            "{} weights get {:.2} % of {} sources right, {} weights {:.2} %: {:.2} points lost, more than \
             {:.2}",
            before.dtype,
            100.0 * before.score.exact_match(),
            before.score.sources,
            after.dtype,
            100.0 * after.score.exact_match(),
            100.0 * self.loss(),
            100.0 * most,
        );
        Err(Error::new(ErrorKind::Parity, message)
            .help("raise --max-loss if that is worth the size, or choose another --dtype"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "weights  encoder KiB  decoder KiB  exact match  token error rate  sources/s, one worker"
        )?;
        for (at, one) in [&self.before, &self.after].into_iter().enumerate() {
            let kib = one.bytes.map(|bytes| bytes as f64 / 1024.0);
            let speeds: Vec<String> =
                one.speeds.iter().map(|(engine, speed)| format!("{engine} {speed:.0}")).collect();
            let (exact, errors) = (100.0 * one.score.exact_match(), 100.0 * one.score.token_error_rate());
            let (dtype, speeds) = (one.dtype.as_str(), speeds.join(", "));
            write!(
                f,
                "{dtype:7}  {:11.1}  {:11.1}  {exact:9.2} %  {errors:14.2} %  {speeds}",
                kib[0], kib[1]
            )?;
            if at == 0 {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_lose_more_than_is_allowed_are_refused_with_the_numbers() {
        let measured = |dtype, exact| Measured {
            dtype,
            bytes: [4096, 2048],
            score: Score { sources: 200, exact, ..Score::default() },
            speeds: vec![("tract".to_owned(), 1234.0)],
        };
        let comparison =
            |exact| Comparison { before: measured(Dtype::F32, 190), after: measured(Dtype::Int8, exact) };
        let error = comparison(188).check(0.005).expect_err("two of 200 are more than half a percent");
        assert_eq!(error.kind(), ErrorKind::Parity);
        let message = error.to_string();
        assert!(
            message.contains(
                "f32 weights get 95.00 % of 200 sources right, int8 weights 94.00 %: 1.00 points lost"
            ),
            "{message}"
        );
        assert!(comparison(189).check(0.005).is_ok() && comparison(188).check(0.011).is_ok());
        assert!(comparison(195).check(0.0).is_ok(), "a gain is no loss");
        let table = comparison(188).to_string();
        assert!(
            table.contains("int8") && table.contains("94.00 %") && table.contains("tract 1234"),
            "{table}"
        );
    }
}
