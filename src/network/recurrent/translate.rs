//! The fourth graph: encoder and greedy decoding in one, for runtimes that have Loop.

use s2s_runtime::contract::{
    END, GENERATED_IDS, GENERATED_LENGTHS, MAX_NEW_TOKENS, axis::BATCH, axis::GENERATED_TIME,
};

use super::emit::{Encoded, Step, StepInput, Token};
use super::seq2seq::Seq2Seq;
use crate::network::ground::graph::{Io, squeeze};
use crate::network::layers::kinds::Feeding;
use crate::network::{Network, Parameters};
use crate::onnx::builder::{Attribute, Axis, GraphBuilder, Value};
use crate::onnx::messages::{DataType, TensorProto};

/// Smallest id that may be generated: PAD and START never are.
const FIRST: i64 = END as i64;

impl Seq2Seq {
    /// Source ids to target ids: the most likely token each time, until END or `max_new_tokens` of them.
    ///
    /// A row that has ended gives PAD from then on; the loop ends when all have. Ids go in and out whatever
    /// the other graphs take.
    pub fn emit_translate(&self, p: &Parameters<f32>, g: &mut GraphBuilder) {
        let source = self.emit_source(g, Io::Ids);
        let limit = g.input(MAX_NEW_TOKENS, DataType::Int64, &[]);
        let Encoded { states, memory } = self.emit_encoder_layers(p, g, &source);
        let states = self.emit_first_states(g, &source, states);
        g.scope("translate");
        let mut states: Vec<Value> = states.iter().flatten().map(|state| squeeze(g, state, 0)).collect();
        if self.architecture().feeding == Feeding::Output {
            // As wide as a state: zeros of that shape.
            let none = g.float(&[], &[0.0]);
            let zeros = states.first().map(|state| g.node("Mul", &[state, &none], &[]));
            states.extend(zeros);
        }
        // (batch, 1): a token, a flag, a length of each row.
        let shape = g.node("Shape", &[&source.forward.mask], &[]);
        let (one, at) = (g.int64(&[1], &[1]), [("axis", Attribute::Int(0))]);
        let batch = g.node("Gather", &[&shape, &one], &[]);
        let column = g.node("Concat", &[&batch, &one], &at);
        let filled = |g: &mut GraphBuilder, value: i64| {
            let value = Attribute::Tensor(TensorProto::of_integers("", &[1], &[value]));
            g.node("ConstantOfShape", &[&column], &[("value", value)])
        };
        let start = filled(g, i64::from(s2s_runtime::contract::START));
        let (running, lengths) = (filled(g, 1), filled(g, 0));
        let go = g.boolean(true);
        let body = g.body("step", |g| self.emit_loop_body(p, g, memory.as_deref()));

        g.scope("translate");
        let mut inputs = vec![&limit, &go, &start, &running, &lengths];
        inputs.extend(&states);
        let carried = inputs.len() - 2;
        let outputs = g.node_n("Loop", &inputs, &[("body", body)], carried + 1);
        let ids = g.node("Transpose", &[&outputs[carried]], &[("perm", Attribute::Ints(vec![1, 0]))]);
        g.output(GENERATED_IDS, &ids, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Symbol(GENERATED_TIME)]);
        let lengths = squeeze(g, &outputs[2], 1);
        g.output(GENERATED_LENGTHS, &lengths, DataType::Int64, &[Axis::Symbol(BATCH)]);
    }

    /// Inputs: number of the step, condition, token, running, lengths, states. Outputs: the condition, the
    /// same again, and the ids of this step, which the Loop stacks.
    fn emit_loop_body(&self, p: &Parameters<f32>, g: &mut GraphBuilder, memory: Option<&[Value]>) {
        let column = [Axis::Symbol(BATCH), Axis::Fixed(1)];
        let state_axes = [Axis::Symbol(BATCH), Axis::Fixed(self.architecture().hidden)];
        g.input("step.number", DataType::Int64, &[]);
        g.input("step.condition", DataType::Bool, &[]);
        let [token, running, lengths] = ["token", "running", "lengths"]
            .map(|name| g.input(&format!("step.{name}"), DataType::Int64, &column));
        let names: Vec<Vec<String>> = (0..self.decoder.len()).map(|l| self.state_names(l)).collect();
        let states: Vec<Vec<Value>> = names
            .iter()
            .map(|layer| {
                layer
                    .iter()
                    .map(|name| g.input(&format!("step.{name}"), DataType::Float, &state_axes))
                    .collect()
            })
            .collect();
        let feeds_output = self.architecture().feeding == Feeding::Output;
        let fed = feeds_output.then(|| g.input("step.fed_output", DataType::Float, &state_axes));
        let input =
            StepInput { token: Token::Token(Io::Ids, &token), states: &states, fed: fed.as_ref(), memory };
        let Step { logits, states: renewed, fed, .. } = self.emit_step(p, g, input);

        g.scope("step");
        let (from, to, axis) = (g.int64(&[1], &[FIRST]), g.int64(&[1], &[i64::MAX]), g.int64(&[1], &[1]));
        let open = g.node("Slice", &[&logits, &from, &to, &axis], &[]);
        let best =
            g.node("ArgMax", &[&open], &[("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1))]);
        let first = g.int64(&[], &[FIRST]);
        let best = g.node("Add", &[&best, &first], &[]);
        // END is the smallest of them. A row that ran and did not choose it goes on.
        let goes_on = g.node("Greater", &[&best, &first], &[]);
        let goes_on = g.node("Cast", &[&goes_on], &[("to", Attribute::Int(DataType::Int64 as i64))]);
        let runs = g.node("Mul", &[&running, &goes_on], &[]);
        // PAD is 0.
        let id = g.node("Mul", &[&best, &runs], &[]);
        let longer = g.node("Add", &[&lengths, &runs], &[]);
        let axes = g.int64(&[2], &[0, 1]);
        // In f32 and with its axes kept until the end: OpenCV crashes on a sum of integers and on a scalar
        // that a sum gives.
        let rows = g.node("Cast", &[&runs], &[("to", Attribute::Int(DataType::Float as i64))]);
        let rows = g.node("ReduceSum", &[&rows, &axes], &[("keepdims", Attribute::Int(1))]);
        let none = g.float(&[], &[0.0]);
        let any = g.node("Greater", &[&rows, &none], &[]);
        let any = g.node("Squeeze", &[&any, &axes], &[]);

        g.output("step.goes_on", &any, DataType::Bool, &[]);
        g.output("step.next_token", &id, DataType::Int64, &column);
        g.output("step.still_running", &runs, DataType::Int64, &column);
        g.output("step.next_lengths", &longer, DataType::Int64, &column);
        for (name, state) in names.iter().flatten().zip(renewed.iter().flatten()) {
            g.output(&format!("step.next_{name}"), state, DataType::Float, &state_axes);
        }
        if let Some(fed) = fed {
            g.output("step.next_fed_output", &fed, DataType::Float, &state_axes);
        }
        // One axis only: the reference evaluator joins matrices instead of stacking them.
        let ids = squeeze(g, &id, 1);
        g.output("step.ids", &ids, DataType::Int64, &column[..1]);
    }
}
