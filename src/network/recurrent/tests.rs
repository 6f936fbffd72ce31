//! The network against PyTorch (goldens of `tests/goldens/make.py`) and against finite differences in f64.

#![allow(clippy::unwrap_used)]

use serde_json::Value as Json;

use s2s_runtime::contract::START;

use super::*;
use crate::network::Network;
use crate::network::ground::packing::Packing;
use crate::network::ground::pass::Pass;
use crate::network::layers::projection::Input;
use crate::network::layers::recurrent::{Recurrent, RecurrentBackward, Source, Tape};
use crate::network::*;
use crate::train::{StepOptions, Stepper};
use s2s_kernels::{Real, Scratch};

/// Goldens are written with 12 digits; f64 sums of a few hundred terms stay below this.
const F64_TOLERANCE: f64 = 1e-9;
/// f32 rounding, grown by sums over a few hundred terms and by the activations' four units in the last place.
const F32_TOLERANCE: f64 = 1e-5;

fn golden(file: &str) -> Json {
    let path = format!("{}/tests/goldens/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(tensor: &Json) -> Vec<f64> {
    tensor["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn shape(tensor: &Json) -> Vec<usize> {
    tensor["shape"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
}

fn texts(json: &Json) -> Vec<Vec<u32>> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect())
        .collect()
}

fn assert_close<R: Real>(what: &str, got: &[R], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let g = g.to_f64();
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "{what}[{i}]: {g} for {w}");
    }
}

/// A random network of every option and a ragged batch, for finite differences.
fn examples(texts: &[(Vec<u32>, Vec<u32>)]) -> Vec<Example<'_>> {
    texts.iter().map(|(source, target)| Example { source, target }).collect()
}

fn network_of(case: &Json) -> Seq2Seq {
    Seq2Seq::new(serde_json::from_value(case["architecture"].clone()).unwrap()).unwrap()
}

fn parameters_of<R: Real>(network: &Seq2Seq, tensors: &Json) -> Parameters<R> {
    network
        .import(|name| {
            let tensor = tensors.get(name)?;
            Some((shape(tensor), numbers(tensor).into_iter().map(R::from_f64).collect()))
        })
        .unwrap()
}

fn check_gradients<R: Real>(tolerance: f64) {
    for case in golden("seq2seq.json")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let network = network_of(case);
        let p: Parameters<R> = parameters_of(&network, &case["parameters"]);
        let pairs: Vec<_> = texts(&case["sources"]).into_iter().zip(texts(&case["targets"])).collect();
        let tokens = case["tokens"].as_f64().unwrap();
        // Few tokens prepare W for rows of embeddings, many the table of all symbols: both ways must agree.
        for tokens_a_shard in [0, 1000] {
            let prepared = network.prepare(&p, tokens_a_shard, false);
            let mut ws = Workspace::default();
            let label_smoothing = case["label_smoothing"].as_f64().unwrap_or(0.0);
            let objective = Objective { scale: 1.0 / tokens, label_smoothing, ..Objective::default() };
            let sums = network.pass(&p, &prepared, &examples(&pairs), &objective, &mut ws);
            assert!(
                (sums.nats - case["nats"].as_f64().unwrap()).abs() < tolerance * 100.0,
                "{name}: nats {}",
                sums.nats
            );
            assert_eq!(
                (sums.tokens as f64, Some(sums.correct as u64)),
                (tokens, case["correct"].as_u64()),
                "{name}"
            );
            for (parameter, shape_got, got) in
                network.exported(&Gradients::of(&p, &[network.summands(&p, &ws)]))
            {
                let want = &case["gradients"][&parameter];
                assert_eq!(shape_got, shape(want), "{name} {parameter}");
                assert_close(&format!("{name}: gradient of {parameter}"), &got, &numbers(want), tolerance);
            }
            assert_eq!(network.evaluate(&p, &prepared, &examples(&pairs), &mut ws), sums);
        }
    }
}

#[test]
fn loss_and_gradients_of_whole_networks_are_those_of_pytorch_in_f64() {
    check_gradients::<f64>(F64_TOLERANCE);
}

#[test]
fn loss_and_gradients_of_whole_networks_are_those_of_pytorch_in_f32() {
    check_gradients::<f32>(F32_TOLERANCE);
}

#[test]
fn states_and_logits_are_those_of_pytorch_and_zero_where_padded() {
    for case in golden("seq2seq.json")["cases"].as_array().unwrap() {
        let network = network_of(case);
        let p: Parameters<f64> = parameters_of(&network, &case["parameters"]);
        let inputs: Vec<Vec<u32>> =
            texts(&case["targets"]).iter().map(|t| [&[START], t.as_slice()].concat()).collect();
        let forward = network.forward(&p, &texts(&case["sources"]), &inputs);
        for (name, state) in &forward.states {
            assert_close(name, state, &numbers(&case["states"][name]), F64_TOLERANCE);
        }
        assert_close("logits", &forward.logits, &numbers(&case["logits"]), F64_TOLERANCE);
    }
}

#[test]
fn three_adam_steps_move_the_parameters_as_in_pytorch_for_any_number_of_threads() {
    let goldens = golden("seq2seq.json");
    for case in goldens["cases"].as_array().unwrap() {
        for (variant, threads) in [("adam", 1), ("adam_clipped", 1), ("adam", 3)] {
            let network = network_of(case);
            let p = parameters_of(&network, &case["parameters"]);
            let label_smoothing = case["label_smoothing"].as_f64().unwrap_or(0.0);
            let clip_norm = case[variant]["clip_norm"].as_f64();
            let options = StepOptions {
                learning_rate: 1e-2,
                clip_norm,
                label_smoothing,
                threads,
                ..Default::default()
            };
            let mut stepper = Stepper::new(network, p, options);
            let pairs: Vec<_> = texts(&case["sources"]).into_iter().zip(texts(&case["targets"])).collect();
            for (loss, norm) in std::iter::zip(
                case[variant]["losses"].as_array().unwrap(),
                case[variant]["gradient_norms"].as_array().unwrap(),
            ) {
                let report = stepper.step(&examples(&pairs));
                assert!(
                    (report.sums.nats / report.sums.tokens as f64 - loss.as_f64().unwrap()).abs()
                        < F32_TOLERANCE
                );
                assert!((report.gradient_norm - norm.as_f64().unwrap()).abs() < F32_TOLERANCE);
            }
            for (name, _, got) in stepper.network().exported(stepper.parameters()) {
                // Adam divides by the root of a squared gradient: where a gradient is all rounding, so is its
                // step, but no step is longer than the learning rate.
                let want = numbers(&case[variant]["parameters"][&name]);
                let wrong =
                    got.iter().zip(&want).filter(|(g, w)| (f64::from(**g) - **w).abs() > 2e-4).count();
                assert!(wrong * 200 <= want.len(), "{variant} {name}: {wrong} of {}", want.len());
            }
        }
    }
}

#[test]
fn stacked_lstm_layers_and_their_gradients_are_those_of_pytorch() {
    for case in golden("lstm.json")["cases"].as_array().unwrap() {
        let lengths: Vec<usize> =
            case["lengths"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect();
        let [layers, inputs, hidden] =
            ["layers", "inputs", "hidden"].map(|key| case[key].as_u64().unwrap() as usize);
        let mut layout = Layout::default();
        let stack: Vec<Recurrent> = (0..layers)
            .map(|l| {
                let source = Source::Rows(if l == 0 { inputs } else { hidden });
                Recurrent::new(&mut layout, "g", format!("g.lstm_{l}"), Cell::Lstm.into(), hidden, source)
            })
            .collect();
        let mut p = Parameters::<f64>::zeros(&layout);
        for id in p.ids() {
            let name = p.entry(id).name.trim_start_matches("g.").to_owned();
            p.get_mut(id).copy_from_slice(&numbers(&case["parameters"][&name]));
        }
        let packing = Packing::new(&lengths);
        let batch = lengths.len();
        // (T, B, width) of the goldens to packed rows and back.
        let pack = |tensor: &Json, width: usize| -> Vec<f64> {
            let all = numbers(tensor);
            packing.iter().flat_map(|(t, _, b)| all[(t * batch + b) * width..][..width].to_vec()).collect()
        };
        let order = |tensor: &Json, layer: usize| -> Vec<f64> {
            let all = numbers(tensor);
            packing
                .order
                .iter()
                .flat_map(|&b| all[(layer * batch + b) * hidden..][..hidden].to_vec())
                .collect()
        };
        let x = pack(&case["x"], inputs);
        let prepared: Vec<_> = stack.iter().map(|l| l.prepare(&p, 0, false, Default::default())).collect();
        let mut tapes: Vec<Tape<f64>> = vec![Tape::default(); layers];
        let mut pass = Pass { parameters: &p, dropout: None, scratch: &mut Scratch::default() };
        for l in 0..layers {
            let (below, rest) = tapes.split_at_mut(l);
            rest[0].initial = vec![order(&case["h_0"], l), order(&case["c_0"], l)];
            let input = if l == 0 { Input::Rows(&x) } else { Input::Rows(&below[l - 1].h) };
            stack[l].forward(&mut pass, &prepared[l], &packing, input, &mut rest[0]);
            let states = stack[l].final_states(&packing, &rest[0]);
            assert_close("h_n", &states[0], &order(&case["h_n"], l), F64_TOLERANCE);
            assert_close("c_n", &states[1], &order(&case["c_n"], l), F64_TOLERANCE);
        }
        assert_close("y", &tapes[layers - 1].h, &pack(&case["y"], hidden), F64_TOLERANCE);

        let mut d_rows = pack(&case["d_y"], hidden);
        for l in (0..layers).rev() {
            let (below, rest) = tapes.split_at_mut(l);
            let input = if l == 0 { Input::Rows(&x) } else { Input::Rows(&below[l - 1].h) };
            let mut d_states = [order(&case["d_h_n"], l), order(&case["d_c_n"], l)];
            let mut d_input = Vec::new();
            let gradients =
                RecurrentBackward { d_rows: Some(&d_rows), d_states: &mut d_states, d_input: &mut d_input };
            stack[l].backward(&mut pass, &prepared[l], &packing, input, &mut rest[0], gradients);
            assert_close("d_h_0", &d_states[0], &order(&case["gradients"]["h_0"], l), F64_TOLERANCE);
            assert_close("d_c_0", &d_states[1], &order(&case["gradients"]["c_0"], l), F64_TOLERANCE);
            d_rows = d_input;
        }
        assert_close("d_x", &d_rows, &pack(&case["gradients"]["x"], inputs), F64_TOLERANCE);
        let mut summands = Summands::new();
        for (l, layer) in stack.iter().enumerate() {
            let input = Input::Rows(if l == 0 { &x } else { &tapes[l - 1].h });
            layer.summands(&p, &packing, input, &tapes[l], &mut summands);
        }
        let gradients = Gradients::of(&p, &[summands]);
        for id in p.ids() {
            let name = p.entry(id).name.trim_start_matches("g.").to_owned();
            assert_close(&name, gradients.get(id), &numbers(&case["gradients"][&name]), F64_TOLERANCE);
        }
    }
}

/// Every option at least once, and those that meet in one place together.
fn architectures() -> Vec<Architecture> {
    let base =
        Architecture { source_vocabulary: 7, target_vocabulary: 6, hidden: 4, ..Architecture::default() };
    let embedded = Architecture {
        source_input: InputForm::Embedding(3),
        target_input: InputForm::Embedding(2),
        ..base.clone()
    };
    vec![
        base.clone(),
        embedded.clone(),
        Architecture { layers: 2, target_input: InputForm::OneHot, ..embedded.clone() },
        Architecture { cell: Cell::Gru, ..base.clone() },
        Architecture { cell: Cell::Gru, layers: 2, bidirectional: true, ..embedded.clone() },
        Architecture { cell: Cell::GruResetBias, ..base.clone() },
        Architecture { cell: Cell::GruResetBias, layers: 2, bidirectional: true, ..embedded.clone() },
        Architecture { bidirectional: true, ..base },
        Architecture {
            layers: 2,
            bidirectional: true,
            attention: AttentionScore::General,
            ..embedded.clone()
        },
        Architecture { attention: AttentionScore::Dot, cell: Cell::Gru, ..embedded.clone() },
        Architecture {
            target_input: InputForm::Embedding(4),
            tied_embeddings: true,
            attention: AttentionScore::General,
            ..embedded.clone()
        },
    ]
    .into_iter()
    .chain(foreign(&embedded))
    .collect()
}

/// What models of other programs have.
fn foreign(embedded: &Architecture) -> Vec<Architecture> {
    let one_hot =
        Architecture { source_input: InputForm::OneHot, target_input: InputForm::OneHot, ..embedded.clone() };
    vec![
        Architecture {
            attention: AttentionScore::Additive,
            attention_bias: true,
            bidirectional: true,
            encoder_hidden: Some(6),
            bridge: Bridge::Tanh,
            ..embedded.clone()
        },
        Architecture {
            attention: AttentionScore::Additive,
            attention_width: Some(3),
            attention_output: AttentionOutput::Concatenated,
            cell: Cell::Gru,
            ..one_hot.clone()
        },
        Architecture {
            attention: AttentionScore::General,
            attention_bias: true,
            attention_output: AttentionOutput::CombinedLinear,
            encoder_hidden: Some(3),
            bridge: Bridge::Relu,
            bridge_source: BridgeSource::Hidden,
            ..embedded.clone()
        },
        Architecture {
            layers: 2,
            decoder_layers: Some(1),
            hand_over: Some(vec![Some(1)]),
            ..embedded.clone()
        },
        Architecture {
            decoder_layers: Some(3),
            hand_over: Some(vec![None, Some(0), Some(0)]),
            encoder_hidden: Some(3),
            bridge: Bridge::Linear,
            cell: Cell::GruResetBias,
            ..one_hot.clone()
        },
        Architecture {
            hand_over: Some(vec![None]),
            encoder_hidden: Some(3),
            attention: AttentionScore::General,
            ..embedded.clone()
        },
        Architecture {
            layers: 2,
            attention: AttentionScore::General,
            feeding: Feeding::Output,
            ..embedded.clone()
        },
        Architecture {
            attention: AttentionScore::Dot,
            cell: Cell::Gru,
            attention_bias: true,
            attention_output: AttentionOutput::CombinedLinear,
            feeding: Feeding::Output,
            ..one_hot.clone()
        },
        Architecture {
            attention: AttentionScore::Additive,
            attention_output: AttentionOutput::State,
            feeding: Feeding::Context,
            encoder_hidden: Some(6),
            bidirectional: true,
            bridge: Bridge::Tanh,
            cell: Cell::GruResetBias,
            ..embedded.clone()
        },
        Architecture { cell: Cell::GruResetBefore, layers: 2, bidirectional: true, ..embedded.clone() },
        Architecture { gate_activation: GateActivation::HardSigmoidFifth, ..one_hot.clone() },
        Architecture {
            layers: 2,
            attention: AttentionScore::Dot,
            attention_output: AttentionOutput::Concatenated,
            feeding: Feeding::Context,
            ..one_hot
        },
    ]
}

#[test]
fn every_gradient_of_every_option_agrees_with_finite_differences_in_f64() {
    let pairs =
        [(vec![4, 5, 6], vec![4, 5]), (vec![6], vec![]), (vec![], vec![5, 4, 5]), (vec![4, 4], vec![4])];
    let examples = examples(&pairs);
    for architecture in architectures() {
        let network = Seq2Seq::new(architecture.clone()).unwrap();
        let mut p = network.initialise(3).map(f64::from);
        // An empty source gives a bridge zeros alone: with a bias of zero a relu would be at its corner.
        for id in p.ids().filter(|&id| p.entry(id).name.ends_with("bias")).collect::<Vec<_>>() {
            p.get_mut(id).iter_mut().for_each(|x| *x += 0.0625);
        }
        for (tokens, dropout) in
            [(0, None), (1000, None), (1000, Some(Dropout { rate: 0.4, seed: 5, stream: 9 }))]
        {
            let objective = Objective { scale: 0.25, label_smoothing: 0.0, dropout };
            let run = |p: &Parameters<f64>| {
                let prepared = network.prepare(p, tokens, dropout.is_some());
                let mut ws = Workspace::default();
                let sums = network.pass(p, &prepared, &examples, &objective, &mut ws);
                (0.25 * sums.nats, Gradients::of(p, &[network.summands(p, &ws)]))
            };
            let (_, gradients) = run(&p);
            for i in 0..p.len() {
                // The error of the central difference is of order step squared; rounding adds 1e-16 / step.
                let step = 1e-5;
                let at = |delta: f64| {
                    let mut data = p.data().to_vec();
                    data[i] += delta;
                    run(&p.with_data(data).unwrap()).0
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                let got = gradients.data()[i];
                // The embedding's row of PAD is held at zero where it is tied to the output layer.
                let held = architecture.tied_embeddings && i_is_pad_of_tied(&p, i);
                assert!(
                    held || (numeric - got).abs() < 1e-8,
                    "{architecture:?} {dropout:?} value {i}: {got} for {numeric}"
                );
            }
        }
    }
}

fn i_is_pad_of_tied(p: &Parameters<f64>, i: usize) -> bool {
    let mut at = 0;
    for (entry, values) in p.iter() {
        if entry.name == "decoder.embedding" {
            return (at..at + entry.shape[1]).contains(&i);
        }
        at += values.len();
    }
    false
}

#[test]
fn a_text_gives_the_same_states_and_logits_alone_and_in_a_ragged_batch() {
    for architecture in architectures() {
        let network = Seq2Seq::new(architecture).unwrap();
        let p = network.initialise(8).map(f64::from);
        let sources = [vec![4, 5, 6, 4, 5], vec![6], vec![4, 4]];
        let inputs = [vec![START, 4], vec![START], vec![START, 5, 4, 5]];
        let together = network.forward(&p, &sources, &inputs);
        for row in 0..3 {
            let alone = network.forward(&p, &sources[row..=row], &inputs[row..=row]);
            for ((name, batch), (_, single)) in together.states.iter().zip(&alone.states) {
                assert_close(name, &batch[row * single.len()..][..single.len()], single, 1e-12);
            }
            let width = 6 * together.target_time;
            assert_close(
                "logits",
                &together.logits[row * width..][..alone.logits.len()],
                &alone.logits,
                1e-12,
            );
        }
    }
}

#[test]
fn the_recurrent_weights_start_orthogonal_and_the_forget_bias_at_one() {
    let source_input = InputForm::Embedding(4);
    let architecture = Architecture {
        source_vocabulary: 9,
        target_vocabulary: 9,
        source_input,
        hidden: 5,
        layers: 2,
        ..Architecture::default()
    };
    let network = Seq2Seq::new(architecture).unwrap();
    let p = network.initialise(1);
    assert_eq!(p, network.initialise(1));
    assert_ne!(p, network.initialise(2));
    for (name, shape, values) in network.exported(&p) {
        if name.ends_with(".R") {
            for (i, j) in [(0, 0), (0, 1), (2, 4)] {
                let dot: f32 = values.chunks_exact(5).map(|row| row[i] * row[j]).sum();
                assert!(
                    (dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-6,
                    "{name} columns {i} and {j}: {dot}"
                );
            }
        }
        if name.ends_with(".W") {
            let bias: Vec<f32> = values.chunks_exact(shape[2]).map(|row| row[shape[2] - 1]).collect();
            assert_eq!(bias, [[0.0; 10].as_slice(), &[1.0; 5], &[0.0; 5]].concat(), "{name}");
        }
        if name.ends_with("embedding") {
            assert_eq!(values[..shape[1]], vec![0.0; shape[1]], "{name}: PAD");
        }
    }
}
