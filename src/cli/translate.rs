//! `s2s translate`: lines in, lines out.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::FalseyValueParser;
use s2s_runtime::decoding::{DecodingOptions, OutputOptions, Settings, Truncate, UnknownPolicy};
use s2s_runtime::engine::{Device, EngineKind};
use s2s_runtime::files;
use s2s_runtime::translator::{Piece, Translation, Translator, TranslatorPool, default_workers};
use serde::Serialize;

use crate::cli::{Global, report};
use crate::error::{Error, ErrorKind, Result};

/// Lines that are read ahead are translated together, at most this many.
const MOST_LINES: usize = 16_384;
/// A longer line is an error, not memory.
const LONGEST_LINE: usize = 1 << 20;

/// Translate lines of text with a bundle
///
/// Reads the texts given, else lines on stdin, and writes one line for each. A line that cannot be translated gives an
/// empty line (with --json an object with `error`), an error on stderr, and exit code 4 when all is done.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that `s2s export` wrote, or a zip of it
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Texts; without any, lines are read from stdin
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Ask for one line after another and show each translation while it is decoded
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
    /// Beams; 1 is greedy
    #[arg(long, env = "S2S_NUM_BEAMS", value_name = "N")]
    num_beams: Option<usize>,
    /// Translations of each text (with --json), at most the beams
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
    /// Source symbols that the model does not know: unk, copy, skip or error
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
            unknown: self.unknown,
            truncate: self.truncate,
            output: self.token_scores.then(|| OutputOptions { token_scores: Some(true), ..OutputOptions::default() }),
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

/// Runs `s2s translate`.
pub fn run(args: Args, global: &Global) -> Result<()> {
    let mut options = DecodingOptions::default();
    if global.json {
        options.output = Some(OutputOptions { scores: Some(true), ..OutputOptions::default() });
    }
    options.merge(&decoding_options(args.decoding.as_deref(), &args.flags)?);
    let translator = Translator::open_on(&args.bundle, args.engine, args.device)?.with_max_batch(args.max_batch_size);
    let settings = translator.coder().settings(&options)?;
    let mut lines = Lines { settings, json: global.json, read: 0, failed: 0, out: std::io::stdout().lock() };
    if args.interactive {
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

/// Where the output goes, and what became of the lines so far.
struct Lines<W> {
    settings: Arc<Settings>,
    json: bool,
    read: u64,
    failed: usize,
    out: W,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Record<'a> {
    line: u64,
    source: &'a str,
    #[serde(flatten)]
    translation: &'a Translation,
}

impl<W: Write> Lines<W> {
    fn translate(&mut self, pool: &mut TranslatorPool, block: Vec<Result<String>>) -> Result<()> {
        let texts: Vec<&str> = block.iter().flatten().map(String::as_str).collect();
        let mut translations = pool.translate_with(&texts, &self.settings).into_iter();
        for line in block {
            let (source, translation) = match line {
                Ok(source) => {
                    let lost = || Err(Error::new(ErrorKind::Internal, "a line has no result"));
                    (source, translations.next().unwrap_or_else(lost))
                }
                Err(error) => (String::new(), Err(error)),
            };
            self.write(&source, translation)?;
        }
        self.out.flush().map_err(closed)
    }

    fn write(&mut self, source: &str, translation: Result<Translation>) -> Result<()> {
        self.read += 1;
        let written = match translation {
            Ok(translation) if self.json => {
                let record = Record { line: self.read, source, translation: &translation };
                let record = serde_json::to_string(&record).map_err(|e| Error::new(ErrorKind::Internal, "not JSON").caused_by(e))?;
                writeln!(self.out, "{record}")
            }
            Ok(translation) => writeln!(self.out, "{}", one_line(&translation.text)),
            Err(error) => {
                self.failed += 1;
                let shown = error.message().to_owned();
                let error = error.at_line("input", Some(self.read), None);
                match self.json {
                    true => eprintln!("{}", report::render_json(&error)),
                    false => eprint!("{}", report::render(&error, report::stderr_has_colours())),
                }
                match self.json {
                    true => writeln!(self.out, "{}", serde_json::json!({ "line": self.read, "source": source, "error": shown })),
                    false => writeln!(self.out),
                }
            }
        };
        written.map_err(closed)
    }

    /// A conversation: prompts on stderr, so that stdout stays data.
    fn interact(mut self, mut translator: Translator, options: &DecodingOptions) -> Result<()> {
        let mut reader = BufReader::new(std::io::stdin().lock());
        let prompts = std::io::stdin().is_terminal();
        loop {
            if prompts {
                eprint!("> ");
            }
            let Some(line) = read_line(&mut reader)? else { break };
            let outcome = line.and_then(|text| self.show(&mut translator, &text, options).map(|translation| (text, translation)));
            match outcome {
                Ok((text, translation)) if self.json => self.write(&text, Ok(translation))?,
                Ok(_) => {
                    self.read += 1;
                    writeln!(self.out).map_err(closed)?;
                }
                Err(error) if report::is_broken_pipe(&error) => return Err(error),
                Err(error) => self.write("", Err(error))?,
            }
            self.out.flush().map_err(closed)?;
        }
        if prompts {
            eprintln!();
        }
        self.outcome()
    }

    fn show(&mut self, translator: &mut Translator, text: &str, options: &DecodingOptions) -> Result<Translation> {
        let mut done = None;
        for piece in translator.stream(text, options)? {
            match piece? {
                Piece::Text(text) if !self.json => {
                    write!(self.out, "{}", one_line(&text)).and_then(|()| self.out.flush()).map_err(closed)?;
                }
                Piece::Text(_) => {}
                Piece::Done(translation) => done = Some(*translation),
            }
        }
        done.ok_or_else(|| Error::new(ErrorKind::Internal, "a stream ended without a translation"))
    }

    fn outcome(self) -> Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Error::new(ErrorKind::Input, format!("{failed} of {} lines could not be translated", self.read))),
        }
    }
}

fn closed(cause: std::io::Error) -> Error {
    Error::io("stdout", cause)
}

/// An output line stays one line.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ").into() } else { text.into() }
}

/// Waits for one line, then takes what else is there already: a person gets every line at once, a file goes in bulk.
fn read_block<R: Read>(reader: &mut BufReader<R>) -> Result<Vec<Result<String>>> {
    let mut block = Vec::new();
    while let Some(line) = read_line(reader)? {
        block.push(line);
        if block.len() >= MOST_LINES || !reader.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(block)
}

/// The next line without its end; `None` at the end of the input. A line that is no text is an inner error.
fn read_line(reader: &mut impl BufRead) -> Result<Option<Result<String>>> {
    let mut line = Vec::new();
    let limit = LONGEST_LINE as u64 + 1;
    let read = reader.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|cause| Error::io("stdin", cause))?;
    if read == 0 {
        return Ok(None);
    }
    if line.len() > LONGEST_LINE && line.last() != Some(&b'\n') {
        // The rest of it is read and forgotten.
        reader.skip_until(b'\n').map_err(|cause| Error::io("stdin", cause))?;
        return Ok(Some(Err(Error::new(ErrorKind::Input, format!("a line of more than {LONGEST_LINE} bytes")))));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    let text = String::from_utf8(line).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        Error::new(ErrorKind::Input, format!("not UTF-8: byte {at} of the line"))
    });
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lines(input: &[u8]) -> Vec<std::result::Result<String, String>> {
        let mut reader = BufReader::new(input);
        let mut all = Vec::new();
        while let Some(line) = read_line(&mut reader).unwrap() {
            all.push(line.map_err(|e| e.to_string()));
        }
        all
    }

    #[test]
    fn lines_end_with_a_line_feed_or_both_signs_and_the_last_may_end_with_nothing() {
        assert_eq!(lines(b"a\r\nb\n\nc"), ["a", "b", "", "c"].map(|s| Ok(s.to_owned())));
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_that_is_no_text_or_too_long_does_not_stop_the_next() {
        let mut input = b"ab\xffc\n".to_vec();
        input.extend(vec![b'x'; LONGEST_LINE + 1]);
        input.extend(b"\nlast\n");
        let read = lines(&input);
        assert_eq!(read[0], Err("not UTF-8: byte 3 of the line".to_owned()));
        assert!(read[1].as_ref().unwrap_err().contains("more than"));
        assert_eq!(read[2], Ok("last".to_owned()));
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn a_block_is_what_has_arrived() {
        let mut reader = BufReader::with_capacity(8, &b"a\nb\nc\nd\ne\nf\n"[..]);
        assert_eq!(read_block(&mut reader).unwrap().len(), 4);
        assert_eq!(read_block(&mut reader).unwrap().len(), 2);
        assert!(read_block(&mut reader).unwrap().is_empty());
    }
}
