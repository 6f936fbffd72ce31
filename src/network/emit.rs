//! The three graphs, cut from the one network.

use s2s_runtime::contract::{
    DECODER_INPUT, DECODER_OUTPUT, DECODER_TARGET, ENCODER_INPUT, LOSS, axis::BATCH, axis::SOURCE_TIME, axis::TARGET_TIME, next, state_c,
    state_h,
};

use super::graph::{GraphSide, Io};
use super::{Parameters, Seq2Seq};
use crate::onnx::builder::{Attribute, Axis, GraphBuilder, Value};
use crate::onnx::messages::{DataType, TensorProto};

/// `axes` of a Squeeze or Unsqueeze, as its second input.
fn axes(g: &mut GraphBuilder, axes: &[i64]) -> Value {
    g.int64(&[axes.len()], axes)
}

impl Seq2Seq {
    /// The encoder: text to the states that the decoder starts from.
    pub fn emit_encoder(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let side = emit_side(g, io, ENCODER_INPUT, SOURCE_TIME, self.architecture().source_vocabulary);
        for (l, [h, c]) in self.emit_encoder_layers(p, g, &side).into_iter().enumerate() {
            g.scope("encoder");
            let direction = axes(g, &[0]);
            for (name, state) in [(state_h(l), h), (state_c(l), c)] {
                let state = g.node("Squeeze", &[&state, &direction], &[]);
                g.output(&name, &state, DataType::Float, &[Axis::Symbol(BATCH), Axis::Fixed(self.architecture().hidden)]);
            }
        }
    }

    /// The decoder: one token and the states to logits and the next states.
    pub fn emit_decoder(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let a = self.architecture();
        let token = match io {
            Io::Ids => g.input(DECODER_INPUT, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Fixed(1)]),
            Io::OneHot => g.input(DECODER_INPUT, DataType::Float, &[Axis::Symbol(BATCH), Axis::Fixed(1), Axis::Fixed(a.target_vocabulary)]),
        };
        let state_axes = [Axis::Symbol(BATCH), Axis::Fixed(a.hidden)];
        let states: Vec<[Value; 2]> =
            (0..a.layers).map(|l| [state_h(l), state_c(l)].map(|name| g.input(&name, DataType::Float, &state_axes))).collect();
        let mut below = token;
        let mut renewed = Vec::new();
        for (lstm, [h, c]) in self.decoder.iter().zip(&states) {
            let [h, c] = lstm.emit_step(p, g, io, &below, h, c);
            below = h.clone();
            renewed.push([h, c]);
        }
        g.scope("decoder.dense");
        let logits = self.dense.emit(p, g, &below);
        let output = match io {
            Io::Ids => logits,
            Io::OneHot => g.node("Softmax", &[&logits], &[("axis", Attribute::Int(-1))]),
        };
        let time = axes(g, &[1]);
        let output = g.node("Unsqueeze", &[&output, &time], &[]);
        g.output(DECODER_OUTPUT, &output, DataType::Float, &[Axis::Symbol(BATCH), Axis::Fixed(1), Axis::Fixed(a.target_vocabulary)]);
        for (l, [h, c]) in renewed.iter().enumerate() {
            g.output(&next(&state_h(l)), h, DataType::Float, &state_axes);
            g.output(&next(&state_c(l)), c, DataType::Float, &state_axes);
        }
    }

    /// The training model: both sides over whole texts with teacher forcing, and the loss.
    pub fn emit_training(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let a = self.architecture();
        let source = emit_side(g, io, ENCODER_INPUT, SOURCE_TIME, a.source_vocabulary);
        let target = emit_side(g, io, DECODER_INPUT, TARGET_TIME, a.target_vocabulary);
        let expected = g.input(DECODER_TARGET, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Symbol(TARGET_TIME)]);
        let states = self.emit_encoder_layers(p, g, &source);
        let mut below: Option<Value> = None;
        for (lstm, [h, c]) in self.decoder.iter().zip(&states) {
            let outputs = lstm.emit_sequence(p, g, &target, below.as_ref(), (h, c));
            let direction = axes(g, &[1]);
            below = Some(g.node("Squeeze", &[&outputs[0], &direction], &[]));
        }
        g.scope("decoder.dense");
        let top = below.unwrap_or_else(Value::none);
        let top = g.node("Transpose", &[&top], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
        let logits = self.dense.emit(p, g, &top);

        // The loss is spelled out, because two of the engines lack SoftmaxCrossEntropyLoss and one computes LogSoftmax
        // as the logarithm of a softmax, which is -inf on wide logits.
        g.scope("loss");
        let last = axes(g, &[-1]);
        let keep = [("keepdims", Attribute::Int(1))];
        let highest = g.node("ReduceMax", &[&logits], &[("axes", Attribute::Ints(vec![-1])), ("keepdims", Attribute::Int(1))]);
        let shifted = g.node("Sub", &[&logits, &highest], &[]);
        let exponentials = g.node("Exp", &[&shifted], &[]);
        let sum = g.node("ReduceSum", &[&exponentials, &last], &keep);
        let normaliser = g.node("Log", &[&sum], &[]);
        let index = g.node("Unsqueeze", &[&expected, &last], &[]);
        let at_target = g.node("GatherElements", &[&shifted, &index], &[("axis", Attribute::Int(2))]);
        let nats = g.node("Sub", &[&normaliser, &at_target], &[]);
        let mask = emit_mask(g, &index);
        let masked = g.node("Mul", &[&nats, &mask], &[]);
        let all = axes(g, &[0, 1, 2]);
        let scalar = [("keepdims", Attribute::Int(0))];
        let total = g.node("ReduceSum", &[&masked, &all], &scalar);
        let tokens = g.node("ReduceSum", &[&mask, &all], &scalar);
        let one = g.float(&[], &[1.0]);
        let tokens = g.node("Max", &[&tokens, &one], &[]);
        let loss = g.node("Div", &[&total, &tokens], &[]);
        let output = match io {
            Io::Ids => logits,
            Io::OneHot => g.node("Softmax", &[&logits], &[("axis", Attribute::Int(-1))]),
        };
        let output_axes = [Axis::Symbol(BATCH), Axis::Symbol(TARGET_TIME), Axis::Fixed(a.target_vocabulary)];
        g.output(DECODER_OUTPUT, &output, DataType::Float, &output_axes);
        g.output(LOSS, &loss, DataType::Float, &[]);
    }

    /// The encoder's layers over a whole text; gives the final h and c of each, (1, batch, hidden).
    fn emit_encoder_layers(&self, p: &Parameters<f32>, g: &mut GraphBuilder, side: &GraphSide) -> Vec<[Value; 2]> {
        g.scope("encoder");
        // A zero state is always wired: one engine fails on a symbolic batch without it.
        let shape = g.node("Shape", &[&side.mask], &[]);
        let at = g.int64(&[1], &[1]);
        let batch = g.node("Gather", &[&shape, &at], &[("axis", Attribute::Int(0))]);
        let one = g.int64(&[1], &[1]);
        let hidden = g.int64(&[1], &[self.architecture().hidden as i64]);
        let shape = g.node("Concat", &[&one, &batch, &hidden], &[("axis", Attribute::Int(0))]);
        // The value is spelled out, because one engine takes the default for 64-bit.
        let value = TensorProto::of_floats("", &[1], &[0.0]);
        let zero = g.node("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(value))]);
        let mut states = Vec::new();
        let mut below: Option<Value> = None;
        for (l, lstm) in self.encoder.iter().enumerate() {
            let outputs = lstm.emit_sequence(p, g, side, below.as_ref(), (&zero, &zero));
            states.push([outputs[1].clone(), outputs[2].clone()]);
            if l + 1 < self.encoder.len() {
                let direction = axes(g, &[1]);
                below = Some(g.node("Squeeze", &[&outputs[0], &direction], &[]));
            }
        }
        states
    }
}

/// An input over whole texts, brought to (time, batch, ...), and its mask.
fn emit_side(g: &mut GraphBuilder, io: Io, name: &str, time: &'static str, vocabulary: usize) -> GraphSide {
    g.scope(name);
    match io {
        Io::Ids => {
            let ids = g.input(name, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Symbol(time)]);
            let input = g.node("Transpose", &[&ids], &[("perm", Attribute::Ints(vec![1, 0]))]);
            let channel = axes(g, &[2]);
            let with_channel = g.node("Unsqueeze", &[&input, &channel], &[]);
            let mask = emit_mask(g, &with_channel);
            GraphSide { io, input, mask }
        }
        Io::OneHot => {
            let rows = g.input(name, DataType::Float, &[Axis::Symbol(BATCH), Axis::Symbol(time), Axis::Fixed(vocabulary)]);
            let input = g.node("Transpose", &[&rows], &[("perm", Attribute::Ints(vec![1, 0, 2]))]);
            let channel = axes(g, &[2]);
            let mask = g.node("ReduceSum", &[&input, &channel], &[("keepdims", Attribute::Int(1))]);
            GraphSide { io, input, mask }
        }
    }
}

/// 1 at tokens, 0 at padding, f32 in the shape of the ids: ids are never negative, and PAD is 0.
fn emit_mask(g: &mut GraphBuilder, ids: &Value) -> Value {
    let pad = g.int64(&[], &[i64::from(s2s_runtime::contract::PAD)]);
    let is_token = g.node("Greater", &[ids, &pad], &[]);
    g.node("Cast", &[&is_token], &[("to", Attribute::Int(DataType::Float as i64))])
}
