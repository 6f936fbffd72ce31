//! The three graphs, cut from the one network.

use s2s_runtime::contract::{
    ATTENTION, DECODER_INPUT, DECODER_OUTPUT, DECODER_TARGET, ENCODER_INPUT, ENCODER_KEYS, ENCODER_MASK,
    ENCODER_OUTPUT, FED_OUTPUT, LOSS, axis::BATCH, axis::MEMORY_TIME, axis::SOURCE_TIME, axis::TARGET_TIME,
    next,
};

use super::seq2seq::Seq2Seq;
use crate::network::ground::graph::{GraphSide, Io, emit_mask, squeeze, unsqueeze};
use crate::network::layers::encoder::{Backwards, EncoderSides};
use crate::network::layers::kinds::Feeding;
use crate::network::{Network, Parameters};
use crate::onnx::builder::{Attribute, Axis, GraphBuilder, Value};
use crate::onnx::messages::{DataType, TensorProto};

/// What a decoding step gives within a graph.
pub(super) struct Step {
    /// The logits (batch, target_vocabulary).
    pub(super) logits: Value,
    /// h and (LSTM) c of each layer, (batch, hidden).
    pub(super) states: Vec<Vec<Value>>,
    /// Attention weights (batch, source_time); with attention only.
    pub(super) weights: Option<Value>,
    /// What the next step is fed (batch, hidden), of a decoder that is fed what the output layer read.
    pub(super) fed: Option<Value>,
}

/// What a decoding step reads within a graph.
pub(super) struct StepInput<'a> {
    /// What the first layer reads.
    pub(super) token: Token<'a>,
    /// h and (LSTM) c of each layer, (batch, hidden).
    pub(super) states: &'a [Vec<Value>],
    /// What the step before feeds (batch, hidden), of such a decoder.
    pub(super) fed: Option<&'a Value>,
    /// As in [`Encoded`].
    pub(super) memory: Option<&'a [Value]>,
}

/// What the first layer of a step reads.
pub(super) enum Token<'a> {
    /// A token (batch, 1), or its one-hot row (batch, 1, target_vocabulary): the step is folded, as a
    /// decoder is.
    Token(Io, &'a Value),
    /// W x + b (batch, gates * hidden): the step has the parameters as a training graph carries them.
    Inputs(&'a Value),
}

/// What the encoder's layers give within a graph.
pub(super) struct Encoded {
    /// h and (LSTM) c that each decoder layer starts from, (1, batch, hidden); `None` for zeros.
    pub(super) states: Vec<Option<Vec<Value>>>,
    /// Outputs of the top layer (batch, source_time, encoder width), the mask (batch, source_time) and, for
    /// additive scores, their keys (batch, source_time, attention width); with attention only.
    pub(super) memory: Option<Vec<Value>>,
}

impl Seq2Seq {
    /// The encoder: text to the states that the decoder starts from, with attention also to what it looks
    /// back at.
    pub fn emit_encoder(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let hidden = self.architecture().hidden;
        let source = self.emit_source(g, io);
        let Encoded { states, memory } = self.emit_encoder_layers(p, g, &source);
        g.scope("encoder");
        for (l, states) in states.iter().enumerate() {
            for (name, state) in self.state_names(l).iter().zip(states.iter().flatten()) {
                let state = squeeze(g, state, 0);
                g.output(name, &state, DataType::Float, &[Axis::Symbol(BATCH), Axis::Fixed(hidden)]);
            }
        }
        for (value, (name, axes)) in memory.iter().flatten().zip(self.memory_axes()) {
            g.output(name, value, DataType::Float, &axes);
        }
    }

    /// The time axis of what is attended: longer than the source where the graphs put something behind it.
    fn memory_time(&self) -> Axis {
        Axis::Symbol(if self.filling.is_some() { MEMORY_TIME } else { SOURCE_TIME })
    }

    /// The decoder: one token and the states to logits and the next states.
    pub fn emit_decoder(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let a = self.architecture();
        let token = match io {
            Io::Ids => g.input(DECODER_INPUT, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Fixed(1)]),
            Io::OneHot => g.input(
                DECODER_INPUT,
                DataType::Float,
                &[Axis::Symbol(BATCH), Axis::Fixed(1), Axis::Fixed(a.target_vocabulary)],
            ),
        };
        let state_axes = [Axis::Symbol(BATCH), Axis::Fixed(a.hidden)];
        let states: Vec<Vec<Value>> = (0..self.decoder.len())
            .map(|l| {
                self.state_names(l).iter().map(|name| g.input(name, DataType::Float, &state_axes)).collect()
            })
            .collect();
        let fed = (a.feeding == Feeding::Output).then(|| g.input(FED_OUTPUT, DataType::Float, &state_axes));
        let memory: Option<Vec<Value>> = self.attention.is_some().then(|| {
            let inputs = self.memory_axes().into_iter();
            inputs.map(|(name, axes)| g.input(name, DataType::Float, &axes)).collect()
        });
        let input = StepInput {
            token: Token::Token(io, &token),
            states: &states,
            fed: fed.as_ref(),
            memory: memory.as_deref(),
        };
        let Step { logits, states, weights, fed } = self.emit_step(p, g, input);
        let output = scores(g, io, logits);
        let output = unsqueeze(g, &output, 1);
        g.output(
            DECODER_OUTPUT,
            &output,
            DataType::Float,
            &[Axis::Symbol(BATCH), Axis::Fixed(1), Axis::Fixed(a.target_vocabulary)],
        );
        for (l, states) in states.iter().enumerate() {
            for (name, state) in self.state_names(l).iter().zip(states) {
                g.output(&next(name), state, DataType::Float, &state_axes);
            }
        }
        if let Some(fed) = fed {
            g.output(&next(FED_OUTPUT), &fed, DataType::Float, &state_axes);
        }
        if let Some(mut weights) = weights {
            // What the graphs put behind a source is no part of it for whoever asks what was attended.
            if let Some(filling) = self.filling {
                g.scope("decoder.attention");
                let time = g.int64(&[1], &[1]);
                let (from, end) = (g.int64(&[1], &[0]), g.int64(&[1], &[-(filling.least as i64)]));
                weights = g.node("Slice", &[&weights, &from, &end, &time], &[]);
            }
            g.output(ATTENTION, &weights, DataType::Float, &[Axis::Symbol(BATCH), Axis::Symbol(SOURCE_TIME)]);
        }
    }

    /// Names and axes of what the encoder gives once and every step reads, in the order of
    /// [`Encoded::memory`].
    pub(super) fn memory_axes(&self) -> Vec<(&'static str, Vec<Axis>)> {
        let Some(attention) = &self.attention else { return Vec::new() };
        let mut wires =
            vec![(ENCODER_OUTPUT, Some(self.architecture().encoder_width())), (ENCODER_MASK, None)];
        wires.extend(attention.lookup.keys_width().map(|width| (ENCODER_KEYS, Some(width))));
        let axes = |width: Option<usize>| {
            let rows = [Axis::Symbol(BATCH), self.memory_time()];
            rows.into_iter().chain(width.map(Axis::Fixed)).collect()
        };
        wires.into_iter().map(|(name, width)| (name, axes(width))).collect()
    }

    /// One decoding step: a token and the states of each layer to logits (batch, target_vocabulary) and the
    /// next states.
    pub(super) fn emit_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, input: StepInput<'_>) -> Step {
        let (step, top) = self.emit_step_layers(p, g, input);
        g.scope("decoder.dense");
        Step { logits: self.dense.emit(p, g, &top), ..step }
    }

    /// The same but for the output layer; gives what that reads beside a step without logits.
    pub(super) fn emit_step_layers(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        input: StepInput<'_>,
    ) -> (Step, Value) {
        let attention = self.attention.as_ref().zip(input.memory);
        let feeding = self.architecture().feeding;
        let lookup = |h: &Value, g: &mut GraphBuilder| {
            attention.map(|(attention, memory)| {
                let h = unsqueeze(g, h, 1);
                attention.lookup.emit(p, g, &h, memory, true)
            })
        };
        let (mut found, mut fed) = (None, input.fed.cloned());
        if let (Feeding::Context, Some(states)) = (feeding, input.states.last()) {
            found = lookup(&states[0], g);
            fed = found.as_ref().map(|[context, _]| squeeze(g, context, 1));
        }
        let (io, mut below) = match input.token {
            Token::Token(io, token) => (Some(io), token.clone()),
            Token::Inputs(inputs) => (None, inputs.clone()),
        };
        let mut renewed = Vec::new();
        for (layer, states) in self.decoder.iter().zip(input.states) {
            let states = match io {
                Some(io) => layer.emit_step(p, g, io, &below, fed.as_ref(), states),
                None => layer.emit_unfolded_step(p, g, &below, fed.as_ref(), states),
            };
            below = states[0].clone();
            renewed.push(states);
        }
        if feeding != Feeding::Context {
            found = lookup(&below, g);
        }
        let mut weights = None;
        if let (Some((attention, _)), Some([context, attended])) = (attention, found) {
            let h = unsqueeze(g, &below, 1);
            let output = attention.emit_combine(p, g, &context, &h);
            below = squeeze(g, &output, 1);
            weights = Some(squeeze(g, &attended, 1));
        }
        let fed = (feeding == Feeding::Output).then(|| below.clone());
        (Step { logits: Value::none(), states: renewed, weights, fed }, below)
    }

    /// The training model: both sides over whole texts with teacher forcing, and the loss.
    pub fn emit_training(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let a = self.architecture();
        let source = self.emit_source(g, io);
        let target = emit_side(g, io, DECODER_INPUT, TARGET_TIME, a.target_vocabulary);
        let target_axes = [Axis::Symbol(BATCH), Axis::Symbol(TARGET_TIME), Axis::Fixed(a.target_vocabulary)];
        let expected = match io {
            Io::Ids => g.input(DECODER_TARGET, DataType::Int64, &target_axes[..2]),
            Io::OneHot => g.input(DECODER_TARGET, DataType::Float, &target_axes),
        };
        let Encoded { states, memory } = self.emit_encoder_layers(p, g, &source);
        let states = self.emit_first_states(g, &source, states);
        let top = if self.is_fed() {
            self.emit_fed_decoder(p, g, &target, &states, memory.as_deref())
        } else {
            let mut below: Option<Value> = None;
            for (layer, states) in self.decoder.iter().zip(&states) {
                let outputs = layer.emit_sequence(p, g, &target, below.as_ref(), states);
                below = Some(squeeze(g, &outputs[0], 1));
            }
            g.scope("decoder");
            let top = below.unwrap_or_else(Value::none);
            let top = g.node("Transpose", &[&top], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
            match (&self.attention, &memory) {
                (Some(attention), Some(memory)) => {
                    let [context, _] = attention.lookup.emit(p, g, &top, memory, false);
                    attention.emit_combine(p, g, &context, &top)
                }
                _ => top,
            }
        };
        g.scope("decoder.dense");
        let logits = self.dense.emit(p, g, &top);
        let loss = emit_loss(g, io, &logits, &expected, self.architecture().target_vocabulary);
        let output = scores(g, io, logits);
        g.output(DECODER_OUTPUT, &output, DataType::Float, &target_axes);
        g.output(LOSS, &loss, DataType::Float, &[]);
    }

    /// The source in reading order and, for two directions, backwards.
    pub(super) fn emit_source(&self, g: &mut GraphBuilder, io: Io) -> EncoderSides {
        let vocabulary = self.architecture().source_vocabulary;
        let mut forward = emit_side(g, io, ENCODER_INPUT, SOURCE_TIME, vocabulary);
        if let Some(filling) = self.filling {
            g.scope("encoder.filling");
            forward = filling.emit(g, &forward, vocabulary);
        }
        let reverse = self.architecture().bidirectional.then(|| {
            // A text of n tokens lies at T - n .. T; the opposite of position j is 2 T - 1 - n - j, that of
            // padding itself. All of it in f32, which is exact here: integers that come from a Shape break
            // one engine.
            g.scope("encoder.reverse");
            let zero = g.float(&[], &[0.0]);
            let one = g.float(&[], &[1.0]);
            let nothing = g.node("Mul", &[&forward.mask, &zero], &[]);
            let ones = g.node("Add", &[&nothing, &one], &[]);
            let axis = g.int64(&[], &[0]);
            let counted = g.node("CumSum", &[&ones, &axis], &[]);
            let position = g.node("Sub", &[&counted, &one], &[]);
            let axes = g.int64(&[1], &[0]);
            let keep = [("keepdims", Attribute::Int(1))];
            let time = g.node("ReduceSum", &[&ones, &axes], &keep);
            let tokens = g.node("ReduceSum", &[&forward.mask, &axes], &keep);
            let twice = g.node("Add", &[&time, &time], &[]);
            let rest = g.node("Sub", &[&twice, &tokens], &[]);
            let last = g.node("Sub", &[&rest, &one], &[]);
            let mirrored = g.node("Sub", &[&last, &position], &[]);
            let distance = g.node("Sub", &[&mirrored, &position], &[]);
            let moved = g.node("Mul", &[&distance, &forward.mask], &[]);
            let opposite = g.node("Add", &[&position, &moved], &[]);
            let opposite = g.node("Cast", &[&opposite], &[("to", Attribute::Int(DataType::Int64 as i64))]);
            let input = match io {
                Io::Ids => {
                    let index = squeeze(g, &opposite, 2);
                    g.node("GatherElements", &[&forward.input, &index], &[("axis", Attribute::Int(0))])
                }
                Io::OneHot => {
                    let shape = g.node("Shape", &[&forward.input], &[]);
                    let index = g.node("Expand", &[&opposite, &shape], &[]);
                    g.node("GatherElements", &[&forward.input, &index], &[("axis", Attribute::Int(0))])
                }
            };
            Backwards { side: GraphSide { io, input, mask: forward.mask.clone() }, opposite }
        });
        EncoderSides { forward, reverse }
    }

    pub(super) fn emit_encoder_layers(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        source: &EncoderSides,
    ) -> Encoded {
        let a = self.architecture();
        g.scope("encoder");
        let width = if a.bidirectional { a.encoder_width() / 2 } else { a.encoder_width() };
        let zero = emit_zero_state(g, source, width);
        let mut states = Vec::new();
        let mut below: Option<Value> = None;
        for (l, layer) in self.encoder.iter().enumerate() {
            let is_read = l + 1 < self.encoder.len() || self.attention.is_some();
            let (rows, layer_states) = layer.emit_sequence(p, g, source, below.as_ref(), &zero, is_read);
            below = rows;
            states.push(layer_states);
        }
        let memory = below.zip(self.attention.as_ref()).map(|(rows, attention)| {
            g.scope("encoder");
            let rows = g.node("Transpose", &[&rows], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
            let mask = squeeze(g, &source.forward.mask, 2);
            let mask = g.node("Transpose", &[&mask], &[("perm", Attribute::Ints(vec![1, 0]))]);
            let keys = attention.lookup.emit_keys(p, g, &rows);
            [rows, mask].into_iter().chain(keys).collect()
        });
        Encoded { states: self.hand_over.emit(p, g, &states), memory }
    }

    /// The first states of each decoder layer, (1, batch, hidden), zeros spelled out.
    pub(super) fn emit_first_states(
        &self,
        g: &mut GraphBuilder,
        source: &EncoderSides,
        given: Vec<Option<Vec<Value>>>,
    ) -> Vec<Vec<Value>> {
        let mut zero = None;
        let mut zeros = |g: &mut GraphBuilder| {
            let hidden = self.architecture().hidden;
            let zero = zero.get_or_insert_with(|| {
                g.scope("decoder");
                emit_zero_state(g, source, hidden)
            });
            vec![zero.clone(); self.decoder[0].states()]
        };
        given.into_iter().map(|states| states.unwrap_or_else(|| zeros(g))).collect()
    }

    /// A decoder that is fed over whole texts: its step as the body of a Scan. Gives what the output layer
    /// reads (batch, target_time, width).
    fn emit_fed_decoder(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        target: &GraphSide,
        first: &[Vec<Value>],
        memory: Option<&[Value]>,
    ) -> Value {
        let a = self.architecture();
        g.scope("decoder");
        let mut carried: Vec<Value> = first.iter().flatten().map(|state| squeeze(g, state, 0)).collect();
        let feeds_output = a.feeding == Feeding::Output;
        if feeds_output {
            // As wide as a state: zeros of that shape.
            let none = g.float(&[], &[0.0]);
            let zeros = carried.first().map(|state| g.node("Mul", &[state, &none], &[]));
            carried.extend(zeros);
        }
        let inputs = self.decoder[0].emit_inputs(p, g, target);
        g.scope("decoder");
        let state_axes = [Axis::Symbol(BATCH), Axis::Fixed(a.hidden)];
        let body = g.body("fed_step", |g| {
            let mut input = |name: &str| g.input(&format!("fed.{name}"), DataType::Float, &state_axes);
            let names = (0..self.decoder.len()).map(|l| self.state_names(l));
            let states: Vec<Vec<Value>> =
                names.clone().map(|names| names.iter().map(|name| input(name)).collect()).collect();
            let fed = feeds_output.then(|| input(FED_OUTPUT));
            let gates = self.decoder[0].gates();
            let inputs = g.input("fed.inputs", DataType::Float, &[Axis::Symbol(BATCH), Axis::Fixed(gates)]);
            let token = Token::Inputs(&inputs);
            let input = StepInput { token, states: &states, fed: fed.as_ref(), memory };
            let (step, top) = self.emit_step_layers(p, g, input);
            let names = names.flatten().chain(feeds_output.then(|| FED_OUTPUT.to_owned()));
            for (name, state) in names.zip(step.states.iter().flatten().chain(&step.fed)) {
                g.output(&format!("fed.{}", next(&name)), state, DataType::Float, &state_axes);
            }
            let axes = [Axis::Symbol(BATCH), Axis::Fixed(a.output_width())];
            // Not the same value as a state: an output of a graph has one name.
            let top = g.node("Identity", &[&top], &[]);
            g.output("fed.top", &top, DataType::Float, &axes);
        });
        g.scope("decoder");
        let states = carried.len();
        let inputs: Vec<&Value> = carried.iter().chain([&inputs]).collect();
        let attributes = [("body", body), ("num_scan_inputs", Attribute::Int(1))];
        let outputs = g.node_n("Scan", &inputs, &attributes, states + 1);
        g.node("Transpose", &[&outputs[states]], &[("perm", Attribute::Ints(vec![1, 0, 2]))])
    }
}

/// Writes zeros (1, batch, width) for the state before a first step.
///
/// It is always wired: one engine fails on a symbolic batch without it. Its value is spelled out, because
/// another takes a ConstantOfShape without one for float64.
fn emit_zero_state(g: &mut GraphBuilder, source: &EncoderSides, width: usize) -> Value {
    let shape = g.node("Shape", &[&source.forward.mask], &[]);
    let at = g.int64(&[1], &[1]);
    let batch = g.node("Gather", &[&shape, &at], &[]);
    let one = g.int64(&[1], &[1]);
    let width = g.int64(&[1], &[width as i64]);
    let shape = g.node("Concat", &[&one, &batch, &width], &[("axis", Attribute::Int(0))]);
    let value = Attribute::Tensor(TensorProto::of_floats("", &[1], &[0.0]));
    g.node("ConstantOfShape", &[&shape], &[("value", value)])
}

/// Gives logits as they are, or probabilities beside one-hot tensors.
fn scores(g: &mut GraphBuilder, io: Io, logits: Value) -> Value {
    match io {
        Io::Ids => logits,
        Io::OneHot => g.node("Softmax", &[&logits], &[("axis", Attribute::Int(-1))]),
    }
}

/// Mean nats a target token, padding left out.
///
/// Spelled out, because two of the engines lack SoftmaxCrossEntropyLoss and one computes LogSoftmax as the
/// logarithm of a softmax, which is -inf on wide logits.
fn emit_loss(g: &mut GraphBuilder, io: Io, logits: &Value, expected: &Value, vocabulary: usize) -> Value {
    g.scope("loss");
    let last = g.int64(&[1], &[-1]);
    let keep = [("keepdims", Attribute::Int(1))];
    let highest = g.node(
        "ReduceMax",
        &[logits],
        &[("axes", Attribute::Ints(vec![-1])), ("keepdims", Attribute::Int(1))],
    );
    let shifted = g.node("Sub", &[logits, &highest], &[]);
    let exponentials = g.node("Exp", &[&shifted], &[]);
    let sum = g.node("ReduceSum", &[&exponentials, &last], &keep);
    let normaliser = g.node("Log", &[&sum], &[]);
    let (nats, mask) = match io {
        Io::Ids => {
            let index = g.node("Unsqueeze", &[expected, &last], &[]);
            let at_target = g.node("GatherElements", &[&shifted, &index], &[("axis", Attribute::Int(2))]);
            let nats = g.node("Sub", &[&normaliser, &at_target], &[]);
            let mask = emit_mask(g, expected, vocabulary);
            (g.node("Mul", &[&nats, &mask], &[]), mask)
        }
        Io::OneHot => {
            let nats = g.node("Sub", &[&normaliser, &shifted], &[]);
            (g.node("Mul", &[&nats, expected], &[]), expected.clone())
        }
    };
    let all = g.int64(&[3], &[0, 1, 2]);
    let scalar = [("keepdims", Attribute::Int(0))];
    let total = g.node("ReduceSum", &[&nats, &all], &scalar);
    let tokens = g.node("ReduceSum", &[&mask, &all], &scalar);
    let one = g.float(&[], &[1.0]);
    let tokens = g.node("Max", &[&tokens, &one], &[]);
    g.node("Div", &[&total, &tokens], &[])
}

/// An input over whole texts, brought to (time, batch, ...), and its mask.
fn emit_side(g: &mut GraphBuilder, io: Io, name: &str, time: &'static str, vocabulary: usize) -> GraphSide {
    g.scope(name);
    match io {
        Io::Ids => {
            let ids = g.input(name, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Symbol(time)]);
            let input = g.node("Transpose", &[&ids], &[("perm", Attribute::Ints(vec![1, 0]))]);
            let mask = emit_mask(g, &input, vocabulary);
            GraphSide { io, input, mask }
        }
        Io::OneHot => {
            let rows = g.input(
                name,
                DataType::Float,
                &[Axis::Symbol(BATCH), Axis::Symbol(time), Axis::Fixed(vocabulary)],
            );
            let input = g.node("Transpose", &[&rows], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
            let channel = g.int64(&[1], &[2]);
            let mask = g.node("ReduceSum", &[&input, &channel], &[("keepdims", Attribute::Int(1))]);
            GraphSide { io, input, mask }
        }
    }
}
