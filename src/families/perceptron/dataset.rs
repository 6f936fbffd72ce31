//! Samples of numbers as a training of a classifier takes them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use s2s_runtime::manifest::DataFile;

use super::record::StoredSamples;
use crate::config::checked::Validation;
use crate::config::experiment::Experiment;
use crate::config::training::Training;
use crate::data::batches::Batches;
use crate::data::samples::{Samples, read_samples, split};
use crate::error::Result;
use crate::network::Parameters;
use crate::network::perceptron::Sample;
use crate::train::metrics::EpochMetrics;
use crate::train::{Begun, Dataset, Event, Found, Report, Run, Source, Trainable};
use s2s_kernels::random::Random;

/// A classifier that is trained on samples.
pub(crate) trait Classifier:
    Trainable<Stored = StoredSamples> + for<'a> crate::network::Network<Example<'a> = Sample<'a>>
{
}

impl<N> Classifier for N where
    N: Trainable<Stored = StoredSamples> + for<'a> crate::network::Network<Example<'a> = Sample<'a>>
{
}

/// Samples as they were read, and which of them are held out.
pub(crate) struct SampleSource {
    folder: PathBuf,
    data: [DataFile; 1],
    samples: Samples,
    classes: usize,
    training: Vec<u32>,
    held_out: Vec<u32>,
}

impl SampleSource {
    /// Reads a file of samples of `inputs` features and `classes` classes.
    ///
    /// # Errors
    /// As [`read_samples`] and [`split`].
    pub(crate) fn read(
        file: &Path,
        folder: &Path,
        [inputs, classes]: [usize; 2],
        validation: &Validation,
        seed: u64,
    ) -> Result<Self> {
        let (samples, sha256) = read_samples(file, inputs, Some(classes))?;
        let name = file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let data = [DataFile { file: name, sha256, pairs: samples.len() }];
        let [training, held_out] = split(samples.len(), validation, seed)?;
        Ok(Self { folder: folder.to_owned(), data, samples, classes, training, held_out })
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

    fn record(&mut self, _: &N::Config, _: &mut dyn Report) -> Result<StoredSamples> {
        Ok(StoredSamples { data: self.data.to_vec() })
    }

    fn prepare(self, _: &Run<N>, _: &mut dyn Report) -> Result<Sampled> {
        Ok(Sampled(self))
    }
}

/// Samples that are learnt.
pub(crate) struct Sampled(SampleSource);

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
