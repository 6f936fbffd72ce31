//! The encoder's step over whole texts, against the encoder.

use s2s_runtime::bundle::Bundle;
use s2s_runtime::contract::PAD;
use s2s_runtime::engine::graph::{DataView, Graph, Tensor, TensorView};
use s2s_runtime::graph_info::Dimension;
use s2s_runtime::manifest::{EncoderStepWiring, Role};

use super::super::tolerances::Tolerances;
use super::error::Largest;
use super::inputs::{Batch, Side, Tokens};
use super::report::Check;
use super::subject::Subject;
use crate::error::Result;
use crate::network::{Filling, Forward};

/// Runs every batch token by token: the states against the trainer's, and all that the encoder gives against
/// the encoder in the same engine. Nothing for a bundle without the graph.
///
/// - `references`: the trainer's own pass over the same batches; `on` says what the batches are.
pub(super) fn check(
    bundle: &Bundle,
    subject: &Subject,
    references: &[Forward<f32>],
    batches: &[Batch],
    on: &str,
    tolerances: &Tolerances,
) -> Result<Vec<Check>> {
    let wiring = &bundle.manifest().wiring;
    let Some(step) = &wiring.encoder_step else { return Ok(Vec::new()) };
    let load = |role, inputs: &[&str], outputs: &[&str]| {
        subject.load(bundle.graph_name(role), bundle.graph(role)?, inputs, outputs)
    };
    let named: Vec<&str> = step.last.iter().chain(&step.memory).map(|o| o.encoder_output.as_str()).collect();
    let mut encoder = load(Role::Encoder, &[&wiring.encoder_input], &named)?;
    let mut stepper = load(Role::EncoderStep, &step.inputs(), &step.outputs())?;
    let filling = bundle.vocabularies()[0].and_then(Filling::of);
    let (mut of_trainer, mut of_encoder) = (Largest::default(), Largest::default());
    for (batch, expected) in batches.iter().zip(references) {
        let whole = |texts: &[Vec<u32>]| {
            let input = bundle.graph_info(Role::Encoder)?.input(&wiring.encoder_input);
            Ok::<_, crate::error::Error>(Tokens::new(input, texts, Side::Left, bundle.source().size()))
        };
        let mut encoded = Vec::new();
        encoder.run(&[whole(&batch.sources)?.view()], &mut encoded)?;
        let filled: Vec<Vec<u32>> = match filling {
            Some(filling) => batch.sources.iter().map(|text| filling.fill(text)).collect(),
            None => batch.sources.clone(),
        };
        let folded = fold(bundle, step, &mut *stepper, &filled)?;
        for ((name, whole), folded) in named.iter().zip(&encoded).zip(&folded) {
            of_encoder.relative(folded, &whole.data);
            if let Some((_, reference)) = expected.states.iter().find(|(state, _)| state == name) {
                of_trainer.relative(folded, reference);
            }
        }
    }
    let allowed = tolerances.step_states;
    let check = |against: &str, found: Largest| {
        let what = format!("tokens folded, against {against}, {on}");
        Check::measured(bundle.graph_name(Role::EncoderStep), what, Some(subject.name()), found.0, allowed)
    };
    Ok(vec![check("the trainer", of_trainer), check("the encoder", of_encoder)])
}

/// Runs left-padded texts column by column; gives `last`, then `memory` with its columns side by side, as the
/// encoder has them: row-major (batch, ...).
fn fold(
    bundle: &Bundle,
    step: &EncoderStepWiring,
    graph: &mut dyn Graph,
    texts: &[Vec<u32>],
) -> Result<Vec<Vec<f32>>> {
    let info = bundle.graph_info(Role::EncoderStep)?;
    let time = texts.iter().map(Vec::len).max().unwrap_or(0);
    let names = step.outputs();
    let place = |output: &str| names.iter().position(|name| *name == output).unwrap_or(0);
    let mut outputs: Vec<Tensor> = Vec::new();
    let mut states: Vec<Tensor> = Vec::new();
    let width = |name: &str| match info.input(name).and_then(|tensor| tensor.shape.as_ref()?.get(1)) {
        Some(Dimension::Fixed(width)) => *width,
        _ => 0,
    };
    for state in &step.states {
        let shape = vec![texts.len(), width(&state.step_input)];
        states.push(Tensor { data: vec![0.0; shape.iter().product()], shape });
    }
    let mut columns: Vec<Vec<Vec<f32>>> = vec![Vec::new(); step.memory.len()];
    for at in 0..time {
        let id = |text: &Vec<u32>| at.checked_sub(time - text.len()).map_or(PAD, |at| text[at]);
        let column: Vec<Vec<u32>> = texts.iter().map(|text| vec![id(text)]).collect();
        let tokens = Tokens::new(info.input(&step.input), &column, Side::Left, bundle.source().size());
        let mut inputs = vec![tokens.view()];
        inputs.extend(
            states.iter().map(|state| TensorView { shape: &state.shape, data: DataView::F32(&state.data) }),
        );
        graph.run(&inputs, &mut outputs)?;
        for (wire, columns) in step.memory.iter().zip(&mut columns) {
            columns.push(outputs[place(&wire.step_output)].data.clone());
        }
        states = outputs[..step.states.len()].to_vec();
    }
    let last = step.last.iter().map(|wire| outputs.get(place(&wire.step_output)).map(|t| t.data.clone()));
    let mut folded: Vec<Vec<f32>> = last.map(Option::unwrap_or_default).collect();
    for columns in columns {
        let width = columns.first().map_or(0, Vec::len) / texts.len().max(1);
        let rows = (0..texts.len())
            .flat_map(|row| columns.iter().flat_map(move |column| &column[row * width..][..width]));
        folded.push(rows.copied().collect());
    }
    Ok(folded)
}
