//! Sentences a second of a bundle: one worker, one engine, texts in and texts out.

use std::path::Path;
use std::time::Instant;

use s2s_runtime::bundle::Bundle;
use s2s_runtime::decoding::DecodingOptions;
use s2s_runtime::engine;
use s2s_runtime::translator::Translator;
use serde::Serialize;

use super::DecodingArgs;
use super::measure::{peak_rss_mb, quantile, rounded, rounds, warm_up};
use crate::error::{Error, ErrorKind, Result};

/// Texts of one call where rows are decoded together, in batches: as bulk translation has more texts waiting than rows.
const BATCHES_A_CALL: usize = 16;

/// What is measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    framework: String,
    engine: String,
    batch: usize,
    threads: usize,
    /// Median over the rounds.
    sentences_per_second: f64,
    rounds: Vec<f64>,
    /// Generated tokens, END counted; with batch 1 the decoder steps.
    tokens_per_second: f64,
    /// Milliseconds of translating one text, half of the texts and 99 % of them below; only with batch 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_ms_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_ms_p99: Option<f64>,
    /// Opening the bundle: hashes, graphs and self test.
    load_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_mb: Option<f64>,
    sentences: usize,
}

fn read_texts(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|cause| Error::io(path, cause))?;
    let line = |valid: usize| bytes[..valid].iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.lines().any(|line| !line.is_empty()) => Ok(text.to_owned()),
        Ok(_) => Err(Error::new(ErrorKind::Data, "there is no text").in_file(path).help("write one text a line")),
        Err(error) => Err(Error::new(ErrorKind::Data, "not UTF-8").at_line(path, Some(line(error.valid_up_to())), None)),
    }
}

/// Measures one bundle.
pub(super) fn run(args: &DecodingArgs) -> Result<Report> {
    let (Some(path), Some(texts)) = (&args.bundle, &args.texts) else {
        return Err(Error::new(ErrorKind::Usage, "a bundle and --texts are needed"));
    };
    let texts = read_texts(texts)?;
    let texts: Vec<&str> = texts.lines().filter(|line| !line.is_empty()).collect();

    let begin = Instant::now();
    let bundle = Bundle::open(path)?;
    let engine = engine::open(&bundle, args.engine)?;
    let mut translator = Translator::new(&bundle, engine).with_max_batch(args.batch);
    let load = begin.elapsed();

    let chunk = if args.batch == 1 { 1 } else { args.batch * BATCHES_A_CALL };
    let mut chunks = texts.chunks(chunk).cycle();
    let options = DecodingOptions::default();
    let (mut milliseconds, mut tokens, mut sentences) = (Vec::new(), 0, 0);
    warm_up(args.seconds, 1, || translator.translate(chunks.next().unwrap_or_default(), &options).map(drop))?;
    let speeds = rounds(args.seconds, || {
        let chunk = chunks.next().unwrap_or_default();
        let begin = Instant::now();
        let translations = translator.translate(chunk, &options)?;
        milliseconds.push(1e3 * begin.elapsed().as_secs_f64());
        tokens += translations.iter().map(|translation| translation.generated_tokens).sum::<usize>();
        sentences += chunk.len();
        Ok(chunk.len())
    })?;
    let speed = quantile(&speeds, 0.5);
    let latency = |q| (args.batch == 1).then(|| rounded(quantile(&milliseconds, q), 3));
    Ok(Report {
        framework: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        engine: translator.engine().name().to_owned(),
        batch: args.batch,
        threads: 1,
        sentences_per_second: rounded(speed, 2),
        rounds: speeds.iter().map(|&speed| rounded(speed, 2)).collect(),
        tokens_per_second: rounded(speed * tokens as f64 / sentences.max(1) as f64, 1),
        call_ms_p50: latency(0.5),
        call_ms_p99: latency(0.99),
        load_ms: rounded(1e3 * load.as_secs_f64(), 1),
        peak_rss_mb: peak_rss_mb(),
        sentences: texts.len(),
    })
}

/// For people.
pub(super) fn in_words(report: &Report) -> String {
    let Report { engine, batch, sentences_per_second, tokens_per_second, load_ms, sentences, .. } = report;
    let mut words = format!(
        "{engine}, batch {batch}, one worker: {sentences_per_second:.1} sentences/s, {tokens_per_second:.0} tokens/s ({sentences} texts)\n"
    );
    if let (Some(p50), Some(p99)) = (report.call_ms_p50, report.call_ms_p99) {
        words += &format!("latency of a text: {p50:.2} ms (p50), {p99:.2} ms (p99)\n");
    }
    words += &format!("opened in {load_ms:.0} ms");
    if let Some(peak) = report.peak_rss_mb {
        words += &format!("; peak resident set {peak:.0} MiB");
    }
    words
}
