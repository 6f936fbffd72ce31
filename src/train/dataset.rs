//! What a training asks of its data, whatever they are.

use std::ops::Range;
use std::path::Path;

use s2s_runtime::manifest::DataFile;

use super::metrics::EpochMetrics;
use super::origin::Which;
use super::report::Report;
use super::run::Run;
use super::trainable::{Start, Trainable};
use crate::config::training::Training;
use crate::data::batches::Batches;
use crate::error::Result;
use crate::network::{Parameters, Sums};

/// Data as they were read, before there is a run.
pub trait Source<N: Trainable> {
    /// What they become.
    type Dataset: Dataset<N>;

    /// Returns the folder where they lie; `None` where they are made up.
    fn folder(&self) -> Option<&Path>;
    /// Counts the examples that are trained on.
    fn training(&self) -> usize;
    /// Lists the files that they were read from, for the comparison with those of a run that goes on.
    fn files(&self) -> &[DataFile];
    /// Makes what the folder of a new run keeps of them.
    ///
    /// # Errors
    /// Data that nothing can be learnt from, or that do not fit the run whose weights are taken.
    fn record(&mut self, config: &N::Config, report: &mut dyn Report) -> Result<N::Stored>;
    /// Says what there is to say about them, once the folder is locked.
    fn announce(&self, _report: &mut dyn Report) {}
    /// Makes the weights that a new run begins with, where they are not the network's own.
    ///
    /// # Errors
    /// Weights that do not fit the network.
    fn start(&mut self, _network: &N, _config: &N::Config) -> Result<Option<Start>> {
        Ok(None)
    }
    /// Prepares them for the steps of a run.
    ///
    /// # Errors
    /// Data that cannot be prepared.
    fn prepare(self, run: &Run<N>, report: &mut dyn Report) -> Result<Self::Dataset>;
}

/// Data in the form in which they are learnt: a part to train on, and a part held out to measure.
pub trait Dataset<N: Trainable> {
    /// Counts the examples that are held out.
    fn held_out(&self) -> usize;
    /// Deals the training examples into the batches of an epoch, counted from 1: a function of its arguments
    /// alone, so that a resumed training needs no state of a generator.
    fn order(&self, epoch: usize, training: &Training) -> Batches;
    /// Lays out a batch.
    fn batch(&mut self, positions: &[u32]) -> Vec<N::Example<'_>>;
    /// Lays out a part of what is held out, ordered by [`Network::cost`](crate::network::Network::cost), the
    /// cheapest first.
    fn held_out_part(&mut self, part: Range<usize>) -> Vec<N::Example<'_>>;
    /// Says how the training begins.
    fn begin(&self, run: &Run<N>, begun: Begun, report: &mut dyn Report);
    /// Adds the figures of an epoch that only this kind of data has; the others are there.
    ///
    /// # Errors
    /// Scores that cannot be measured.
    fn figures(
        &mut self,
        run: &Run<N>,
        parameters: &Parameters<f32>,
        found: &Found,
        metrics: &mut EpochMetrics,
    ) -> Result<()>;
    /// Shows what the network has learnt, once the training has ended; `which` says whose weights they are.
    ///
    /// # Errors
    /// Examples that cannot be shown.
    fn end(
        &self,
        _run: &Run<N>,
        _parameters: &Parameters<f32>,
        _which: Which,
        _report: &mut dyn Report,
    ) -> Result<()> {
        Ok(())
    }
}

/// How a training begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Trainable numbers.
    pub parameters: usize,
    /// Worker threads.
    pub threads: usize,
    /// Epochs and batches done before, for a resumed run.
    pub resumed: Option<(usize, usize)>,
}

/// What an epoch has summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Over the training examples, while the weights moved.
    pub training: Sums,
    /// Over what is held out, after the epoch.
    pub held_out: Sums,
}
