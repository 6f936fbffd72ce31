//! `s2s translate`: lines in, lines out.

mod interactive;
mod lines;
mod remarks;

use std::io::{BufReader, IsTerminal};
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use s2s_runtime::decoding::{DecodingOptions, OutputOptions, Truncate, UnknownPolicy};
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::files;
use s2s_runtime::translator::{Translator, TranslatorPool, default_workers};

use self::lines::{Lines, read_block};
use self::remarks::Remarks;
use crate::cli::Global;
use crate::error::{Error, Result};

/// Translate lines of text with a bundle
///
/// Reads the texts given, else lines on stdin, and writes one line for each. With --num-return-sequences N it
/// writes N lines for each, the best first: rank, score and text, separated by tabs. With --json it writes
/// one object a line, with all alternatives, scores and unknown symbols.
///
/// A line that cannot be translated gives an empty line (N lines of a rank alone; with --json an object with
/// `error`), an error on stderr, and exit code 4 when all is done. A line that the model hardly knows a
/// symbol of is warned of on stderr.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that `s2s export` wrote, or a zip of it
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Texts; without any, lines are read from stdin, at a terminal as with -i
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Ask for one line after another, with a line editor, and show each translation while it is decoded
    #[arg(short, long, env = "S2S_INTERACTIVE", value_parser = FalseyValueParser::new(), conflicts_with = "texts")]
    interactive: bool,
    /// What runs the graphs: auto, tract or ort
    #[arg(long, env = "S2S_ENGINE", default_value = "auto", value_parser = engine_kind)]
    engine: EngineKind,
    /// Where the graphs run: cpu, cuda (ONNX Runtime with its CUDA provider) or auto, which measures
    #[arg(long, env = "S2S_DEVICE", default_value = "cpu")]
    device: Device,
    /// Threads that decode, each with an engine of its own [default: as many as processors may be used]
    #[arg(long, env = "S2S_WORKERS", value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    /// Rows that a worker decodes together; a beam is a row
    #[arg(long, env = "S2S_MAX_BATCH_SIZE", value_name = "N", default_value = "64", value_parser = at_least_one)]
    max_batch_size: usize,
    /// Decoding options in YAML, over those of the bundle
    #[arg(long, env = "S2S_DECODING", value_name = "FILE")]
    decoding: Option<PathBuf>,
    #[command(flatten)]
    flags: DecodingFlags,
}

/// The common keys of the decoding YAML; a flag wins over the file.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Decoding")]
pub(super) struct DecodingFlags {
    /// Beams; 1 is greedy [default: the bundle's, else 1, or as many as --num-return-sequences]
    #[arg(long, env = "S2S_NUM_BEAMS", value_name = "N")]
    num_beams: Option<usize>,
    /// Translations of each text, at most the beams
    #[arg(long, env = "S2S_NUM_RETURN_SEQUENCES", value_name = "N")]
    num_return_sequences: Option<usize>,
    /// Longest output in tokens
    #[arg(long, env = "S2S_MAX_NEW_TOKENS", value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Above 0 favours long outputs (beams only)
    #[arg(long, env = "S2S_LENGTH_PENALTY", value_name = "A", allow_negative_numbers = true)]
    length_penalty: Option<f32>,
    /// No n-gram of this size comes twice
    #[arg(long, env = "S2S_NO_REPEAT_NGRAM_SIZE", value_name = "N")]
    no_repeat_ngram_size: Option<usize>,
    /// Above 1 makes earlier tokens less likely
    #[arg(long, env = "S2S_REPETITION_PENALTY", value_name = "T")]
    repetition_penalty: Option<f32>,
    /// Draw tokens at random
    #[arg(long, env = "S2S_DO_SAMPLE", value_parser = FalseyValueParser::new())]
    do_sample: bool,
    /// Below 1 draws likely tokens more often
    #[arg(long, env = "S2S_TEMPERATURE", value_name = "T")]
    temperature: Option<f32>,
    /// Draw among this many tokens
    #[arg(long, env = "S2S_TOP_K", value_name = "K")]
    top_k: Option<usize>,
    /// Draw among the tokens that reach this probability together
    #[arg(long, env = "S2S_TOP_P", value_name = "P")]
    top_p: Option<f32>,
    /// Of the random numbers
    #[arg(long, env = "S2S_SEED", value_name = "N")]
    seed: Option<u64>,
    /// The output begins with this text
    #[arg(long, env = "S2S_TARGET_PREFIX", value_name = "TEXT")]
    target_prefix: Option<String>,
    /// The language of the texts, for models that are told it, such as fr or fra_Latn
    #[arg(long, env = "S2S_SOURCE_LANGUAGE", value_name = "LANGUAGE")]
    source_language: Option<String>,
    /// The language to translate into, for models of several, such as de or deu_Latn
    #[arg(long, env = "S2S_TARGET_LANGUAGE", value_name = "LANGUAGE")]
    target_language: Option<String>,
    /// Source symbols that the model does not know: unk (it guesses), copy (into the output), skip or error
    #[arg(long, env = "S2S_UNKNOWN", value_name = "POLICY", value_parser = unknown_policy)]
    unknown: Option<UnknownPolicy>,
    /// Texts that are too long: error, right (cut the end off) or left
    #[arg(long, env = "S2S_TRUNCATE", value_name = "SIDE", value_parser = truncate)]
    truncate: Option<Truncate>,
    /// Report log p of each token (with --json)
    #[arg(long, env = "S2S_TOKEN_SCORES", value_parser = FalseyValueParser::new())]
    token_scores: bool,
}

impl DecodingFlags {
    fn options(&self) -> DecodingOptions {
        DecodingOptions {
            num_beams: self.num_beams,
            num_return_sequences: self.num_return_sequences,
            max_new_tokens: self.max_new_tokens,
            length_penalty: self.length_penalty,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            repetition_penalty: self.repetition_penalty,
            do_sample: self.do_sample.then_some(true),
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            seed: self.seed,
            target_prefix: self.target_prefix.clone(),
            source_language: self.source_language.clone(),
            target_language: self.target_language.clone(),
            unknown: self.unknown,
            truncate: self.truncate,
            output: self
                .token_scores
                .then(|| OutputOptions { token_scores: Some(true), ..OutputOptions::default() }),
            ..DecodingOptions::default()
        }
    }
}

pub(super) fn engine_kind(typed: &str) -> Result<EngineKind, String> {
    typed.parse().map_err(|error: Error| error.help_text().unwrap_or(error.message()).to_owned())
}

pub(super) fn at_least_one(typed: &str) -> Result<usize, String> {
    typed.parse().ok().filter(|&n| n >= 1).ok_or_else(|| "a whole number of at least 1 is wanted".to_owned())
}

/// One of the words that the decoding YAML takes for this key.
fn word<T: serde::de::DeserializeOwned>(typed: &str, words: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::from(typed)).map_err(|_| format!("choose {words}"))
}

fn unknown_policy(typed: &str) -> Result<UnknownPolicy, String> {
    word(typed, "unk, copy, skip or error")
}

fn truncate(typed: &str) -> Result<Truncate, String> {
    word(typed, "error, right or left")
}

/// The options of a `--decoding` file with the flags over them.
pub(super) fn decoding_options(file: Option<&Path>, flags: &DecodingFlags) -> Result<DecodingOptions> {
    let mut options = match file {
        None => DecodingOptions::default(),
        Some(file) => read_options(file)?,
    };
    options.merge(&flags.options());
    Ok(options)
}

/// The options of a `--decoding` file.
pub(super) fn read_options(file: &Path) -> Result<DecodingOptions> {
    DecodingOptions::from_yaml(&files::read_text(file, files::OPTIONS)?, file)
}

/// Who asks for several translations, and says nothing of beams, gets as many beams, and scores.
fn return_sequences(options: &mut DecodingOptions, defaults: &DecodingOptions) {
    let merged = DecodingOptions::layered([defaults, options]);
    let Some(wanted) = merged.num_return_sequences.filter(|&n| n > 1) else { return };
    if options.num_beams.is_none() && merged.do_sample != Some(true) {
        options.num_beams = Some(merged.num_beams.unwrap_or(1).max(wanted));
    }
    let scores = OutputOptions { scores: Some(true), ..OutputOptions::default() };
    options.output = Some(OutputOptions { scores: Some(true), ..options.output.take().unwrap_or(scores) });
}

/// Runs `s2s translate`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let mut options = DecodingOptions::default();
    if global.json {
        options.output = Some(OutputOptions { scores: Some(true), ..OutputOptions::default() });
    }
    options.merge(&decoding_options(args.decoding.as_deref(), &args.flags)?);
    let translator =
        Translator::open_on(&args.bundle, args.engine, args.device)?.with_max_batch(args.max_batch_size);
    let coder = translator.coder().clone();
    return_sequences(&mut options, coder.defaults());
    let mut lines = Lines {
        settings: coder.settings(&options)?,
        coder,
        json: global.json,
        quiet: global.quiet,
        read: 0,
        failed: 0,
        remarks: Remarks::default(),
        out: std::io::stdout().lock(),
    };
    // Who types nothing at a terminal would wait for an answer that never comes.
    if args.interactive || (args.texts.is_empty() && std::io::stdin().is_terminal()) {
        return lines.interact(translator, &options);
    }
    let few = !args.texts.is_empty() && args.texts.len() <= args.max_batch_size;
    let workers = if few { 1 } else { args.workers.unwrap_or_else(default_workers) };
    let mut pool = TranslatorPool::new(translator, workers)?;
    if args.texts.is_empty() {
        let mut reader = BufReader::with_capacity(1 << 18, std::io::stdin().lock());
        loop {
            let block = read_block(&mut reader)?;
            if block.is_empty() {
                break;
            }
            lines.translate(&mut pool, block)?;
        }
    } else {
        lines.translate(&mut pool, args.texts.into_iter().map(Ok).collect())?;
    }
    lines.outcome()
}
