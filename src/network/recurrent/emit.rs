//! The three graphs, cut from the one network.

use s2s_runtime::contract::{
    ATTENTION, DECODER_INPUT, DECODER_OUTPUT, DECODER_TARGET, ENCODER_INPUT, ENCODER_MASK, ENCODER_OUTPUT,
    LOSS, axis::BATCH, axis::MEMORY_TIME, axis::SOURCE_TIME, axis::TARGET_TIME, next,
};

use super::seq2seq::Seq2Seq;
use crate::network::ground::graph::{GraphSide, Io, emit_mask, squeeze, unsqueeze};
use crate::network::layers::encoder::{Backwards, EncoderSides};
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
}

/// What the encoder's layers give within a graph.
pub(super) struct Encoded {
    /// h and (LSTM) c of each layer, (1, batch, hidden).
    pub(super) states: Vec<Vec<Value>>,
    /// Outputs of the top layer (batch, source_time, hidden) and the mask (batch, source_time); with
    /// attention only.
    pub(super) memory: Option<[Value; 2]>,
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
            for (name, state) in self.state_names(l).iter().zip(states) {
                let state = squeeze(g, state, 0);
                g.output(name, &state, DataType::Float, &[Axis::Symbol(BATCH), Axis::Fixed(hidden)]);
            }
        }
        if let Some([rows, mask]) = memory {
            g.output(
                ENCODER_OUTPUT,
                &rows,
                DataType::Float,
                &[Axis::Symbol(BATCH), self.memory_time(), Axis::Fixed(hidden)],
            );
            g.output(ENCODER_MASK, &mask, DataType::Float, &[Axis::Symbol(BATCH), self.memory_time()]);
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
        let memory = self.attention.is_some().then(|| {
            let axes = [Axis::Symbol(BATCH), self.memory_time(), Axis::Fixed(a.hidden)];
            [
                g.input(ENCODER_OUTPUT, DataType::Float, &axes),
                g.input(ENCODER_MASK, DataType::Float, &axes[..2]),
            ]
        });
        let Step { logits, states, weights } = self.emit_step(p, g, io, &token, &states, memory.as_ref());
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

    /// One decoding step: a token and the states of each layer to logits (batch, target_vocabulary) and the
    /// next states.
    pub(super) fn emit_step(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        io: Io,
        token: &Value,
        states: &[Vec<Value>],
        memory: Option<&[Value; 2]>,
    ) -> Step {
        let mut below = token.clone();
        let mut renewed = Vec::new();
        for (layer, states) in self.decoder.iter().zip(states) {
            let states = layer.emit_step(p, g, io, &below, states);
            below = states[0].clone();
            renewed.push(states);
        }
        let mut weights = None;
        if let (Some(attention), Some([rows, mask])) = (&self.attention, memory) {
            let h = unsqueeze(g, &below, 1);
            let [output, attended] = attention.emit(p, g, &h, rows, mask);
            below = squeeze(g, &output, 1);
            weights = Some(squeeze(g, &attended, 1));
        }
        g.scope("decoder.dense");
        Step { logits: self.dense.emit(p, g, &below), states: renewed, weights }
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
        let mut below: Option<Value> = None;
        for (layer, states) in self.decoder.iter().zip(&states) {
            let outputs = layer.emit_sequence(p, g, &target, below.as_ref(), states);
            below = Some(squeeze(g, &outputs[0], 1));
        }
        g.scope("decoder");
        let top = below.unwrap_or_else(Value::none);
        let mut top = g.node("Transpose", &[&top], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
        if let (Some(attention), Some([rows, mask])) = (&self.attention, &memory) {
            [top, _] = attention.emit(p, g, &top, rows, mask);
        }
        g.scope("decoder.dense");
        let logits = self.dense.emit(p, g, &top);
        let loss = emit_loss(g, io, &logits, &expected);
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
        // A zero state is always wired: one engine fails on a symbolic batch without it. Its value is spelled
        // out, because another takes a ConstantOfShape without one for float64.
        let shape = g.node("Shape", &[&source.forward.mask], &[]);
        let at = g.int64(&[1], &[1]);
        let batch = g.node("Gather", &[&shape, &at], &[("axis", Attribute::Int(0))]);
        let one = g.int64(&[1], &[1]);
        let width = if a.bidirectional { a.hidden / 2 } else { a.hidden };
        let width = g.int64(&[1], &[width as i64]);
        let shape = g.node("Concat", &[&one, &batch, &width], &[("axis", Attribute::Int(0))]);
        let value = Attribute::Tensor(TensorProto::of_floats("", &[1], &[0.0]));
        let zero = g.node("ConstantOfShape", &[&shape], &[("value", value)]);
        let mut states = Vec::new();
        let mut below: Option<Value> = None;
        for (l, layer) in self.encoder.iter().enumerate() {
            let is_read = l + 1 < self.encoder.len() || self.attention.is_some();
            let (rows, layer_states) = layer.emit_sequence(p, g, source, below.as_ref(), &zero, is_read);
            below = rows;
            states.push(layer_states);
        }
        let memory = below.filter(|_| self.attention.is_some()).map(|rows| {
            g.scope("encoder");
            let rows = g.node("Transpose", &[&rows], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
            let mask = squeeze(g, &source.forward.mask, 2);
            [rows, g.node("Transpose", &[&mask], &[("perm", Attribute::Ints(vec![1, 0]))])]
        });
        Encoded { states, memory }
    }
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
fn emit_loss(g: &mut GraphBuilder, io: Io, logits: &Value, expected: &Value) -> Value {
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
            let mask = emit_mask(g, &index);
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
            let with_channel = unsqueeze(g, &input, 2);
            let mask = emit_mask(g, &with_channel);
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
