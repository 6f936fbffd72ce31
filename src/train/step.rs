//! One optimiser step: a pass over the batch in shards, as many as there are threads; the gradients; Adam.

use crate::network::{Dropout, Gradients, Network, Objective, Parameters, Sums};
use s2s_kernels::{AdamStep, Team, adam_step};

/// How the optimiser moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Adam's alpha.
    pub learning_rate: f64,
    /// Decay of Adam's first moment.
    pub beta1: f64,
    /// Decay of Adam's second moment.
    pub beta2: f64,
    /// Added to the root of Adam's second moment.
    pub epsilon: f64,
    /// Gradients are scaled down to this global norm where theirs is larger; `None` leaves them.
    pub clip_norm: Option<f64>,
    /// Probability of dropping a value from the inputs of the layers and of the output layer.
    pub dropout: f64,
    /// Probability that the loss spreads evenly over all symbols instead of the target.
    pub label_smoothing: f64,
    /// Seed of the dropout.
    pub seed: u64,
    /// Shards of a batch, one thread each. The result is the same for the same number.
    pub threads: usize,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip_norm: None,
            dropout: 0.0,
            label_smoothing: 0.0,
            seed: 1,
            threads: 1,
        }
    }
}

/// What one step found before it moved the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Loss and accuracy of the batch.
    pub sums: Sums,
    /// Global norm of the gradient of the mean loss, before clipping; NaN where the loss is not finite.
    pub gradient_norm: f64,
}

/// The optimiser's state, all that a checkpoint needs to go on bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimiserState {
    /// First moments.
    pub first: Parameters<f32>,
    /// Second moments.
    pub second: Parameters<f32>,
    /// Steps done.
    pub time: u64,
}

/// A network, its parameters, and the optimiser that moves them.
#[derive(Debug)]
pub struct Stepper<N: Network> {
    network: N,
    parameters: Parameters<f32>,
    optimiser: OptimiserState,
    options: StepOptions,
    team: Team,
    /// One for each shard.
    workspaces: Vec<N::Workspace<f32>>,
    gradients: Gradients<f32>,
    /// The last step's, for its memory.
    prepared: N::Prepared<f32>,
}

/// Texts of one unit of evaluation.
pub(super) const EVALUATION_BATCH: usize = 64;

impl<N: Network> Stepper<N> {
    /// Starts from `parameters`, with moments of zero.
    pub fn new(network: N, parameters: Parameters<f32>, options: StepOptions) -> Self {
        let zeros = parameters.zeros_like();
        let workspaces = (0..options.threads.max(1)).map(|_| N::Workspace::default()).collect();
        let gradients = Gradients::new(&parameters);
        let optimiser = OptimiserState { first: zeros.clone(), second: zeros, time: 0 };
        let team = Team::new(options.threads);
        Self {
            network,
            parameters,
            optimiser,
            options,
            team,
            workspaces,
            gradients,
            prepared: N::Prepared::default(),
        }
    }

    /// The network.
    pub fn network(&self) -> &N {
        &self.network
    }

    /// The parameters after the last step.
    pub fn parameters(&self) -> &Parameters<f32> {
        &self.parameters
    }

    /// The optimiser's state after the last step.
    pub fn optimiser(&self) -> &OptimiserState {
        &self.optimiser
    }

    /// Goes on from a checkpoint; names and shapes must be those of the network.
    pub fn restore(&mut self, parameters: Parameters<f32>, optimiser: OptimiserState) {
        self.parameters = parameters;
        self.optimiser = optimiser;
    }

    /// Adam's alpha from the next step on.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.options.learning_rate = learning_rate;
    }

    /// One step on a batch: the mean cross-entropy over its target tokens goes down.
    ///
    /// Where the loss or the gradient's norm is not finite the parameters stay as they are: the batch is left
    /// out.
    pub fn step(&mut self, batch: &[N::Example<'_>]) -> StepReport {
        let tokens: usize = batch.iter().map(N::targets).sum();
        let threads = self.workspaces.len();
        let has_dropout = self.options.dropout > 0.0;
        let old = std::mem::take(&mut self.prepared);
        let prepared = self.network.prepare(
            &self.parameters,
            N::rows(batch) / threads,
            has_dropout,
            &mut self.team,
            old,
        );
        let objective = Objective {
            scale: 1.0 / tokens as f64,
            label_smoothing: self.options.label_smoothing,
            dropout: None,
        };
        let (rate, seed, step) = (self.options.dropout, self.options.seed, self.optimiser.time);
        let (network, parameters) = (&self.network, &self.parameters);
        let parts = deal(batch, threads, N::cost);
        let mut results = vec![Sums::default(); threads];
        let shards = self.workspaces.iter_mut().zip(&parts).zip(&mut results).enumerate();
        self.team.each(shards, |(i, ((workspace, part), sums))| {
            // Every shard of every step drops other values; a resumed training drops the same ones.
            let stream = step.wrapping_mul(threads as u64).wrapping_add(i as u64);
            let objective =
                Objective { dropout: has_dropout.then_some(Dropout { rate, seed, stream }), ..objective };
            *sums = network.pass(parameters, &prepared, part, &objective, workspace);
        });
        let mut sums = Sums::default();
        results.into_iter().for_each(|s| sums += s);
        self.prepared = prepared;
        if !sums.nats.is_finite() {
            return StepReport { sums, gradient_norm: f64::NAN };
        }
        let summands: Vec<_> =
            self.workspaces.iter().map(|workspace| network.summands(parameters, workspace)).collect();
        let gradient_norm = self.gradients.set(&summands, &mut self.team).sqrt();
        // A gradient that is not finite must move no parameter.
        if gradient_norm.is_finite() {
            self.apply(gradient_norm);
        }
        StepReport { sums, gradient_norm }
    }

    /// Loss and accuracy under teacher forcing; the result does not depend on the number of threads.
    pub fn evaluate(&mut self, examples: &[N::Example<'_>]) -> Sums {
        let mut sums = Sums::default();
        self.evaluate_onto(&mut sums, examples);
        sums
    }

    /// The same, added to `sums` unit by unit: sorted examples may be given in parts of whole units.
    pub(super) fn evaluate_onto(&mut self, sums: &mut Sums, examples: &[N::Example<'_>]) {
        let mut sorted: Vec<N::Example<'_>> = examples.to_vec();
        sorted.sort_by_key(N::cost);
        let units: Vec<&[N::Example<'_>]> = sorted.chunks(EVALUATION_BATCH).collect();
        let tokens = sorted.len().min(EVALUATION_BATCH) * 8;
        let prepared =
            self.network.prepare(&self.parameters, tokens, false, &mut self.team, N::Prepared::default());
        let (network, parameters) = (&self.network, &self.parameters);
        let mut results = vec![Sums::default(); units.len()];
        self.team.each_with(
            &mut self.workspaces,
            units.iter().zip(&mut results),
            |workspace, (unit, sums)| {
                *sums = network.evaluate(parameters, &prepared, unit, workspace);
            },
        );
        results.into_iter().for_each(|s| *sums += s);
    }

    /// Adam on the gradients, whose norm is this.
    fn apply(&mut self, norm: f64) {
        self.optimiser.time += 1;
        let o = &self.options;
        let step = AdamStep {
            learning_rate: o.learning_rate,
            beta1: o.beta1,
            beta2: o.beta2,
            epsilon: o.epsilon,
            time: self.optimiser.time,
            gradient_factor: o.clip_norm.filter(|&limit| norm > limit).map_or(1.0, |limit| limit / norm),
        };
        let step = step.factors();
        let OptimiserState { first, second, .. } = &mut self.optimiser;
        let moments = first.data_mut().chunks_mut(PART).zip(second.data_mut().chunks_mut(PART));
        let gradients = self.gradients.data().chunks(PART).zip(self.gradients.parts(PART));
        let parts = self.parameters.data_mut().chunks_mut(PART).zip(moments).zip(gradients);
        self.team.each(parts, |((parameters, (first, second)), (gradients, stretches))| {
            let mut start = 0;
            for stretch in stretches {
                let end = start + stretch.len;
                // What is zero is not read: only the moments pull there.
                let most = if stretch.is_written { stretch.len } else { ZEROS.len() };
                while start < end {
                    let at = start..end.min(start + most);
                    let gradients =
                        if stretch.is_written { &gradients[at.clone()] } else { &ZEROS[..at.len()] };
                    adam_step(
                        &step,
                        &mut parameters[at.clone()],
                        &mut first[at.clone()],
                        &mut second[at.clone()],
                        gradients,
                    );
                    start = at.end;
                }
            }
        });
    }
}

/// Values a thread takes at a time.
const PART: usize = 64 << 10;
/// Gradients of what nobody wrote.
static ZEROS: [f32; 4096] = [0.0; 4096];

/// Deals a batch into shards of about equal work: longest first, in turn, forwards and back.
fn deal<E: Copy>(batch: &[E], shards: usize, cost: impl Fn(&E) -> usize) -> Vec<Vec<E>> {
    let mut sorted = batch.to_vec();
    sorted.sort_by_key(|e| std::cmp::Reverse(cost(e)));
    let mut parts = vec![Vec::with_capacity(batch.len().div_ceil(shards)); shards];
    for (i, example) in sorted.into_iter().enumerate() {
        let (round, place) = (i / shards, i % shards);
        parts[if round % 2 == 0 { place } else { shards - 1 - place }].push(example);
    }
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::network::{Layout, Summand, Summands};
    use s2s_kernels::{MatRef, Real};

    /// A network of one column; an example is a place in it and the gradient there. `WHOLE` writes all of it.
    #[derive(Clone, Debug)]
    struct Places<const WHOLE: bool>(Layout);

    impl<const WHOLE: bool> Network for Places<WHOLE> {
        type Architecture = usize;
        type Example<'a> = (usize, f32);
        type Prepared<R: Real> = ();
        /// Places, gradients there, and the same as a whole.
        type Workspace<R: Real> = (Vec<u32>, Vec<R>, Vec<R>);

        fn new(places: usize) -> Result<Self> {
            let mut layout = Layout::default();
            layout.add("x", &[places, 1]);
            Ok(Self(layout))
        }

        fn architecture(&self) -> &usize {
            unreachable!("no checkpoint is written")
        }

        fn layout(&self) -> &Layout {
            &self.0
        }

        fn initialise(&self, _: u64) -> Parameters<f32> {
            self.parameters()
        }

        fn targets(_: &(usize, f32)) -> usize {
            1
        }

        fn cost(_: &(usize, f32)) -> usize {
            1
        }

        fn rows(batch: &[(usize, f32)]) -> usize {
            batch.len()
        }

        fn prepare<R: Real>(&self, _: &Parameters<R>, _: usize, _: bool, _: &mut Team, (): ()) {}

        fn pass<R: Real>(
            &self,
            p: &Parameters<R>,
            (): &(),
            examples: &[(usize, f32)],
            _: &Objective,
            (places, values, all): &mut Self::Workspace<R>,
        ) -> Sums {
            let real = |value| R::from_f64(f64::from(value));
            (*places, *values) = examples.iter().map(|&(place, value)| (place as u32, real(value))).unzip();
            *all = vec![R::ZERO; p.len()];
            examples.iter().for_each(|&(place, value)| all[place] += real(value));
            Sums { nats: 1.0, tokens: examples.len(), correct: 0 }
        }

        fn summands<'a, R: Real>(
            &self,
            p: &'a Parameters<R>,
            (ids, values, all): &'a Self::Workspace<R>,
        ) -> Summands<'a, R> {
            let id = p.find("x").unwrap();
            let summand = if WHOLE {
                Summand::Matrix(MatRef::new(all, all.len(), 1))
            } else {
                Summand::Rows { ids, values, factors: &[] }
            };
            vec![(id, summand)]
        }

        fn evaluate<R: Real>(
            &self,
            _: &Parameters<R>,
            (): &(),
            _: &[(usize, f32)],
            _: &mut Self::Workspace<R>,
        ) -> Sums {
            Sums::default()
        }
    }

    fn stepper<const WHOLE: bool>(places: usize, options: StepOptions) -> Stepper<Places<WHOLE>> {
        let network = Places::new(places).unwrap();
        let parameters = network.initialise(0);
        Stepper::new(network, parameters, options)
    }

    fn moved<const WHOLE: bool>(threads: usize) -> (Parameters<f32>, OptimiserState, Vec<f64>) {
        let places = PART + 3 * ZEROS.len() + 7;
        let mut stepper = stepper::<WHOLE>(places, StepOptions { threads, ..StepOptions::default() });
        let batches =
            [vec![0, 1, 256], vec![255, 8192, places - 1], vec![1, 1, 4096, 4352], vec![PART - 1, PART]];
        let batches = batches.map(|places| places.into_iter().map(|place| (place, 1.0)).collect::<Vec<_>>());
        let norms = batches.iter().map(|batch| stepper.step(batch).gradient_norm).collect();
        (stepper.parameters.clone(), stepper.optimiser.clone(), norms)
    }

    #[test]
    fn rows_that_nothing_was_written_to_move_by_their_moments_as_if_zeros_had_been() {
        for threads in [1, 2, 3] {
            let (sparse, dense) = (moved::<false>(threads), moved::<true>(threads));
            assert_eq!(sparse, dense);
            assert_eq!(sparse.2, [3f64.sqrt(), 3f64.sqrt(), 6f64.sqrt(), 2f64.sqrt()]);
            assert_ne!(sparse.0.data()[0], 0.0);
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing_though_the_loss_is() {
        for (clip_norm, wrong) in
            [(None, f32::INFINITY), (None, f32::NAN), (Some(1.0), f32::INFINITY), (Some(1.0), f32::NAN)]
        {
            let options = StepOptions { clip_norm, threads: 2, ..StepOptions::default() };
            let mut stepper = stepper::<true>(1, options);
            stepper.step(&[(0, 0.5), (0, 0.25)]);
            let before = (stepper.parameters().clone(), stepper.optimiser().clone());
            let report = stepper.step(&[(0, wrong), (0, 0.25)]);
            assert!(!report.gradient_norm.is_finite() && report.sums.nats.is_finite());
            assert_eq!((stepper.parameters(), stepper.optimiser()), (&before.0, &before.1));
            let report = stepper.step(&[(0, 0.5), (0, 0.25)]);
            assert_eq!(report.gradient_norm, 0.75, "nothing of the batch that was left out remains");
            assert_ne!(stepper.parameters(), &before.0);
        }
    }
}
