//! Sentences a second of a bundle, texts in and texts out, in each engine and batch size, beside the floor.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{START, UNK};
use s2s_runtime::decoding::{DecodingOptions, Event};
use s2s_runtime::engine::{
    self, Device, Engine, EngineKind, IdMatrix, Observed, StepOutput, SumOver, Wanted,
};
use s2s_runtime::files;
use s2s_runtime::translator::{TextCoder, Translator, TranslatorPool};
use s2s_runtime::vocabulary::{Tokeniser, Unit, Vocabulary};
use serde::Serialize;

use super::counted::Counter;
use super::floor::Floor;
use super::measure::{peak_rss_mb, processor_seconds, quantile, rounded, rounds, rss_mb, warm_up};
use crate::error::{Error, ErrorKind, Result};
use s2s_kernels::random::Random;

/// Texts of one call where rows are decoded together, in batches and for each worker: as bulk translation has
/// more texts waiting than rows.
const BATCHES_A_CALL: usize = 16;
/// Batches of texts that are drawn where no file is given.
const RANDOM_TEXTS: usize = 1024;
/// Pieces of the longest of them, where they are made of pieces.
const LONGEST_OF_PIECES: usize = 32;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder or zip of the bundle.
    pub bundle: PathBuf,
    /// A file of texts, one a line; random symbols where there is none.
    pub texts: Option<PathBuf>,
    /// What runs the graphs, one after the other; empty for all that work here.
    pub engines: Vec<EngineKind>,
    /// Where the graphs run.
    pub device: Device,
    /// Rows decoded together, one number after the other.
    pub batches: Vec<usize>,
    /// Threads that decode, each with an engine of its own.
    pub workers: usize,
    /// Of measuring, for each engine and batch size, after the warm-up.
    pub seconds: f64,
    /// Over those of the bundle.
    pub options: DecodingOptions,
}

/// What was measured of one engine at one batch size.
#[derive(Debug, Serialize)]
pub struct Report {
    framework: String,
    engine: String,
    batch: usize,
    /// Workers, each with one thread.
    threads: usize,
    /// Median over the rounds.
    sentences_per_second: f64,
    rounds: Vec<f64>,
    /// The same for a second of processor time: what other programs did meanwhile does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentences_per_processor_second: Option<f64>,
    /// Generated tokens, END counted.
    tokens_per_second: f64,
    /// Decoder steps of a batch.
    steps_per_second: f64,
    /// Rows of a step, on average.
    rows_per_step: f64,
    /// Milliseconds of translating one text, half of the texts and 99 % of them below; only with batch 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    call_ms_p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_ms_p99: Option<f64>,
    /// Microseconds of the engine's bare decoder step with the whole batch, nothing around it.
    step_us_p50: f64,
    step_us_p99: f64,
    /// Share of the workers' time in encoder, decoder, and all else.
    encoder_share: f64,
    decoder_share: f64,
    other_share: f64,
    /// Milliseconds from a text to the first token of its translation, alone; median.
    first_token_ms: f64,
    /// Opening the bundle: hashes, graphs and self test.
    load_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_mb: Option<f64>,
    sentences: usize,
    /// 10^9 operations a second of a matrix product here, all workers' threads together.
    peak_gflops: f64,
    /// 10^9 bytes a second of reading the decoder's weights, all threads together.
    peak_gigabytes: f64,
    /// Microseconds that a decoder step takes at least.
    floor_step_us: f64,
    /// What the arithmetic, or reading the weights, would allow.
    floor_sentences_per_second: f64,
    /// Speed over that, by the clock and by processor time.
    share_of_floor: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_floor_by_processor_time: Option<f64>,
}

/// How the memory grew over a long run.
#[derive(Debug, Serialize)]
pub struct Soak {
    engine: String,
    batch: usize,
    threads: usize,
    sentences: usize,
    seconds: f64,
    /// Resident set after a twentieth of the texts, and at the end, MiB.
    rss_mb_start: f64,
    rss_mb_end: f64,
    /// Growth between them, in percent.
    growth_percent: f64,
}

fn read_texts(path: &Path) -> Result<Vec<String>> {
    let text = files::read_text(path, files::DATA)?;
    let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match lines.is_empty() {
        true => {
            Err(Error::new(ErrorKind::Data, "there is no text").in_file(path).help("write one text a line"))
        }
        false => Ok(lines),
    }
}

/// Texts of random symbols, of any length up to the longest in training.
fn random_texts(source: &Vocabulary) -> Vec<String> {
    let mut random = Random::new(1, 0);
    let symbols: Vec<&str> = (UNK + 1..u32::try_from(source.len()).unwrap_or(u32::MAX))
        .filter_map(|id| source.symbol(id))
        .collect();
    let longest = source.spec().longest.clamp(4, 64);
    let separator = if source.spec().unit == Unit::Token { " " } else { "" };
    let text = |random: &mut Random| {
        let length = 1 + random.below(longest);
        (0..length).map(|_| random.choose(&symbols)).collect::<Vec<&str>>().join(separator)
    };
    (0..RANDOM_TEXTS).map(|_| text(&mut random)).collect()
}

/// The same of random pieces.
fn random_pieces(source: &dyn Tokeniser) -> Vec<String> {
    let mut random = Random::new(1, 0);
    let most = source.longest_source().unwrap_or(usize::MAX);
    let text = |random: &mut Random| {
        let length = 1 + random.below(LONGEST_OF_PIECES);
        let mut ids: Vec<u32> = (0..length).map(|_| random.below(source.size()) as u32).collect();
        loop {
            let text = source.detokenise(&ids);
            // Read again, it may have other pieces, and more than the model takes.
            if ids.len() < 2 || source.framed(&text).len() <= most {
                return text;
            }
            ids.truncate(ids.len() / 2);
        }
    };
    (0..RANDOM_TEXTS).map(|_| text(&mut random)).collect()
}

/// The bundle and the texts to measure it with.
struct Subject<'a> {
    plan: &'a Plan,
    bundle: Bundle,
    texts: Vec<String>,
}

impl<'a> Subject<'a> {
    fn open(plan: &'a Plan) -> Result<Self> {
        let bundle = Bundle::open(&plan.bundle)?;
        let texts = match &plan.texts {
            Some(file) => read_texts(file)?,
            None => match bundle.vocabularies()[0] {
                Some(source) => random_texts(source),
                None => random_pieces(&**bundle.source()),
            },
        };
        Ok(Self { plan, bundle, texts })
    }

    /// The engines that were asked for, or all that work here.
    fn engines(&self) -> Vec<EngineKind> {
        if !self.plan.engines.is_empty() {
            return self.plan.engines.clone();
        }
        let works = engine::available().into_iter().filter(|report| report.problem.is_none());
        works.filter_map(|report| report.name.parse().ok()).collect()
    }

    fn pool(&self, engine: Box<dyn Engine>, batch: usize) -> Result<TranslatorPool> {
        let translator = Translator::from_parts(TextCoder::new(&self.bundle), engine).with_max_batch(batch);
        TranslatorPool::new(translator, self.plan.workers)
    }
}

/// Measures every engine with every batch size, and hands each report on as soon as it is there.
///
/// # Errors
/// Of the bundle, its engines, the texts and their decoding; of `each`.
pub fn run(plan: &Plan, mut each: impl FnMut(&Report) -> Result<()>) -> Result<()> {
    let subject = Subject::open(plan)?;
    let floor = Floor::measure(&subject.bundle, plan.workers)?;
    for kind in subject.engines() {
        for &batch in &plan.batches {
            each(&measure(&subject, kind, batch, &floor)?)?;
        }
    }
    Ok(())
}

fn measure(subject: &Subject<'_>, kind: EngineKind, batch: usize, floor: &Floor) -> Result<Report> {
    let plan = subject.plan;
    let begin = Instant::now();
    // Opened again, because the hashes count.
    engine::open_on(&Bundle::open(&plan.bundle)?, kind, plan.device)?;
    let load = begin.elapsed();
    let mut engine = engine::open_on(&subject.bundle, kind, plan.device)?;
    let name = engine.name().to_owned();
    let steps = bare_steps(&mut *engine, subject, batch)?;
    let first_token = first_token(&mut *engine, subject)?;

    let counter = Counter::default();
    let mut pool =
        subject.pool(Box::new(Observed::new(engine, std::sync::Arc::new(counter.clone()))), batch)?;
    let texts: Vec<&str> = subject.texts.iter().map(String::as_str).collect();
    let chunk = if batch == 1 && plan.workers == 1 { 1 } else { batch * BATCHES_A_CALL * plan.workers };
    let mut chunks = texts.chunks(chunk).cycle();
    let (mut milliseconds, mut tokens, mut sentences) = (Vec::new(), 0, 0);
    let options = &subject.plan.options;
    warm_up(plan.seconds, 1, || {
        let translations = pool.translate_each(chunks.next().unwrap_or_default(), options)?;
        translations.into_iter().collect::<Result<Vec<_>>>().map(drop)
    })?;
    counter.take();
    let (begin, used) = (Instant::now(), processor_seconds());
    let speeds = rounds(plan.seconds, || {
        let chunk = chunks.next().unwrap_or_default();
        let begin = Instant::now();
        let translations = pool.translate_each(chunk, options)?;
        milliseconds.push(1e3 * begin.elapsed().as_secs_f64());
        for translation in translations {
            tokens += translation?.generated_tokens;
        }
        sentences += chunk.len();
        Ok(chunk.len())
    })?;
    let elapsed = begin.elapsed().as_secs_f64();
    let used = processor_seconds().zip(used).map(|(after, before)| after - before).filter(|&used| used > 0.0);
    let by_processor = used.map(|used| sentences as f64 / used);
    let counts = counter.take();
    let speed = quantile(&speeds, 0.5);
    let a_text = |count: f64| count / sentences.max(1) as f64;
    let share = |time: Duration| time.as_secs_f64() / (elapsed * plan.workers as f64);
    let (encoder_share, decoder_share) = (share(counts.encoding), share(counts.stepping));
    let floor_speed =
        1.0 / floor.text(a_text(counts.source_tokens as f64), a_text(counts.rows as f64), batch);
    let latency = |q| (chunk == 1).then(|| rounded(quantile(&milliseconds, q), 3));
    Ok(Report {
        framework: format!("s2s {}", env!("CARGO_PKG_VERSION")),
        engine: name,
        batch,
        threads: plan.workers,
        sentences_per_second: rounded(speed, 2),
        rounds: speeds.iter().map(|&speed| rounded(speed, 2)).collect(),
        sentences_per_processor_second: by_processor.map(|speed| rounded(speed, 2)),
        tokens_per_second: rounded(speed * a_text(tokens as f64), 1),
        steps_per_second: rounded(speed * a_text(counts.steps as f64), 1),
        rows_per_step: rounded(counts.rows as f64 / counts.steps.max(1) as f64, 2),
        call_ms_p50: latency(0.5),
        call_ms_p99: latency(0.99),
        step_us_p50: rounded(1e6 * quantile(&steps, 0.5), 1),
        step_us_p99: rounded(1e6 * quantile(&steps, 0.99), 1),
        encoder_share: rounded(encoder_share, 3),
        decoder_share: rounded(decoder_share, 3),
        other_share: rounded(1.0 - encoder_share - decoder_share, 3),
        first_token_ms: rounded(1e3 * first_token, 3),
        load_ms: rounded(1e3 * load.as_secs_f64(), 1),
        peak_rss_mb: peak_rss_mb(),
        sentences: texts.len(),
        peak_gflops: rounded(floor.peak.gflops, 1),
        peak_gigabytes: rounded(floor.peak.gigabytes, 1),
        floor_step_us: rounded(1e6 * floor.step(batch, plan.workers), 1),
        floor_sentences_per_second: rounded(floor_speed, 1),
        share_of_floor: rounded(speed / floor_speed, 3),
        share_of_floor_by_processor_time: by_processor
            .map(|speed| rounded(speed * plan.workers as f64 / floor_speed, 3)),
    })
}

/// Steps of the same rows: a state that grows with each is as long as that of a usual text.
const STEPS_OF_ROWS: usize = 32;

/// Seconds of the engine's decoder step with `batch` rows and nothing around it; greedy decoding wants the
/// best symbol of each.
fn bare_steps(engine: &mut dyn Engine, subject: &Subject<'_>, batch: usize) -> Result<Vec<f64>> {
    let columns = 4;
    let source = IdMatrix { rows: batch, columns, data: vec![i64::from(UNK); batch * columns] };
    let encoded = engine.encode(&source)?;
    let wanted = Wanted { best: 1, banned: &[], sum: SumOver::Nothing, attention: false };
    let (tokens, mut output) = (vec![i64::from(START); batch], StepOutput::default());
    let mut seconds = Vec::new();
    let begin = Instant::now();
    let limit = subject.plan.seconds / 5.0;
    while seconds.len() < 20 || (begin.elapsed().as_secs_f64() < limit && seconds.len() < 20_000) {
        if seconds.len() % STEPS_OF_ROWS == 0 {
            engine.clear();
            engine.join(&encoded, 0..batch)?;
        }
        let begin = Instant::now();
        engine.step_best(&tokens, &wanted, &mut output)?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    // The first ones find cold caches.
    Ok(seconds.split_off(10))
}

/// Median seconds from a text to its first token.
fn first_token(engine: &mut dyn Engine, subject: &Subject<'_>) -> Result<f64> {
    let coder = TextCoder::new(&subject.bundle);
    let settings = coder.settings(&subject.plan.options)?;
    let mut seconds = Vec::new();
    for text in subject.texts.iter().take(64) {
        let begin = Instant::now();
        let source = coder.encode(text, &settings)?.ids;
        if source.is_empty() {
            continue;
        }
        let mut decoding = s2s_runtime::decoding::DecodingLoop::new(&mut *engine);
        let settings = std::sync::Arc::clone(&settings);
        decoding.admit([s2s_runtime::decoding::Request { id: 0, source, settings, stream: true }]);
        for event in decoding.step() {
            if let Event::Failed { error, .. } = event {
                return Err(error);
            }
        }
        seconds.push(begin.elapsed().as_secs_f64());
    }
    Ok(quantile(&seconds, 0.5))
}

/// Translates `count` texts with the first engine and the largest batch, and watches the memory.
///
/// # Errors
/// As [`run`]; [`ErrorKind::Internal`] on a system that does not tell what memory a process holds.
pub fn soak(plan: &Plan, count: usize) -> Result<Soak> {
    let subject = Subject::open(plan)?;
    let (kind, batch) = (
        subject.engines().first().copied().unwrap_or_default(),
        plan.batches.iter().copied().max().unwrap_or(64),
    );
    let engine = engine::open_on(&subject.bundle, kind, plan.device)?;
    let name = engine.name().to_owned();
    let mut pool = subject.pool(engine, batch)?;
    let texts: Vec<&str> = subject.texts.iter().map(String::as_str).collect();
    let chunk = (batch * BATCHES_A_CALL * plan.workers).min(texts.len());
    let memory = || {
        rss_mb().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "this system does not say how much memory a process holds")
        })
    };
    let begin = Instant::now();
    let (mut done, mut start) = (0, None);
    for chunk in texts.chunks(chunk).cycle() {
        if done >= count {
            break;
        }
        let chunk = &chunk[..chunk.len().min(count - done)];
        for translation in pool.translate_each(chunk, &subject.plan.options)? {
            translation?;
        }
        done += chunk.len();
        if start.is_none() && done * 20 >= count {
            start = Some(memory()?);
        }
    }
    let (rss_mb_start, rss_mb_end) = (start.unwrap_or_default(), memory()?);
    Ok(Soak {
        engine: name,
        batch,
        threads: plan.workers,
        sentences: done,
        seconds: rounded(begin.elapsed().as_secs_f64(), 1),
        rss_mb_start,
        rss_mb_end,
        growth_percent: rounded(100.0 * (rss_mb_end / rss_mb_start.max(1e-9) - 1.0), 2),
    })
}

/// For people.
impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, batch, threads, sentences, seconds, rss_mb_start, rss_mb_end, growth_percent } =
            self;
        write!(
            f,
            "{engine}, batch {batch}, {threads} workers: {sentences} texts in {seconds} s; \
             resident set {rss_mb_start} MiB after a twentieth, {rss_mb_end} MiB at the end: \
             {growth_percent:+.2} %"
        )
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            engine,
            batch,
            threads,
            sentences_per_second,
            tokens_per_second,
            steps_per_second,
            load_ms,
            sentences,
            ..
        } = self;
        writeln!(
            f,
            "{engine}, batch {batch}, {threads} worker{}: {sentences_per_second:.1} sentences/s, \
             {tokens_per_second:.0} tokens/s, \
         {steps_per_second:.0} steps/s of {:.1} rows ({sentences} texts)",
            if *threads == 1 { "" } else { "s" },
            self.rows_per_step,
        )?;
        if let (Some(p50), Some(p99)) = (self.call_ms_p50, self.call_ms_p99) {
            writeln!(f, "  latency of a text {p50:.3} ms (p50), {p99:.3} ms (p99)")?;
        }
        write!(
            f,
            "  bare step {:.1} us (p50), {:.1} us (p99), at least {:.1}; first token after {:.3} ms\n  \
         time: encoder {:.0} %, decoder {:.0} %, the rest {:.0} %\n  \
         floor: {:.0} sentences/s at {:.0} GFLOP/s and {:.0} GB/s; this is {:.0} % of it\n  opened in \
         {load_ms:.0} ms",
            self.step_us_p50,
            self.step_us_p99,
            self.floor_step_us,
            self.first_token_ms,
            100.0 * self.encoder_share,
            100.0 * self.decoder_share,
            100.0 * self.other_share,
            self.floor_sentences_per_second,
            self.peak_gflops,
            self.peak_gigabytes,
            100.0 * self.share_of_floor,
        )?;
        if let (Some(speed), Some(share)) =
            (self.sentences_per_processor_second, self.share_of_floor_by_processor_time)
        {
            write!(
                f,
                "\n  by processor time: {speed:.0} sentences a second of one core, {:.0} % of the floor",
                100.0 * share
            )?;
        }
        if let Some(peak) = self.peak_rss_mb {
            write!(f, "; peak resident set of the process so far {peak:.0} MiB")?;
        }
        Ok(())
    }
}
