//! Pairs of texts as a training of an encoder-decoder takes them.

use std::ops::Range;
use std::path::Path;

use s2s_runtime::manifest::DataFile;

use super::candidates::candidates;
use super::initial::Initial;
use super::record::{Run, StoredTexts};
use crate::config::Config;
use crate::config::callbacks::Monitor;
use crate::config::training::Training;
use crate::data::batches::{self, Batches};
use crate::data::encoded::{Batch, EncodedPairs};
use crate::data::groups::{Group, Groups};
use crate::data::report::DataReport;
use crate::data::{Corpus, Part};
use crate::error::Result;
use crate::network::{Example, Parameters, Seq2Seq};
use crate::score::{self, Decoded, Measures, Score};
use crate::train::metrics::EpochMetrics;
use crate::train::{
    self, Begun, Dataset, Event, Found, InitFrom, Outcome, Report, Source, Start, TrainOptions, Which,
};
use s2s_kernels::random::Random;

/// Streams of [`Random`] that no epoch uses; `u64::MAX` splits the data.
const SAMPLE_STREAM: u64 = u64::MAX - 1;
const EXAMPLE_STREAM: u64 = u64::MAX - 2;

/// Trains an encoder-decoder as `config` says.
///
/// # Errors
/// As [`train::train`]; unreadable data.
pub fn train(
    config: Config,
    options: &TrainOptions<'_>,
    report: &mut dyn Report,
) -> Result<Outcome<Seq2Seq>> {
    let corpus = Corpus::load(&config.data, config.training.seed, &mut preparing(report))?;
    let init_from = options.init_from.clone();
    let corpus = Unprepared { corpus, init_from, initial: None, reports: Vec::new() };
    train::train(config, corpus, options, report)
}

/// What says how far the data are.
fn preparing(report: &mut dyn Report) -> impl FnMut(&'static str, usize, usize) + '_ {
    |what, done, all| report.event(&Event::Preparing { what, done, all })
}

/// Pairs as they were read, and the weights that their run begins with.
struct Unprepared {
    corpus: Corpus,
    init_from: Option<InitFrom>,
    initial: Option<Initial>,
    reports: Vec<DataReport>,
}

impl Source<Seq2Seq> for Unprepared {
    type Dataset = Pairs;

    fn folder(&self) -> Option<&Path> {
        self.corpus.folder.as_deref()
    }

    fn training(&self) -> usize {
        self.corpus.train.len()
    }

    fn files(&self) -> &[DataFile] {
        &self.corpus.sources
    }

    fn record(&mut self, config: &Config, report: &mut dyn Report) -> Result<StoredTexts> {
        let (corpus, mut preparing) = (&self.corpus, preparing(report));
        self.reports = corpus.reports(&config.data, &mut preparing);
        self.initial = self.init_from.as_ref().map(|from| Initial::open(from, config, corpus)).transpose()?;
        let counted = corpus.count(&config.data, &mut preparing)?;
        let (source, target) = match &self.initial {
            Some(initial) => (&initial.source, &initial.target),
            None => (&counted.source, &counted.target),
        };
        Ok(StoredTexts {
            source: source.spec().clone(),
            target: target.spec().clone(),
            statistics: counted.statistics,
            data: corpus.sources.clone(),
            init_from: self.initial.as_ref().map(|i| i.origin.clone()),
            examples: candidates(corpus.validation.iter()),
        })
    }

    fn announce(&self, report: &mut dyn Report) {
        self.reports.iter().for_each(|data| report.event(&Event::Data { report: data }));
    }

    fn start(&mut self, network: &Seq2Seq, config: &Config) -> Result<Option<Start>> {
        self.initial.take().map(|initial| initial.start(network, config.training.seed)).transpose()
    }

    fn prepare(self, run: &Run, report: &mut dyn Report) -> Result<Pairs> {
        let (training, texts) = (&run.config.training, &run.record);
        let corpus = self.corpus;
        // What is decoded is chosen before anything is encoded, so that the memory of both is not needed at
        // once.
        let sample = sample(&corpus.validation, run, training.exact_match_sample, SAMPLE_STREAM);
        let examples = [&corpus.train, &corpus.validation]
            .map(|part| self::sample(part, run, training.examples, EXAMPLE_STREAM));
        let mut preparing = preparing(report);
        let train = EncodedPairs::new(&corpus.train, &texts.source, &texts.target, &mut preparing)?;
        let validation = EncodedPairs::new(&corpus.validation, &texts.source, &texts.target, &mut preparing)?;
        let mut by_length: Vec<u32> = (0..validation.len() as u32).collect();
        by_length.sort_by_cached_key(|&p| {
            let (source, target) = validation.lengths(p as usize);
            source + target
        });
        Ok(Pairs { train, validation, by_length, sample, examples, batch: Batch::default() })
    }
}

/// Pairs as ids.
struct Pairs {
    train: EncodedPairs,
    validation: EncodedPairs,
    /// Positions of the validation pairs, the short ones first.
    by_length: Vec<u32>,
    /// Validation sources that are decoded after an epoch.
    sample: Vec<Group>,
    /// Training and validation sources that are decoded at the end.
    examples: [Vec<Group>; 2],
    /// The last step's, for its memory.
    batch: Batch,
}

impl Dataset<Seq2Seq> for Pairs {
    fn held_out(&self) -> usize {
        self.by_length.len()
    }

    fn order(&self, epoch: usize, training: &Training) -> Batches {
        let Training { batch_size, batches, seed, .. } = *training;
        batches::epoch(self.train.len(), |p| self.train.lengths(p), batch_size, batches, seed, epoch)
    }

    fn batch(&mut self, positions: &[u32]) -> Vec<Example<'_>> {
        self.train.fill(positions.iter().map(|&p| p as usize), &mut self.batch);
        self.batch.examples()
    }

    fn held_out_part(&mut self, part: Range<usize>) -> Vec<Example<'_>> {
        self.validation.fill(self.by_length[part].iter().map(|&p| p as usize), &mut self.batch);
        self.batch.examples()
    }

    fn begin(&self, run: &Run, begun: Begun, report: &mut dyn Report) {
        let Begun { parameters, threads, resumed } = begun;
        report.event(&Event::Started {
            name: &run.config.name,
            folder: &run.folder,
            statistics: &run.record.statistics,
            source_vocabulary: run.record.source.len(),
            target_vocabulary: run.record.target.len(),
            parameters,
            threads,
            init_from: run.record.init_from.as_ref(),
            resumed,
        });
    }

    fn figures(
        &mut self,
        run: &Run,
        parameters: &Parameters<f32>,
        found: &Found,
        metrics: &mut EpochMetrics,
    ) -> Result<()> {
        let training = &run.config.training;
        let count = |n: usize| n.max(1) as f64;
        // The tutorial reserves a step for START and one for END and averages over all of them.
        let padded_steps = self.validation.len() * run.record.statistics.longest_target;
        metrics.validation_loss_padded = Some(found.held_out.nats / count(padded_steps));
        metrics.target_tokens_per_second =
            Some(count(found.training.tokens) / metrics.train_seconds.max(1e-9));
        let is_due =
            metrics.epoch.is_multiple_of(training.exact_match_every) || metrics.epoch == training.epochs;
        if self.sample.is_empty() || training.scores.is_empty() || !is_due {
            return Ok(());
        }
        let score = self.score(run, parameters)?;
        let given = |monitor, value: f64| training.scores.contains(&monitor).then_some(value);
        metrics.exact_match = given(Monitor::ExactMatch, score.exact_match());
        metrics.token_error_rate = given(Monitor::TokenErrorRate, score.token_error_rate());
        metrics.chrf = given(Monitor::Chrf, score.chrf.score());
        metrics.bleu = given(Monitor::Bleu, score.bleu.score());
        Ok(())
    }

    fn end(
        &self,
        run: &Run,
        parameters: &Parameters<f32>,
        weights: Which,
        report: &mut dyn Report,
    ) -> Result<()> {
        for (set, groups) in ["training", "validation"].into_iter().zip(&self.examples) {
            let decoded = decode(run, parameters, groups)?;
            if !decoded.is_empty() {
                report.event(&Event::Examples { set, weights, decoded: &decoded });
            }
        }
        Ok(())
    }
}

impl Pairs {
    fn score(&self, run: &Run, parameters: &Parameters<f32>) -> Result<Score> {
        let training = &run.config.training;
        let decoded = decode(run, parameters, &self.sample)?;
        let bleu = training.scores.contains(&Monitor::Bleu).then_some(training.bleu_tokenise);
        let mut score = Score::new(Measures { chrf: training.scores.contains(&Monitor::Chrf), bleu });
        decoded.iter().for_each(|d| score.add(&d.prediction, &d.references, &run.record.target));
        Ok(score)
    }
}

fn decode(run: &Run, parameters: &Parameters<f32>, groups: &[Group]) -> Result<Vec<Decoded>> {
    let groups: Vec<&Group> = groups.iter().collect();
    score::decode(&run.export_input(parameters, None), &groups, &run.config.decoding)
}

/// Draws `n` sources of `pairs` with all their references, with the training's seed, in the order of the
/// file.
fn sample(pairs: &Part, run: &Run, n: usize, stream: u64) -> Vec<Group> {
    if n == 0 {
        return Vec::new();
    }
    let groups = Groups::new(pairs, &run.record.source);
    let mut positions: Vec<u32> = (0..groups.len() as u32).collect();
    Random::new(run.config.training.seed, stream).shuffle(&mut positions);
    positions.truncate(n);
    positions.sort_unstable();
    positions.into_iter().map(|p| groups.get(p as usize)).collect()
}
