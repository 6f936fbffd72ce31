//! Samples of numbers as a training of a classifier takes them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use s2s_runtime::manifest::DataFile;

use super::classifier::{Classifier, StoredSamples};
use crate::config::experiment::Experiment;
use crate::config::samples::{SampleConfig, SampleModel};
use crate::config::training::Training;
use crate::data::batches::Batches;
use crate::data::samples::{Samples, read_samples, split};
use crate::error::Result;
use crate::network::Parameters;
use crate::network::perceptron::Sample;
use crate::train::metrics::EpochMetrics;
use crate::train::{Begun, Dataset, Event, Found, Report, Run, Source};
use s2s_kernels::random::Random;

/// Samples as they were read, and which of them are held out.
pub(super) struct SampleSource {
    folder: PathBuf,
    data: [DataFile; 1],
    samples: Samples,
    classes: usize,
    training: Vec<u32>,
    held_out: Vec<u32>,
}

impl SampleSource {
    /// Reads the file of samples that a config names.
    ///
    /// # Errors
    /// As [`read_samples`] and [`split`].
    pub(super) fn read<A: SampleModel>(config: &SampleConfig<A>) -> Result<Self> {
        let [inputs, classes] = config.architecture.sizes();
        let (samples, sha256) = read_samples(&config.train, inputs, Some(classes))?;
        let file = config.train.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let data = [DataFile { file, sha256, pairs: samples.len() }];
        let [training, held_out] = split(samples.len(), &config.validation, config.training.seed)?;
        Ok(Self { folder: config.folder.clone(), data, samples, classes, training, held_out })
    }
}

impl<N: Classifier> Source<N> for SampleSource {
    type Dataset = Sampled;

    fn folder(&self) -> Option<&Path> {
        Some(&self.folder)
    }

    fn training(&self) -> usize {
        self.training.len()
    }

    fn files(&self) -> &[DataFile] {
        &self.data
    }

    fn record(&mut self, _: &SampleConfig<N::Architecture>, _: &mut dyn Report) -> Result<StoredSamples> {
        Ok(StoredSamples { data: self.data.to_vec() })
    }

    fn prepare(self, _: &Run<N>, _: &mut dyn Report) -> Result<Sampled> {
        Ok(Sampled(self))
    }
}

/// Samples that are learnt.
pub(super) struct Sampled(SampleSource);

impl Sampled {
    fn examples(&self, positions: &[u32]) -> Vec<Sample<'_>> {
        let samples = &self.0.samples;
        let sample =
            |&i: &u32| Sample { features: samples.row(i as usize), label: samples.labels[i as usize] };
        positions.iter().map(sample).collect()
    }
}

impl<N: Classifier> Dataset<N> for Sampled {
    fn held_out(&self) -> usize {
        self.0.held_out.len()
    }

    fn order(&self, epoch: usize, training: &Training) -> Batches {
        let mut order = self.0.training.clone();
        Random::new(training.seed, epoch as u64).shuffle(&mut order);
        Batches::cut(order, training.batch_size)
    }

    fn batch(&mut self, positions: &[u32]) -> Vec<Sample<'_>> {
        self.examples(positions)
    }

    fn held_out_part(&mut self, part: Range<usize>) -> Vec<Sample<'_>> {
        self.examples(&self.0.held_out[part])
    }

    fn begin(&self, run: &Run<N>, begun: Begun, report: &mut dyn Report) {
        report.event(&Event::Samples {
            name: run.config.name(),
            folder: &run.folder,
            training: self.0.training.len(),
            validation: self.0.held_out.len(),
            inputs: self.0.samples.inputs,
            classes: self.0.classes,
            parameters: begun.parameters,
            threads: begun.threads,
        });
    }

    fn figures(
        &mut self,
        _: &Run<N>,
        _: &Parameters<f32>,
        found: &Found,
        metrics: &mut EpochMetrics,
    ) -> Result<()> {
        let samples = found.training.tokens.max(1) as f64;
        metrics.samples_per_second = Some(samples / metrics.train_seconds.max(1e-9));
        Ok(())
    }
}
