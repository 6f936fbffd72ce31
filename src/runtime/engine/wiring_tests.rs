//! Graphs that are wired otherwise than ours, in every engine: the keys of the manifest are acted upon.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::arrange::{Arrangement, COPIED};
use super::graph::{DeviceTensor, Feed, Graph, Tensor, TensorView, Value};
use super::onnx::OnnxEngine;
use super::tests::ways;
use super::toys::{LONGEST, Past, Sources, Toy};
use super::*;
use crate::bundle::Bundle;
use crate::contract::SpecialIds;
use crate::decoding::{
    DecodingLoop, DecodingOptions, Event, Hypothesis, Request, Settings, decode_batch, decode_each,
};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::MaskedOne;
use crate::onnx::DataType;
use crate::vocabulary::PaddingSide;

fn sources() -> Vec<Vec<u32>> {
    vec![vec![4], vec![5, 6, 7, 8, 4, 4], vec![8, 7], vec![6, 6, 6], vec![7, 5, 4, 8], vec![5]]
}

fn options(num_beams: usize) -> DecodingOptions {
    DecodingOptions {
        max_new_tokens: Some(LONGEST),
        num_beams: Some(num_beams),
        ..DecodingOptions::default()
    }
}

/// Decodes alone, in one batch, and with rows that others take the place of.
fn check(toy: Toy) {
    let sources = sources();
    let expected: Vec<Vec<u32>> = sources.iter().map(|source| toy.expected(source)).collect();
    let bundle = toy.bundle().unwrap();
    for kind in ways() {
        let mut engine = kind.open(&bundle).unwrap();
        let ids =
            |found: Vec<Vec<Hypothesis>>| found.into_iter().map(|h| h[0].ids.clone()).collect::<Vec<_>>();
        for (source, expected) in sources.iter().zip(&expected) {
            let found = decode_batch(&mut *engine, std::slice::from_ref(source), &options(1)).unwrap();
            assert_eq!(&ids(found)[0], expected, "{toy:?} in {kind}, {source:?} alone");
        }
        assert_eq!(
            ids(decode_batch(&mut *engine, &sources, &options(1)).unwrap()),
            expected,
            "{toy:?} in {kind}"
        );
        let settings = Arc::new(Settings::for_ids(&options(1)).unwrap());
        let few = decode_each(&mut *engine, sources.clone(), &settings, 2);
        assert_eq!(
            ids(few.into_iter().map(Result::unwrap).collect()),
            expected,
            "{toy:?} in {kind}, by twos"
        );
        let beams = |engine: &mut dyn Engine, sources: &[Vec<u32>]| {
            decode_batch(engine, sources, &options(3))
                .unwrap()
                .into_iter()
                .map(|h| (h[0].ids.clone(), h[0].score))
        };
        let together: Vec<(Vec<u32>, f32)> = beams(&mut *engine, &sources).collect();
        for (source, (found, score)) in sources.iter().zip(together) {
            let (alone, alone_score) = beams(&mut *engine, std::slice::from_ref(source)).next().unwrap();
            assert_eq!(found, alone, "{toy:?} in {kind}: beams of {source:?}");
            assert!((score - alone_score).abs() < 1e-4, "{toy:?} in {kind}: beams of {source:?}");
        }
    }
}

#[test]
fn a_state_may_begin_with_zeros_or_with_nothing_and_grow() {
    let said: std::collections::BTreeSet<Vec<u32>> =
        sources().iter().map(|source| Toy::default().expected(source)).collect();
    assert!(said.len() > 3 && said.iter().any(|ids| ids.len() < LONGEST), "{said:?} proves little");
    for past in [Past::Sum, Past::All] {
        check(Toy { past, ..Toy::default() });
    }
}

#[test]
fn a_mask_has_the_type_and_the_meaning_that_the_graph_wants_in_encoder_and_decoder() {
    for sources in [Sources::Masked, Sources::All] {
        for one in [MaskedOne::Token, MaskedOne::Padding] {
            for mask in [DataType::Int64, DataType::Int32, DataType::Float, DataType::Bool] {
                check(Toy { sources, one, mask, ..Toy::default() });
            }
        }
    }
}

#[test]
fn sources_may_be_filled_up_on_the_right() {
    for sources in [Sources::First, Sources::All, Sources::Masked] {
        for past in [Past::Sum, Past::All] {
            check(Toy { sources, past, side: PaddingSide::Right, ..Toy::default() });
        }
    }
}

#[test]
fn start_and_end_may_stand_around_the_source() {
    for side in [PaddingSide::Left, PaddingSide::Right] {
        for sources in [Sources::Masked, Sources::All] {
            check(Toy { around: true, sources, side, ..Toy::default() });
        }
    }
}

#[test]
fn special_ids_may_be_others() {
    let special = SpecialIds { pad: 5, start: 2, end: 1, unk: 0 };
    // Sources without padding.
    let kept = |ids: Vec<u32>| ids.into_iter().filter(|&id| id != 5).collect::<Vec<_>>();
    for around in [false, true] {
        for past in [Past::Sum, Past::All] {
            let toy = Toy { special, around, past, sources: Sources::All, ..Toy::default() };
            let bundle = toy.bundle().unwrap();
            let text = bundle.source().detokenise(&[3, 1, 4, 2, 0, 5, 8]);
            assert_eq!((text.as_str(), bundle.source().framed("ba?")), ("ab\u{fffd}e", vec![4, 3, 0]));
            let sources: Vec<Vec<u32>> =
                sources().into_iter().map(kept).filter(|ids| !ids.is_empty()).collect();
            let expected: Vec<Vec<u32>> = sources.iter().map(|source| toy.expected(source)).collect();
            assert!(expected.iter().any(|ids| ids.len() < LONGEST), "none ends");
            for kind in ways() {
                let mut engine = kind.open(&bundle).unwrap();
                assert_eq!(engine.special_ids(), special);
                let found = decode_batch(&mut *engine, &sources, &options(1)).unwrap();
                let found: Vec<Vec<u32>> = found.into_iter().map(|h| h[0].ids.clone()).collect();
                assert_eq!(found, expected, "{toy:?} in {kind}");
            }
        }
    }
    for wrong in [SpecialIds { unk: 5, ..special }, SpecialIds { start: 8, ..special }] {
        let error = Toy::default().changed_bundle(|manifest| manifest.special_ids = wrong).unwrap_err();
        assert!(error.to_string().contains("special"), "{error}");
    }
}

#[test]
fn a_decoder_without_states_is_fed_the_whole_prefix_and_rows_of_any_age_run_together_where_it_is_causal() {
    for (past, joins) in [(Past::Prefix, Joins::AnyAge), (Past::WholePrefix, Joins::SameAge)] {
        for read in [Sources::All, Sources::Masked] {
            let toy = Toy { past, sources: read, ..Toy::default() };
            for kind in ways() {
                let mut engine = kind.open(&toy.bundle().unwrap()).unwrap();
                assert_eq!((engine.joins(), engine.lengths()), (joins, Lengths::Any), "{toy:?} in {kind}");
                assert_eq!(engine.fork().unwrap().joins(), joins);
                // Requests join while others run, each with its number of beams.
                for ((_, found), source) in run(&mut *engine).into_iter().zip(sources()).step_by(3) {
                    assert_eq!(found[0].ids, toy.expected(&source), "{source:?} in {kind}");
                }
            }
            check(toy);
        }
    }
    let states = Toy::default().changed_bundle(|m| m.wiring.decoder_prefix = true).unwrap_err();
    assert!(states.to_string().contains("the decoder has states too"), "{states}");
}

#[test]
fn graphs_that_were_exported_for_one_row_are_run_once_for_each() {
    for past in [Past::Sum, Past::All, Past::Prefix] {
        for sources in [Sources::All, Sources::Masked, Sources::First] {
            let side = if sources == Sources::First { PaddingSide::Right } else { PaddingSide::Left };
            let toy = Toy { past, sources, side, batch: "1", ..Toy::default() };
            for kind in ways() {
                let engine = kind.open(&toy.bundle().unwrap()).unwrap();
                assert_eq!(engine.lengths(), Lengths::Alone, "{toy:?} in {kind}");
            }
            check(toy);
        }
    }
}

#[test]
fn ids_may_be_int32() {
    check(Toy { id: DataType::Int32, ..Toy::default() });
}

#[test]
fn attention_is_that_of_the_sources_own_tokens_wherever_they_stand() {
    for side in [PaddingSide::Left, PaddingSide::Right] {
        for around in [false, true] {
            let bundle = Toy { sources: Sources::All, side, around, ..Toy::default() }.bundle().unwrap();
            for kind in ways() {
                let mut engine = kind.open(&bundle).unwrap();
                let output = crate::decoding::OutputOptions { attention: Some(true), ..Default::default() };
                let options = DecodingOptions { output: Some(output), ..options(1) };
                let found = decode_batch(&mut *engine, &sources(), &options).unwrap();
                for (source, hypotheses) in sources().iter().zip(found) {
                    let even = 1.0 / (source.len() + 2 * usize::from(around)) as f32;
                    for weights in &hypotheses[0].attention {
                        assert_eq!(weights, &vec![even; source.len()], "{side:?} {around} {kind}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_the_graphs_do_not_have_is_an_error_when_the_bundle_is_opened() {
    let toy = Toy { past: Past::All, ..Toy::default() };
    let engine_error = |change: fn(&mut crate::manifest::Manifest)| {
        let bundle = toy.changed_bundle(change)?;
        open(&bundle, EngineKind::Auto).map(|_| ())
    };
    for (change, said) in [
        (
            (|m| m.wiring.states[0].empty = Some(vec![0, 4])) as fn(&mut crate::manifest::Manifest),
            "the manifest gives rows of [0, 4]",
        ),
        (
            |m| {
                m.wiring.states[0].empty = Some(vec![3, 0]);
                m.wiring.states[0].grows = Some(1);
            },
            "axis 1 of a row grows, and is of a fixed length here",
        ),
        (|m| m.wiring.encoder_mask = None, "mask: nothing feeds this input"),
        (|m| m.wiring.source_end = Some(9), "wiring.source_end: id 9"),
        (
            |m| m.wiring.encoder_mask.as_mut().unwrap().input = "musk".to_owned(),
            "`musk`, which the graph does not have",
        ),
        (|m| m.wiring.states[0].empty = Some(vec![0, 3, 1]), "the manifest gives rows of [0, 3, 1]"),
        (|m| m.wiring.states[0].grows = None, "cannot begin with rows of [0, 3]"),
        (|m| m.wiring.states[0].zeros = Some(vec![3]), "has 2 first values"),
    ] {
        let error = engine_error(change).unwrap_err();
        assert!(error.to_string().contains(said) && error.kind() != ErrorKind::Engine, "{error}");
    }
}

#[test]
fn a_row_that_would_join_others_of_another_age_is_refused_where_the_state_grows() {
    for kind in ways() {
        let mut engine = kind.open(&Toy { past: Past::All, ..Toy::default() }.bundle().unwrap()).unwrap();
        assert_eq!(engine.joins(), Joins::SameAge);
        let encoded = engine.encode(&IdMatrix { rows: 2, columns: 1, data: vec![4, 5] }).unwrap();
        engine.join(&encoded, 0..1).unwrap();
        engine.join(&encoded, 1..2).unwrap();
        let mut output = StepOutput::default();
        engine.step(&[1, 1], &mut output).unwrap();
        assert!(engine.join(&encoded, 0..1).unwrap_err().to_string().contains("grows with each step"));
        engine.step(&[4, 4], &mut output).unwrap();
        engine.clear();
        engine.join(&encoded, 0..1).unwrap();
    }
}

/// A graph on a device: its tensors cannot be read but for those outputs that are scores.
struct FarAway {
    graph: Box<dyn Graph>,
    /// Outputs from here on are no scores, up to the attention weights at the end.
    states: std::ops::Range<usize>,
}

/// What only the device can look at.
struct Far {
    value: Value,
    readable: bool,
}

impl DeviceTensor for Far {
    fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    fn element_type(&self) -> i32 {
        self.value.element_type()
    }
}

fn far(value: &Value) -> &Far {
    let any: &dyn std::any::Any = &**value;
    any.downcast_ref().expect("a tensor of this device")
}

impl Graph for FarAway {
    fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
        let feed = |input: &Feed<'_>| match *input {
            Feed::Host(_) => None,
            Feed::Value(value) => Some(Arc::clone(&far(value).value)),
        };
        let inner: Vec<Option<Value>> = inputs.iter().map(feed).collect();
        let feeds: Vec<Feed<'_>> = inputs
            .iter()
            .zip(&inner)
            .map(|(input, inner)| inner.as_ref().map_or(*input, Feed::Value))
            .collect();
        self.graph.call(&feeds, outputs)?;
        for (at, output) in outputs.iter_mut().enumerate() {
            *output = Arc::new(Far { value: Arc::clone(output), readable: !self.states.contains(&at) });
        }
        Ok(())
    }

    fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
        Ok(Arc::new(Far { value: self.graph.upload(tensor)?, readable: false }))
    }

    fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
        match far(value) {
            Far { value, readable: true } => self.graph.read(value, into),
            Far { .. } => Err(Error::new(ErrorKind::Engine, "this tensor is on the device")),
        }
    }

    fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
        let parts: Vec<&Value> = parts.iter().map(|part| &far(part).value).collect();
        Ok(Arc::new(Far { value: self.graph.arrange(&parts, arrangement)?, readable: false }))
    }

    fn fork(&self) -> Result<Box<dyn Graph>> {
        Ok(Box::new(Self { graph: self.graph.fork()?, states: self.states.clone() }))
    }
}

fn far_away(bundle: &Bundle) -> OnnxEngine {
    OnnxEngine::new("far away", bundle, |name, model, inputs, outputs| {
        let graph = load_graph(EngineKind::Auto, name, model.bytes(), inputs, outputs)?;
        // An encoder gives states alone.
        let states = if name.starts_with("encoder") {
            0..outputs.len()
        } else {
            1..1 + bundle.manifest().wiring.states.len()
        };
        Ok(Box::new(FarAway { graph, states }))
    })
    .unwrap()
}

/// Requests that join at different steps, each with its own number of beams.
fn run(engine: &mut dyn Engine) -> Vec<(u64, Vec<Hypothesis>)> {
    let mut decoding = DecodingLoop::new(engine);
    let mut finished = Vec::new();
    let mut waiting = (0u64..).zip(sources());
    loop {
        let request = waiting.next().map(|(id, source)| {
            let settings = Arc::new(Settings::for_ids(&options(1 + id as usize % 3)).unwrap());
            Request { id, source, settings, stream: false }
        });
        decoding.admit(request);
        for event in decoding.step() {
            let Event::Finished { request, hypotheses } = event else { panic!("{event:?}") };
            finished.push((request, hypotheses));
        }
        if finished.len() == sources().len() {
            finished.sort_by_key(|(request, _)| *request);
            return finished;
        }
    }
}

#[test]
fn the_loop_needs_no_value_of_the_state_on_the_host() {
    let toys = [
        Toy::default(),
        Toy { sources: Sources::All, ..Toy::default() },
        Toy { past: Past::All, sources: Sources::All, side: PaddingSide::Right, ..Toy::default() },
    ];
    let toys = toys.map(|toy| toy.bundle().unwrap());
    for bundle in toys.into_iter().chain(["ids", "foreign"].map(tests::bundle)) {
        let mut near = open(&bundle, EngineKind::Auto).unwrap();
        let mut engine = far_away(&bundle);
        assert_eq!(run(&mut engine), run(&mut *near));
        assert!(engine.encode(&IdMatrix { rows: 1, columns: 1, data: vec![4] }).is_ok());
        let mut fork = engine.fork().unwrap();
        assert_eq!(run(&mut *fork), run(&mut *near));
        let encoded = engine.encode(&IdMatrix { rows: 1, columns: 1, data: vec![4] }).unwrap();
        engine.join(&encoded, 0..1).unwrap();
        assert!(engine.states().unwrap_err().to_string().contains("on the device"), "it would be noticed");
    }
}

#[test]
fn an_engine_that_fails_in_a_step_lets_its_rows_go_and_can_go_on() {
    /// Fails at one call.
    struct Failing(Box<dyn Graph>, usize);

    impl Graph for Failing {
        fn call(&mut self, inputs: &[Feed<'_>], outputs: &mut Vec<Value>) -> Result<()> {
            self.1 = self.1.wrapping_sub(1);
            if self.1 == 0 {
                Err(Error::new(ErrorKind::Engine, "a fault"))
            } else {
                self.0.call(inputs, outputs)
            }
        }

        fn upload(&self, tensor: TensorView<'_>) -> Result<Value> {
            self.0.upload(tensor)
        }

        fn read(&self, value: &Value, into: &mut Tensor) -> Result<()> {
            self.0.read(value, into)
        }

        fn arrange(&mut self, parts: &[&Value], arrangement: &Arrangement<'_>) -> Result<Value> {
            self.0.arrange(parts, arrangement)
        }

        fn fork(&self) -> Result<Box<dyn Graph>> {
            Ok(Box::new(Self(self.0.fork()?, self.1)))
        }
    }

    let toy = Toy { sources: Sources::All, ..Toy::default() };
    let bundle = toy.bundle().unwrap();
    let mut engine = OnnxEngine::new("failing", &bundle, |name, model, inputs, outputs| {
        let graph = load_graph(EngineKind::Auto, name, model.bytes(), inputs, outputs)?;
        Ok(Box::new(Failing(graph, if name.starts_with("decoder") { 3 } else { 0 })))
    })
    .unwrap();
    let settings = Arc::new(Settings::for_ids(&options(2)).unwrap());
    let request =
        |id| Request { id, source: sources()[1].clone(), settings: Arc::clone(&settings), stream: false };
    let mut decoding = DecodingLoop::new(&mut engine as &mut dyn Engine);
    decoding.admit([request(0), request(1)]);
    let events: Vec<Event> = decoding.events().collect();
    assert!(
        events
            .iter()
            .all(|event| matches!(event, Event::Failed { error, .. } if error.message() == "a fault"))
    );
    assert_eq!((events.len(), decoding.rows(), decoding.is_idle()), (2, 0, true));
    decoding.admit([request(2)]);
    let events: Vec<Event> = decoding.events().collect();
    assert!(matches!(&events[..], [Event::Finished { request: 2, .. }]), "{events:?}");
}

#[test]
fn steps_copy_no_state_to_the_host_and_reordering_only_what_it_moves() {
    for form in ["ids", "foreign"] {
        let bundle = tests::bundle(form);
        for kind in ways() {
            let mut engine = kind.open(&bundle).unwrap();
            // What a device does none of it copies here.
            let here = usize::from(kind.device == Device::Cpu);
            let source = IdMatrix { rows: 3, columns: 4, data: vec![0, 0, 4, 5, 4, 5, 6, 7, 0, 8, 9, 4] };
            let mut output = StepOutput::default();
            let mut copied = |engine: &mut dyn Engine, tokens: &[i64]| {
                COPIED.set(0);
                engine.step(tokens, &mut output).unwrap();
                COPIED.get()
            };
            let encoded = engine.encode(&source).unwrap();
            engine.join(&encoded, 0..3).unwrap();
            for _ in 0..20 {
                assert_eq!(copied(&mut *engine, &[4, 5, 6]), 0, "{form} in {kind}");
            }
            let states: usize = engine.states().unwrap().iter().map(StateTensor::row_len).sum();
            let memory = if form == "foreign" { 4 * 8 + 4 } else { 0 };
            engine.keep(&[1, 1, 1]);
            assert_eq!(
                copied(&mut *engine, &[4, 5, 6]),
                here * 3 * (states + memory),
                "{form} in {kind}: a beam branches"
            );
            engine.keep(&[2, 0, 1]);
            assert_eq!(
                copied(&mut *engine, &[4, 5, 6]),
                here * 3 * states,
                "{form} in {kind}: beams change places"
            );
            engine.keep(&[0, 2]);
            engine.keep(&[1]);
            engine.join(&encoded, 1..2).unwrap();
            assert_eq!(
                copied(&mut *engine, &[4, 5]),
                here * 2 * (states + memory),
                "{form} in {kind}: rows come and go"
            );
        }
    }
}
