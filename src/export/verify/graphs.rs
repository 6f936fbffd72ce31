//! Every graph of a bundle in one engine, against the trainer's own pass.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::{DECODER_INPUT, DECODER_OUTPUT, DECODER_TARGET, ENCODER_INPUT, LOSS, PAD};
use s2s_runtime::engine::graph::{DataView, Graph, Tensor, TensorView};
use s2s_runtime::manifest::{OutputForm, Role, StateWire};

use super::super::reference::{log_softmax, softmax};
use super::super::rounding::throws;
use super::super::tolerances::{Rounding, Tolerances};
use super::error::{Largest, scale};
use super::inputs::{Batch, Side, Tokens};
use super::report::{Check, NETWORK};
use super::subject::Subject;
use super::weights::Rebuilt;
use crate::error::Result;
use crate::network::Forward;

/// States against others. Cell states have no bound, and f32 has 24 bits: above 1 the error is relative, and
/// the absolute one is shown beside it.
#[derive(Clone, Copy, Debug, Default)]
struct States {
    relative: Largest,
    absolute: Largest,
}

impl States {
    fn add(&mut self, found: &[f32], expected: &[f32]) {
        self.relative.relative(found, expected);
        self.absolute.absolute(found, expected);
    }

    fn check(self, graph: &str, what: &str, engine: Option<&str>, tolerances: &Tolerances) -> Check {
        Check::measured(graph, what, engine, self.relative.0, tolerances.states)
            .detail(format!("{:.1e} absolute", self.absolute.0))
    }
}

/// Scores of one kind against another: logits are compared as they are and as probabilities, both relative to
/// the logits of the row, because a probability is off by up to half of what the logits are off by.
#[derive(Clone, Copy, Debug, Default)]
struct Scores {
    logits: Largest,
    probabilities: Largest,
    absolute: Largest,
}

impl Scores {
    /// - `found`: a row of scores as the graph gives them; `expected`: logits.
    fn add(&mut self, form: OutputForm, found: &[f32], expected: &[f32]) {
        let scale = scale(expected);
        match form {
            OutputForm::Logits => {
                self.logits.relative_to_row(found, expected, scale);
                self.add_probabilities(&softmax(found), &softmax(expected), scale);
            }
            OutputForm::Probabilities => self.add_probabilities(found, &softmax(expected), scale),
            OutputForm::LogProbabilities => {
                self.add_probabilities(&softmax(found), &softmax(expected), scale);
            }
        }
    }

    fn add_probabilities(&mut self, found: &[f32], expected: &[f32], scale: f32) {
        self.probabilities.relative_to_row(found, expected, scale);
        self.absolute.absolute(found, expected);
    }

    fn probabilities(self, graph: &str, what: &str, engine: Option<&str>, tolerances: &Tolerances) -> Check {
        let what = format!("probabilities, {what}");
        Check::measured(graph, what, engine, self.probabilities.0, tolerances.probabilities)
            .detail(format!("{:.1e} absolute", self.absolute.0))
    }

    fn checks(
        self,
        graph: &str,
        what: &str,
        engine: &str,
        form: OutputForm,
        tolerances: &Tolerances,
    ) -> Vec<Check> {
        let mut checks = Vec::new();
        if form == OutputForm::Logits {
            checks.push(Check::measured(
                graph,
                format!("logits, {what}"),
                Some(engine),
                self.logits.0,
                tolerances.logits,
            ));
        }
        checks.push(self.probabilities(graph, what, Some(engine), tolerances));
        checks
    }
}

/// The graphs of one bundle, loaded in one engine.
struct Graphs<'a> {
    bundle: &'a Bundle,
    encoder: Box<dyn Graph>,
    decoder: Box<dyn Graph>,
    training: Box<dyn Graph>,
}

/// The trainer's own pass over every batch, computed in f64 and rounded once, so that an engine is charged
/// with its own rounding alone; and how far the f32 pass of training is from it.
pub(super) fn references(rebuilt: &Rebuilt, batches: &[Batch]) -> (Vec<Forward<f32>>, Rounding) {
    let exact = rebuilt.parameters.map(f64::from);
    let forward =
        |batch: &Batch| rebuilt.network.forward_exact(&exact, &batch.sources, &batch.inputs).rounded();
    let references: Vec<Forward<f32>> = batches.iter().map(forward).collect();
    let (mut states, mut scores, mut loss) = (States::default(), Scores::default(), Largest::default());
    let [_, vocabulary] = rebuilt.network.vocabularies();
    for parameters in throws(&rebuilt.parameters) {
        for (batch, reference) in batches.iter().zip(&references) {
            let trained = rebuilt.network.forward(&parameters, &batch.sources, &batch.inputs);
            trained.states.iter().zip(&reference.states).for_each(|((_, a), (_, b))| states.add(a, b));
            let rows = trained.logits.chunks_exact(vocabulary).zip(reference.logits.chunks_exact(vocabulary));
            rows.for_each(|(a, b)| scores.add(OutputForm::Logits, a, b));
            loss.relative(
                &[mean_nats(batch, &trained, vocabulary)],
                &[mean_nats(batch, reference, vocabulary)],
            );
        }
    }
    let of = |largest: Largest| largest.0 as f32;
    let [logits, probabilities] = [scores.logits, scores.probabilities].map(of);
    (references, Rounding { states: of(states.relative), probabilities, logits, loss: of(loss) })
}

/// Whether the network's own rounding leaves room for that of an engine.
///
/// - `atol`: what somebody allows the engines; more than the ceiling leaves more room.
pub(super) fn rounding_checks(rounding: Rounding, atol: Option<f32>) -> Vec<Check> {
    let limit = (Tolerances::CEILING / Tolerances::ROUNDING_FACTOR).max(atol.unwrap_or_default());
    let check = |what: &str, measured: f32| {
        Check::measured(
            NETWORK,
            format!("{what}, of the trainer in f32, against f64"),
            None,
            f64::from(measured),
            limit,
        )
    };
    vec![check("states", rounding.states), check("probabilities", rounding.probabilities)]
}

/// Runs every batch through every graph.
///
/// - `references`: what [`references`] gave for the same batches; `on` says what the batches are.
pub(super) fn check(
    bundle: &Bundle,
    subject: &Subject,
    references: &[Forward<f32>],
    batches: &[Batch],
    on: &str,
    tolerances: &Tolerances,
) -> Result<Vec<Check>> {
    let mut graphs = Graphs::load(bundle, subject)?;
    let engine = subject.name();
    let wiring = &bundle.manifest().wiring;
    let (mut states, mut loss) = (States::default(), Largest::default());
    let (mut training, mut folded, mut both) = (Scores::default(), Scores::default(), Scores::default());
    for (batch, expected) in batches.iter().zip(references) {
        let encoded = graphs.encode(batch)?;
        for (wire, found) in wiring.states.iter().filter_map(StateWire::from_encoder).zip(&encoded) {
            let reference = expected.states.iter().find(|(name, _)| name == wire);
            states.add(&found.data, reference.map_or(&[], |(_, values)| values));
        }
        let (whole, found_loss) = graphs.train(batch)?;
        loss.relative(&[found_loss], &[mean_nats(batch, expected, bundle.target().size())]);
        let steps = graphs.fold(batch, encoded)?;
        let vocabulary = bundle.target().size();
        for (row, input) in batch.inputs.iter().enumerate() {
            for (step, scores) in steps.iter().enumerate().take(input.len()) {
                let at = (row * batch.target_time() + step) * vocabulary;
                let reference = &expected.logits[at..at + vocabulary];
                let of_training = whole.data.get(at..at + vocabulary).unwrap_or(&[]);
                let of_steps = &scores.data[row * vocabulary..(row + 1) * vocabulary];
                training.add(wiring.output, of_training, reference);
                folded.add(wiring.output, of_steps, reference);
                // The training graph of the same engine: the two halves must fold into the whole.
                match wiring.output {
                    OutputForm::Logits => both.add(OutputForm::Logits, of_steps, of_training),
                    OutputForm::LogProbabilities => {
                        both.add_probabilities(&softmax(of_steps), &softmax(of_training), scale(reference));
                    }
                    OutputForm::Probabilities => {
                        both.add_probabilities(of_steps, of_training, scale(reference));
                    }
                }
            }
        }
    }
    let name = |role| bundle.graph_name(role);
    let form = wiring.output;
    let mut checks = vec![states.check(
        name(Role::Encoder),
        &format!("states against the trainer, {on}"),
        Some(engine),
        tolerances,
    )];
    checks.extend(training.checks(
        name(Role::Training),
        &format!("against the trainer, {on}"),
        engine,
        form,
        tolerances,
    ));
    let what = format!("loss against the trainer, {on}");
    checks.push(Check::measured(name(Role::Training), what, Some(engine), loss.0, tolerances.loss));
    checks.extend(folded.checks(
        name(Role::Decoder),
        &format!("steps folded, against the trainer, {on}"),
        engine,
        form,
        tolerances,
    ));
    let what = format!("steps folded, against the training graph, {on}");
    checks.extend(both.checks(name(Role::Decoder), &what, engine, form, tolerances));
    Ok(checks)
}

/// Mean cross-entropy a target token, from the trainer's logits.
fn mean_nats(batch: &Batch, expected: &Forward<f32>, vocabulary: usize) -> f32 {
    let (mut nats, mut tokens) = (0.0f64, 0);
    for (row, targets) in batch.targets().iter().enumerate() {
        for (step, &target) in targets.iter().enumerate() {
            let at = (row * expected.target_time + step) * vocabulary;
            nats -= f64::from(log_softmax(&expected.logits[at..at + vocabulary])[target as usize]);
            tokens += 1;
        }
    }
    (nats / f64::from(tokens.max(1))) as f32
}

impl<'a> Graphs<'a> {
    fn load(bundle: &'a Bundle, subject: &Subject) -> Result<Self> {
        let wiring = &bundle.manifest().wiring;
        // The attention weights, after the states, are not compared.
        let decoder_out = &wiring.decoder_outputs()[..=wiring.states.len()];
        let load = |role, inputs: &[&str], outputs: &[&str]| {
            subject.load(bundle.graph_name(role), bundle.graph(role)?, inputs, outputs)
        };
        Ok(Self {
            bundle,
            encoder: load(Role::Encoder, &[&wiring.encoder_input], &wiring.encoder_outputs())?,
            decoder: load(Role::Decoder, &wiring.decoder_inputs(), decoder_out)?,
            training: load(
                Role::Training,
                &[ENCODER_INPUT, DECODER_INPUT, DECODER_TARGET],
                &[DECODER_OUTPUT, LOSS],
            )?,
        })
    }

    /// A batch as the input `name` of the graph of `role` wants it.
    fn tokens(&self, role: Role, name: &str, texts: &[Vec<u32>], side: Side) -> Result<Tokens> {
        let vocabulary = match side {
            Side::Left => self.bundle.source(),
            Side::Right => self.bundle.target(),
        };
        Ok(Tokens::new(self.bundle.graph_info(role)?.input(name), texts, side, vocabulary.size()))
    }

    /// The encoder's states and memory, in the order of the wiring.
    fn encode(&mut self, batch: &Batch) -> Result<Vec<Tensor>> {
        let name = &self.bundle.manifest().wiring.encoder_input;
        let source = self.tokens(Role::Encoder, name, &batch.sources, Side::Left)?;
        let mut outputs = Vec::new();
        self.encoder.run(&[source.view()], &mut outputs)?;
        Ok(outputs)
    }

    /// The training graph's scores and loss.
    fn train(&mut self, batch: &Batch) -> Result<(Tensor, f32)> {
        let source = self.tokens(Role::Training, ENCODER_INPUT, &batch.sources, Side::Left)?;
        let input = self.tokens(Role::Training, DECODER_INPUT, &batch.inputs, Side::Right)?;
        let target = self.tokens(Role::Training, DECODER_TARGET, &batch.targets(), Side::Right)?;
        let mut outputs = Vec::new();
        self.training.run(&[source.view(), input.view(), target.view()], &mut outputs)?;
        let loss = outputs[1].data.first().copied().unwrap_or(f32::NAN);
        Ok((outputs.swap_remove(0), loss))
    }

    /// The decoder's scores (batch, 1, target_vocabulary) of every step, fed with the batch's own tokens.
    fn fold(&mut self, batch: &Batch, encoded: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let wiring = &self.bundle.manifest().wiring;
        let name = &wiring.decoder_input;
        let mut encoded = encoded.into_iter();
        let first = wiring.states.iter().filter_map(|wire| match &wire.zeros {
            Some(axes) => {
                let shape: Vec<usize> =
                    [batch.sources.len()].into_iter().chain(axes.iter().copied()).collect();
                Some(Tensor { data: vec![0.0; shape.iter().product()], shape })
            }
            None => encoded.next(),
        });
        let mut states: Vec<Tensor> = first.collect();
        let memory: Vec<Tensor> = encoded.collect();
        let mut steps = Vec::new();
        for step in 0..batch.target_time() {
            let column: Vec<Vec<u32>> =
                batch.inputs.iter().map(|input| vec![input.get(step).copied().unwrap_or(PAD)]).collect();
            let tokens = self.tokens(Role::Decoder, name, &column, Side::Right)?;
            let mut inputs = vec![tokens.view()];
            inputs.extend(
                states
                    .iter()
                    .chain(&memory)
                    .map(|state| TensorView { shape: &state.shape, data: DataView::F32(&state.data) }),
            );
            let mut outputs = Vec::new();
            self.decoder.run(&inputs, &mut outputs)?;
            states = outputs.split_off(1);
            steps.append(&mut outputs);
        }
        Ok(steps)
    }
}
