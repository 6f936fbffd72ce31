//! `s2s eval`: a bundle against a file of pairs.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::translator::{Translator, TranslatorPool, default_workers};
use serde::Serialize;

use crate::cli::Global;
use crate::cli::translate::{DecodingFlags, at_least_one, decoding_options, engine_kind};
use crate::config::training::{TOKENISATIONS, Tokenisation};
use crate::data::groups::group;
use crate::data::{Part, formats};
use crate::error::{Error, ErrorKind, Result, did_you_mean};
use crate::score::{Decoded, Measures, Score, evaluate};

/// Score a bundle on a file of pairs
///
/// Decodes every source once. A source that stands in several lines has several references: the output is
/// right if it equals any of them, and its token errors are counted against the closest. Texts are compared
/// as the target vocabulary normalises and splits them. A source that cannot be translated counts as wrong.
/// chrF (chrF2) and BLEU are those of sacreBLEU for the same texts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that `s2s export` wrote, or a zip of it
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Source and target in the first two columns: tabs, or commas if the name ends in .csv; JSON if it ends
    /// in .jsonl
    #[arg(value_name = "PAIRS")]
    pairs: PathBuf,
    /// What runs the graphs: auto, tract or ort
    #[arg(long, env = "S2S_ENGINE", default_value = "auto", value_parser = engine_kind)]
    engine: EngineKind,
    /// Where the graphs run: cpu, cuda (ONNX Runtime with its CUDA provider) or auto, which measures
    #[arg(long, env = "S2S_DEVICE", default_value = "cpu")]
    device: Device,
    /// Threads that decode, each with an engine of its own [default: as many as processors may be used]
    #[arg(long, env = "S2S_WORKERS", value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    /// Only so many pairs, from the top
    #[arg(long, env = "S2S_LIMIT", value_name = "N", value_parser = at_least_one)]
    limit: Option<usize>,
    /// How BLEU cuts texts into words, by sacreBLEU's names: 13a (western), zh (each Chinese character a
    /// word), char, none (at spaces, for texts that are tokens already)
    #[arg(long, env = "S2S_BLEU_TOKENISE", value_name = "NAME", default_value = "13a", value_parser = tokenisation)]
    bleu_tokenise: Tokenisation,
    /// Write source, output, references and whether it is right here, one JSON object a line
    #[arg(long, env = "S2S_PREDICTIONS", value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Decoding options in YAML, over those of the bundle
    #[arg(long, env = "S2S_DECODING", value_name = "FILE")]
    decoding: Option<PathBuf>,
    #[command(flatten)]
    flags: DecodingFlags,
}

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    bundle: String,
    pairs: usize,
    sources: usize,
    /// Share of the sources whose output equals a reference.
    exact_match: f64,
    /// Share whose output does not.
    word_error_rate: f64,
    /// Edits to the closest reference over its tokens.
    token_error_rate: f64,
    /// chrF2, from 0 to 100.
    chrf: f64,
    /// BLEU, from 0 to 100.
    bleu: f64,
    /// How it cuts texts into words.
    bleu_tokenise: &'static str,
    edits: usize,
    reference_tokens: usize,
    /// Sources that could not be translated; counted as wrong.
    refused: usize,
    seconds: f64,
    /// What was laid over the bundle's defaults.
    decoding: DecodingOptions,
}

/// Runs `s2s eval`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let options = decoding_options(args.decoding.as_deref(), &args.flags)?;
    let pairs = Part::whole(formats::read(&args.pairs, args.limit)?.into());
    let translator = Translator::open_on(&args.bundle, args.engine, args.device)?;
    let mut pool = TranslatorPool::new(translator, args.workers.unwrap_or_else(default_workers))?;
    let groups = group(&pairs, pool.coder().source());
    let begin = Instant::now();
    let measures = Measures { chrf: true, bleu: Some(args.bleu_tokenise) };
    let evaluation = evaluate(&mut pool, &groups, &options, measures)?;
    let seconds = begin.elapsed().as_secs_f64();
    if let Some(file) = &args.predictions {
        write_predictions(file, &evaluation.decoded)?;
    }
    let Score { sources, edits, reference_tokens, .. } = evaluation.score;
    let report = Report {
        bundle: args.bundle.display().to_string(),
        pairs: pairs.len(),
        sources,
        exact_match: evaluation.score.exact_match(),
        word_error_rate: 1.0 - evaluation.score.exact_match(),
        token_error_rate: evaluation.score.token_error_rate(),
        chrf: evaluation.score.chrf.score(),
        bleu: evaluation.score.bleu.score(),
        bleu_tokenise: args.bleu_tokenise.name(),
        edits,
        reference_tokens,
        refused: evaluation.refused,
        seconds,
        decoding: options,
    };
    if global.json {
        let json =
            |error| Error::new(ErrorKind::Internal, "the report cannot be written as JSON").caused_by(error);
        println!("{}", serde_json::to_string(&report).map_err(json)?);
    } else {
        println!("{}", in_words(&report));
    }
    Ok(())
}

fn tokenisation(typed: &str) -> std::result::Result<Tokenisation, String> {
    TOKENISATIONS.iter().find(|(name, _)| *name == typed).map(|(_, tokenisation)| *tokenisation).ok_or_else(
        || {
            let names = TOKENISATIONS.map(|(name, _)| name);
            let near = did_you_mean(typed, names)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("not one of {}{near}", names.join(", "))
        },
    )
}

fn in_words(report: &Report) -> String {
    let Report {
        pairs,
        sources,
        exact_match,
        word_error_rate,
        token_error_rate,
        edits,
        reference_tokens,
        refused,
        seconds,
        ..
    } = report;
    let Report { chrf, bleu, bleu_tokenise, .. } = report;
    let mut words = format!(
        "{sources} sources with {pairs} references\nexact match       {:6.2} %\nword error rate   {:6.2} %\n\
         token error rate  {:6.2} % ({edits} edits, {reference_tokens} tokens)\n\
         chrF              {chrf:6.2}\nBLEU              {bleu:6.2} (words: {bleu_tokenise})\n{seconds:.2} s",
        100.0 * exact_match,
        100.0 * word_error_rate,
        100.0 * token_error_rate,
    );
    if *refused > 0 {
        words += &format!("\n{refused} sources could not be translated and count as wrong");
    }
    words
}

fn write_predictions(file: &Path, decoded: &[Decoded]) -> Result<()> {
    let failed = |cause| Error::io(file, cause);
    let mut out = BufWriter::new(std::fs::File::create(file).map_err(failed)?);
    for one in decoded {
        serde_json::to_writer(&mut out, one).map_err(|cause| failed(cause.into()))?;
        writeln!(out).map_err(failed)?;
    }
    out.flush().map_err(failed)
}
