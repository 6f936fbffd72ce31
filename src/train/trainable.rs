//! What the optimiser step asks of a network, so that every kind of network is trained by the same step.

use crate::network::layers::dense::PreparedDense;
use crate::network::perceptron::{Mlp, MlpWorkspace, Sample};
use crate::network::{Example, Objective, Parameters, Prepared, Seq2Seq, Summands, Sums, Workspace};
use s2s_kernels::Team;

/// A network that a [`Stepper`](super::Stepper) can train.
pub trait Trainable: Sync + std::fmt::Debug {
    /// What it learns from.
    type Example<'a>: Copy + Send + Sync;
    /// Weights laid out for the products of one step, shared by all shards.
    type Prepared: Default + Sync + std::fmt::Debug;
    /// Memory of one shard's passes.
    type Workspace: Default + Send + Sync + std::fmt::Debug;

    /// Predictions of an example whose loss counts.
    fn targets(example: &Self::Example<'_>) -> usize;
    /// Work of an example, in steps of the network.
    fn cost(example: &Self::Example<'_>) -> usize;
    /// Rows of the largest product of a batch.
    fn rows(batch: &[Self::Example<'_>]) -> usize;
    /// Lays out the weights in the memory of `old`, for shards of about `rows` rows, on the threads of a
    /// team.
    fn prepare(
        &self,
        p: &Parameters<f32>,
        rows: usize,
        has_dropout: bool,
        team: &mut Team,
        old: Self::Prepared,
    ) -> Self::Prepared;
    /// The loss of a shard, and the gradients of `objective` in the workspace.
    fn pass(
        &self,
        p: &Parameters<f32>,
        prepared: &Self::Prepared,
        examples: &[Self::Example<'_>],
        objective: &Objective,
        workspace: &mut Self::Workspace,
    ) -> Sums;
    /// What [`pass`](Self::pass) found, as gradients of the parameters; nothing where its shard was empty.
    fn summands<'a>(&self, p: &'a Parameters<f32>, workspace: &'a Self::Workspace) -> Summands<'a, f32>;
    /// The loss alone.
    fn evaluate(
        &self,
        p: &Parameters<f32>,
        prepared: &Self::Prepared,
        examples: &[Self::Example<'_>],
        workspace: &mut Self::Workspace,
    ) -> Sums;
}

impl Trainable for Seq2Seq {
    type Example<'a> = Example<'a>;
    type Prepared = Prepared<f32>;
    type Workspace = Workspace<f32>;

    fn targets(example: &Example<'_>) -> usize {
        // END is predicted too.
        example.target.len() + 1
    }

    fn cost(example: &Example<'_>) -> usize {
        example.source.len() + example.target.len()
    }

    fn rows(batch: &[Example<'_>]) -> usize {
        let sources: usize = batch.iter().map(|e| e.source.len()).sum();
        sources.max(batch.iter().map(Self::targets).sum())
    }

    fn prepare(
        &self,
        p: &Parameters<f32>,
        rows: usize,
        has_dropout: bool,
        team: &mut Team,
        old: Prepared<f32>,
    ) -> Prepared<f32> {
        self.prepare_with(p, rows, has_dropout, team, old)
    }

    fn pass(
        &self,
        p: &Parameters<f32>,
        prepared: &Prepared<f32>,
        examples: &[Example<'_>],
        objective: &Objective,
        workspace: &mut Workspace<f32>,
    ) -> Sums {
        self.pass(p, prepared, examples, objective, workspace)
    }

    fn summands<'a>(&self, p: &'a Parameters<f32>, workspace: &'a Workspace<f32>) -> Summands<'a, f32> {
        self.summands(p, workspace)
    }

    fn evaluate(
        &self,
        p: &Parameters<f32>,
        prepared: &Prepared<f32>,
        examples: &[Example<'_>],
        workspace: &mut Workspace<f32>,
    ) -> Sums {
        self.evaluate(p, prepared, examples, workspace)
    }
}

impl Trainable for Mlp {
    type Example<'a> = Sample<'a>;
    type Prepared = Vec<PreparedDense<f32>>;
    type Workspace = MlpWorkspace<f32>;

    fn targets(_: &Sample<'_>) -> usize {
        1
    }

    fn cost(_: &Sample<'_>) -> usize {
        1
    }

    fn rows(batch: &[Sample<'_>]) -> usize {
        batch.len()
    }

    fn prepare(
        &self,
        p: &Parameters<f32>,
        _: usize,
        _: bool,
        _: &mut Team,
        old: Self::Prepared,
    ) -> Self::Prepared {
        self.prepare(p, old)
    }

    fn pass(
        &self,
        p: &Parameters<f32>,
        prepared: &Self::Prepared,
        samples: &[Sample<'_>],
        objective: &Objective,
        workspace: &mut MlpWorkspace<f32>,
    ) -> Sums {
        self.pass(p, prepared, samples, objective, workspace)
    }

    fn summands<'a>(&self, _: &'a Parameters<f32>, workspace: &'a MlpWorkspace<f32>) -> Summands<'a, f32> {
        self.summands(workspace)
    }

    fn evaluate(
        &self,
        p: &Parameters<f32>,
        prepared: &Self::Prepared,
        samples: &[Sample<'_>],
        workspace: &mut MlpWorkspace<f32>,
    ) -> Sums {
        self.evaluate(p, prepared, samples, workspace)
    }
}
