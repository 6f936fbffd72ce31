//! The encoder one token a call: the decoder's explicit cell with the encoder's weights, for runtimes that
//! have neither LSTM nor GRU.
//!
//! A loop feeds the columns of left-padded sources one after another. Padding leaves zero states exactly
//! zero: the first layer reads rows of its folded table, of which PAD's is zero, and the states of layers with
//! a bias in a product are masked.

use s2s_runtime::contract::{
    ENCODER_INPUT, ENCODER_KEYS, ENCODER_MASK, ENCODER_OUTPUT, axis::BATCH, first, next,
};
use s2s_runtime::manifest::{EncoderStepWiring, StepOutput, StepState};

use super::seq2seq::Seq2Seq;
use crate::network::ground::graph::{Io, emit_mask, emit_mask_table, squeeze};
use crate::network::layers::kinds::{Bridge, Cell};
use crate::network::{Network, Parameters};
use crate::onnx::builder::{Axis, GraphBuilder, Value};
use crate::onnx::messages::DataType;

impl Seq2Seq {
    /// How [`emit_encoder_step`](Self::emit_encoder_step) is run over a text; the error says why the encoder
    /// has no such form.
    pub(super) fn encoder_step_wiring(&self) -> Result<EncoderStepWiring, &'static str> {
        let a = self.architecture();
        if a.bidirectional {
            return Err("an encoder that reads its source backwards too cannot read it token by token");
        }
        let names: Vec<String> = (0..self.encoder.len()).flat_map(|l| self.state_names(l)).collect();
        let output = |encoder_output: &str, step_output: String| StepOutput {
            encoder_output: encoder_output.to_owned(),
            step_output,
        };
        let mut memory = Vec::new();
        if let Some(attention) = &self.attention {
            let top = self.state_names(self.encoder.len() - 1).swap_remove(0);
            memory.push(output(ENCODER_OUTPUT, next(&top)));
            memory.push(output(ENCODER_MASK, ENCODER_MASK.to_owned()));
            if attention.lookup.keys_width().is_some() {
                memory.push(output(ENCODER_KEYS, ENCODER_KEYS.to_owned()));
            }
        }
        // A bridge is crossed at every token, because a graph does not know which one is the last.
        let last = self.hand_over.given().map(|([l, state], [from_layer, from_state])| {
            let name = self.state_names(l).swap_remove(state);
            let step_output = match a.bridge {
                Bridge::None => next(&self.state_names(from_layer)[from_state]),
                _ => first(&name),
            };
            output(&name, step_output)
        });
        Ok(EncoderStepWiring {
            input: ENCODER_INPUT.to_owned(),
            states: names
                .iter()
                .map(|name| StepState { step_input: name.clone(), step_output: next(name) })
                .collect(),
            last: last.collect(),
            memory,
        })
    }

    /// Writes the encoder of one token: a column of the sources and the states of each layer to the next
    /// states; behind a bridge also to what the decoder starts from, with attention to the columns of what it
    /// looks back at.
    pub fn emit_encoder_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        let a = self.architecture();
        let token = match io {
            Io::Ids => g.input(ENCODER_INPUT, DataType::Int64, &[Axis::Symbol(BATCH), Axis::Fixed(1)]),
            Io::OneHot => g.input(
                ENCODER_INPUT,
                DataType::Float,
                &[Axis::Symbol(BATCH), Axis::Fixed(1), Axis::Fixed(a.source_vocabulary)],
            ),
        };
        let state_axes = [Axis::Symbol(BATCH), Axis::Fixed(a.encoder_width())];
        let states: Vec<Vec<Value>> = (0..self.encoder.len())
            .map(|l| {
                self.state_names(l).iter().map(|name| g.input(name, DataType::Float, &state_axes)).collect()
            })
            .collect();
        let first_masked = usize::from(a.cell != Cell::GruResetBias);
        let mask = (self.encoder.len() > first_masked || self.attention.is_some())
            .then(|| self.emit_column(g, io, &token));
        let mut below = token;
        let mut renewed: Vec<Vec<Value>> = Vec::new();
        for (l, (layer, states)) in self.encoder.iter().zip(&states).enumerate() {
            let mut states = layer.emit_step(p, g, io, &below, states);
            if let Some(mask) = mask.as_ref().filter(|_| l >= first_masked) {
                states = states.iter().map(|state| g.node("Mul", &[state, mask], &[])).collect();
            }
            below = states[0].clone();
            renewed.push(states);
        }
        // Before the states become outputs, which no node reads.
        let first_states = self.hand_over.emit_bridges(p, g, &renewed);
        let lookup = self.attention.as_ref().map(|attention| &attention.lookup);
        let keys = lookup.and_then(|lookup| lookup.emit_keys(p, g, &below).zip(lookup.keys_width()));
        g.scope("encoder");
        for (l, states) in renewed.iter().enumerate() {
            for (name, state) in self.state_names(l).iter().zip(states) {
                g.output(&next(name), state, DataType::Float, &state_axes);
            }
        }
        let rows = |width: usize| [Axis::Symbol(BATCH), Axis::Fixed(width)];
        for ([l, state], value) in first_states {
            g.output(&first(&self.state_names(l)[state]), &value, DataType::Float, &rows(a.hidden));
        }
        if let Some(mask) = mask.filter(|_| self.attention.is_some()) {
            let mask = squeeze(g, &mask, 1);
            g.output(ENCODER_MASK, &mask, DataType::Float, &[Axis::Symbol(BATCH)]);
        }
        if let Some((keys, width)) = keys {
            g.output(ENCODER_KEYS, &keys, DataType::Float, &rows(width));
        }
    }

    /// Writes 1 where a row has a token and 0 at padding, (batch, 1).
    fn emit_column(&self, g: &mut GraphBuilder, io: Io, token: &Value) -> Value {
        g.scope("encoder");
        let vocabulary = self.architecture().source_vocabulary;
        let token = squeeze(g, token, 1);
        match io {
            Io::Ids => emit_mask(g, &token, vocabulary),
            Io::OneHot => {
                let table = emit_mask_table(g, vocabulary);
                g.node("MatMul", &[&token, &table], &[])
            }
        }
    }
}
