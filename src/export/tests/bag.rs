//! A second family of sequence networks, which knows nothing but the trait and a line of
//! [`rebuild`](crate::network::rebuild): it is exported, verified and described like the first.
//!
//! A source is the sum of its symbols' vectors; after token t the logits are tanh(sum + vector of t) times a
//! matrix, whatever came before t.

use serde::{Deserialize, Serialize};

use super::*;
use crate::network::sequence::{FindTensor, Need};
use crate::network::{Exported, Forward, Layout, ParameterId, SequenceNetwork};
use crate::onnx::{Attribute, Axis, DataType, GraphBuilder, Value};
use s2s_kernels::Real;
use s2s_kernels::random::Random;
use s2s_runtime::contract::{DECODER_INPUT, DECODER_OUTPUT, DECODER_TARGET, ENCODER_INPUT, LOSS, axis, next};
use s2s_runtime::manifest::{OutputForm, StateWire, Wiring};

const STATE: &str = "bag";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sizes {
    source: usize,
    target: usize,
    width: usize,
}

#[derive(Clone, Debug)]
struct Bag {
    sizes: Sizes,
    layout: Layout,
    encoder: ParameterId,
    decoder: ParameterId,
    output: ParameterId,
}

/// The family's line in the registry leads here.
pub(crate) fn build(architecture: serde_json::Value) -> crate::error::Result<Box<dyn SequenceNetwork>> {
    Ok(Box::new(Bag::new(serde_json::from_value(architecture).unwrap())))
}

impl Bag {
    fn new(sizes: Sizes) -> Self {
        let mut layout = Layout::default();
        let encoder = layout.add("encoder", &[sizes.source, sizes.width]);
        let decoder = layout.add("decoder", &[sizes.target, sizes.width]);
        let output = layout.add("output", &[sizes.width, sizes.target]);
        Self { sizes, layout, encoder, decoder, output }
    }

    /// Random weights; padding is the vector of zeros.
    fn initialise(&self) -> Parameters<f32> {
        let (mut p, mut random) = (Parameters::zeros(&self.layout), Random::new(5, 0));
        p.data_mut().iter_mut().for_each(|x| *x = random.normal() as f32);
        p.get_mut(self.encoder)[..self.sizes.width].fill(0.0);
        p
    }

    fn pass<R: Real>(&self, p: &Parameters<R>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<R> {
        let (width, target) = (self.sizes.width, self.sizes.target);
        let row = |id, at: u32, w: usize| p.get(id)[at as usize * width + w];
        let state =
            |source: &Vec<u32>, w| source.iter().fold(R::ZERO, |sum, &id| sum + row(self.encoder, id, w));
        let states: Vec<R> =
            sources.iter().flat_map(|source| (0..width).map(move |w| state(source, w))).collect();
        let target_time = inputs.iter().map(Vec::len).max().unwrap_or_default();
        let mut logits = vec![R::ZERO; inputs.len() * target_time * target];
        for (at, input) in inputs.iter().enumerate() {
            for (step, &token) in input.iter().enumerate() {
                for w in 0..width {
                    let h = (states[at * width + w] + row(self.decoder, token, w)).tanh::<false>();
                    for symbol in 0..target {
                        logits[(at * target_time + step) * target + symbol] +=
                            h * p.get(self.output)[w * target + symbol];
                    }
                }
            }
        }
        Forward { states: vec![(STATE.to_owned(), states)], logits, target_time }
    }

    /// Ids (batch, time) and states (batch, width) to logits (batch, time, target).
    fn scores(&self, p: &Parameters<f32>, g: &mut GraphBuilder, ids: &Value, state: &Value) -> Value {
        let table = weight(p, g, self.decoder);
        let vectors = g.node("Gather", &[&table, ids], &[]);
        let one = g.int64(&[1], &[1]);
        let state = g.node("Unsqueeze", &[state, &one], &[]);
        let sum = g.node("Add", &[&vectors, &state], &[]);
        let h = g.node("Tanh", &[&sum], &[]);
        let output = weight(p, g, self.output);
        g.node("MatMul", &[&h, &output], &[])
    }

    fn encode(&self, p: &Parameters<f32>, g: &mut GraphBuilder) -> Value {
        let axes = [Axis::Symbol(axis::BATCH), Axis::Symbol(axis::SOURCE_TIME)];
        let ids = g.input(ENCODER_INPUT, DataType::Int64, &axes);
        let table = weight(p, g, self.encoder);
        let vectors = g.node("Gather", &[&table, &ids], &[]);
        let one = g.int64(&[1], &[1]);
        g.node("ReduceSum", &[&vectors, &one], &[("keepdims", Attribute::Int(0))])
    }
}

impl SequenceNetwork for Bag {
    fn vocabularies(&self) -> [usize; 2] {
        [self.sizes.source, self.sizes.target]
    }

    fn architecture_json(&self) -> crate::error::Result<serde_json::Value> {
        let mut sizes = serde_json::to_value(&self.sizes).unwrap();
        sizes["family"] = "bag".into();
        Ok(sizes)
    }

    fn parameter_layout(&self) -> &Layout {
        &self.layout
    }

    fn tag(&self) -> &'static str {
        "bag-of-symbols"
    }

    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    fn wiring(&self, _: Io) -> Wiring {
        Wiring {
            encoder_input: ENCODER_INPUT.to_owned(),
            decoder_input: DECODER_INPUT.to_owned(),
            decoder_output: DECODER_OUTPUT.to_owned(),
            output: OutputForm::Logits,
            states: vec![StateWire {
                encoder_output: STATE.to_owned(),
                decoder_input: STATE.to_owned(),
                decoder_output: next(STATE),
                ..StateWire::default()
            }],
            ..Wiring::default()
        }
    }

    fn reading(&self, _: &Vocabulary) -> Box<dyn SequenceNetwork> {
        Box::new(self.clone())
    }

    fn emit(&self, role: Role, p: &Parameters<f32>, g: &mut GraphBuilder, _: Io) {
        let batch = Axis::Symbol(axis::BATCH);
        let (width, target) = (Axis::Fixed(self.sizes.width), Axis::Fixed(self.sizes.target));
        match role {
            Role::Encoder => {
                let state = self.encode(p, g);
                g.output(STATE, &state, DataType::Float, &[batch, width]);
            }
            Role::Decoder => {
                let ids = g.input(DECODER_INPUT, DataType::Int64, &[batch, Axis::Fixed(1)]);
                let state = g.input(STATE, DataType::Float, &[batch, width]);
                let logits = self.scores(p, g, &ids, &state);
                g.output(DECODER_OUTPUT, &logits, DataType::Float, &[batch, Axis::Fixed(1), target]);
                g.output(&next(STATE), &state, DataType::Float, &[batch, width]);
            }
            Role::Training => {
                let state = self.encode(p, g);
                let axes = [batch, Axis::Symbol(axis::TARGET_TIME)];
                let ids = g.input(DECODER_INPUT, DataType::Int64, &axes);
                let expected = g.input(DECODER_TARGET, DataType::Int64, &axes);
                let logits = self.scores(p, g, &ids, &state);
                let log_p = g.node("LogSoftmax", &[&logits], &[("axis", Attribute::Int(-1))]);
                let last = g.int64(&[1], &[-1]);
                let index = g.node("Unsqueeze", &[&expected, &last], &[]);
                let log_p = g.node("GatherElements", &[&log_p, &index], &[("axis", Attribute::Int(2))]);
                let kind = [("to", Attribute::Int(DataType::Float as i64))];
                let (ids, one) = (g.node("Cast", &[&index], &kind), g.float(&[], &[1.0]));
                let mask = g.node("Min", &[&ids, &one], &[]);
                let masked = g.node("Mul", &[&log_p, &mask], &[]);
                let all = g.int64(&[3], &[0, 1, 2]);
                let keep = [("keepdims", Attribute::Int(0))];
                let [sum, tokens] = [&masked, &mask].map(|x| g.node("ReduceSum", &[x, &all], &keep));
                let mean = g.node("Div", &[&sum, &tokens], &[]);
                let loss = g.node("Neg", &[&mean], &[]);
                let axes = [batch, Axis::Symbol(axis::TARGET_TIME), target];
                g.output(DECODER_OUTPUT, &logits, DataType::Float, &axes);
                g.output(LOSS, &loss, DataType::Float, &[]);
            }
            Role::Translate | Role::EncoderStep => unreachable!("it is none of the roles"),
        }
    }

    fn forward(&self, p: &Parameters<f32>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<f32> {
        self.pass(p, sources, inputs)
    }

    fn forward_exact(&self, p: &Parameters<f64>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<f64> {
        self.pass(p, sources, inputs)
    }

    fn export_tensors<'a>(&self, p: &'a Parameters<f32>) -> Vec<Exported<'a, f32>> {
        p.iter().map(|(entry, values)| (entry.name.clone(), entry.shape.clone(), values.into())).collect()
    }

    fn import_tensors(&self, find: &mut FindTensor<'_>) -> crate::error::Result<Parameters<f32>> {
        let mut p = Parameters::zeros(&self.layout);
        for id in p.ids() {
            let (_, values) = find(&p.entry(id).name.clone()).unwrap();
            p.get_mut(id).copy_from_slice(&values);
        }
        Ok(p)
    }
}

#[test]
fn another_family_of_sequence_networks_is_exported_verified_and_described_by_the_trait_alone() {
    let toy = Toy::embedded();
    let network = Bag::new(Sizes { source: toy.source.len(), target: toy.target.len(), width: 6 });
    let parameters = network.initialise();
    let input = ExportInput { network: &network, parameters: &parameters, ..toy.input() };
    for dtype in [Dtype::F32, Dtype::F16] {
        let files = bundle_files(&input, &ExportOptions { dtype, ..ExportOptions::default() }).unwrap();
        let readme = String::from_utf8(files[file::README].clone()).unwrap();
        assert!(readme.contains("bag-of-symbols"), "{readme}");
        assert!(readme.contains("| decoder | out | `next_bag` | float32 | (batch, 6) |"), "{readme}");
        let bundle = Bundle::from_files("bag", files).unwrap();
        let report = verify(&bundle, &VerifyOptions { beams: Some(2), ..VerifyOptions::default() }).unwrap();
        assert!(report.passed, "{}", report.table());
        assert!(report.checks.iter().all(|c| c.outcome == Outcome::Passed), "{}", report.table());
    }
    let fused = ExportOptions { fused: true, ..ExportOptions::default() };
    let error = bundle_files(&input, &fused).unwrap_err();
    assert_eq!((error.kind(), error.help_text()), (ErrorKind::Usage, Some("leave --fused out")));
}

#[test]
fn another_family_whose_graph_differs_from_its_pass_is_found() {
    let toy = Toy::embedded();
    let network = Bag::new(Sizes { source: toy.source.len(), target: toy.target.len(), width: 6 });
    let parameters = network.initialise();
    let input = ExportInput { network: &network, parameters: &parameters, ..toy.input() };
    let mut files = bundle_files(&input, &ExportOptions::default()).unwrap();
    drop_self_test(&mut files);
    let mut decoder = model(&files, Role::Decoder);
    let tanh = decoder.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op_type == "Tanh").unwrap();
    tanh.op_type = "Sigmoid".to_owned();
    replace(&mut files, Role::Decoder, &decoder);
    let report = verify(&Bundle::from_files("bag", files).unwrap(), &VerifyOptions::default()).unwrap();
    assert!(failed(&report).iter().any(|check| check.subject == file::DECODER), "{}", report.table());
}

/// A parameter as a node's input.
fn weight(p: &Parameters<f32>, g: &mut GraphBuilder, id: ParameterId) -> Value {
    let entry = p.entry(id);
    g.initializer(&entry.name, &entry.shape, p.get(id))
}
