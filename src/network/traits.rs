//! What training, checkpoints and export ask of a network, whatever it is made of.

use std::borrow::Cow;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Layout, Objective, Parameters, Summands, Sums};
use crate::error::{Error, ErrorKind, Result};
use s2s_kernels::{Real, Team};

/// A tensor as the graphs carry it: its name, its shape and its row-major values.
pub type Exported<'a, R> = (String, Vec<usize>, Cow<'a, [R]>);

/// A network: its layers and where their parameters are. The values live in [`Parameters`].
///
/// Whatever implements this is trained by a [`Stepper`](crate::train::Stepper), saved and resumed by the same
/// checkpoints. Passes are generic over the precision, so that gradients are checked in f64.
pub trait Network: Clone + Send + Sync + Debug + 'static {
    /// Everything that fixes names and shapes of the parameters, and nothing else; stored in checkpoints and
    /// bundles.
    type Architecture: Clone + PartialEq + Debug + Send + Sync + Serialize + DeserializeOwned;
    /// What it learns from.
    type Example<'a>: Copy + Send + Sync;
    /// Weights laid out for the products of one step, shared by all shards.
    type Prepared<R: Real>: Default + Sync + Debug;
    /// Memory of one shard's passes, reused from step to step.
    type Workspace<R: Real>: Default + Send + Sync + Debug;

    /// Lays out the layers; nothing is allocated for their parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where sizes cannot be.
    fn new(architecture: Self::Architecture) -> Result<Self>;
    /// Returns sizes and options.
    fn architecture(&self) -> &Self::Architecture;
    /// Returns names, shapes and number of the parameters.
    fn layout(&self) -> &Layout;
    /// Makes initial values, the same for the same seed.
    fn initialise(&self, seed: u64) -> Parameters<f32>;

    /// Counts the predictions of an example whose loss counts.
    fn targets(example: &Self::Example<'_>) -> usize;
    /// Estimates the work of an example, in steps of the network.
    fn cost(example: &Self::Example<'_>) -> usize;
    /// Counts the rows of the largest product of a batch.
    fn rows(batch: &[Self::Example<'_>]) -> usize;
    /// Lays out the weights in the memory of `old`, for shards of about `rows` rows, on the threads of a
    /// team.
    fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        rows: usize,
        has_dropout: bool,
        team: &mut Team,
        old: Self::Prepared<R>,
    ) -> Self::Prepared<R>;
    /// Computes the loss of a shard, and the gradients of `objective` in the workspace.
    ///
    /// The sums hold the plain cross-entropy, whatever the label smoothing.
    fn pass<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Self::Prepared<R>,
        examples: &[Self::Example<'_>],
        objective: &Objective,
        workspace: &mut Self::Workspace<R>,
    ) -> Sums;
    /// Returns what [`pass`](Self::pass) found, as gradients of the parameters; nothing where its shard was
    /// empty.
    fn summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        workspace: &'a Self::Workspace<R>,
    ) -> Summands<'a, R>;
    /// Computes the loss alone.
    fn evaluate<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &Self::Prepared<R>,
        examples: &[Self::Example<'_>],
        workspace: &mut Self::Workspace<R>,
    ) -> Sums;

    /// Makes all parameters, zero.
    fn parameters<R: Real>(&self) -> Parameters<R> {
        Parameters::zeros(self.layout())
    }

    /// Lists the parameters as the graphs carry them.
    fn exported<'a, R: Real>(&self, p: &'a Parameters<R>) -> Vec<Exported<'a, R>> {
        let exported = |id| {
            let (shape, values) = p.exported(id);
            (p.entry(id).name.clone(), shape, values)
        };
        p.ids().map(exported).collect()
    }

    /// Reads the parameters out of tensors that [`exported`](Self::exported) named; `find` gives the shape
    /// and the row-major values of a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Bundle`] for a tensor that is missing or of another shape.
    fn import<R: Real>(
        &self,
        mut find: impl FnMut(&str) -> Option<(Vec<usize>, Vec<R>)>,
    ) -> Result<Parameters<R>> {
        let mut p = self.parameters::<R>();
        for id in p.ids() {
            let entry = p.entry(id).clone();
            let name = &entry.name;
            let (shape, values) =
                find(name).ok_or_else(|| Error::new(ErrorKind::Bundle, format!("no tensor named {name}")))?;
            let expected = entry.exported_shape();
            if shape != expected || values.len() != expected.iter().product::<usize>() {
                let message =
                    format!("tensor {name} has shape {shape:?}, but the architecture asks for {expected:?}");
                return Err(Error::new(ErrorKind::Bundle, message));
            }
            p.set_exported(id, &values);
        }
        Ok(p)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::network::Gradients;

    /// Holds every gradient of a network against central differences of its loss, in f64.
    pub(crate) fn check_gradients<N: Network>(network: &N, p: &Parameters<f64>, examples: &[N::Example<'_>]) {
        let prepared = |p: &Parameters<f64>| {
            network.prepare(p, N::rows(examples), false, &mut Team::new(1), N::Prepared::default())
        };
        let loss = |p: &Parameters<f64>| {
            network.evaluate(p, &prepared(p), examples, &mut N::Workspace::default()).nats
        };
        let objective = Objective { scale: 1.0, ..Objective::default() };
        let mut workspace = N::Workspace::default();
        network.pass(p, &prepared(p), examples, &objective, &mut workspace);
        let gradients = Gradients::of(p, &[network.summands(p, &workspace)]);
        for i in 0..p.len() {
            let (mut up, mut down) = (p.clone(), p.clone());
            up.data_mut()[i] += 1e-6;
            down.data_mut()[i] -= 1e-6;
            let (expected, found) = ((loss(&up) - loss(&down)) / 2e-6, gradients.data()[i]);
            assert!((found - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{i}: {found} for {expected}");
        }
    }
}
