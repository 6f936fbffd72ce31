//! The encoder one token a call: the decoder's explicit cell with the encoder's weights, for runtimes that
//! have neither LSTM nor GRU.
//!
//! A loop feeds the columns of left-padded sources one after another. Padding leaves zero states exactly
//! zero: the first layer reads rows of its folded table, of which PAD's is zero, and the states of layers with
//! a bias in a product are masked.

use s2s_runtime::contract::{ENCODER_INPUT, ENCODER_MASK, ENCODER_OUTPUT, PAD, axis::BATCH, next};
use s2s_runtime::manifest::{EncoderStepWiring, StepOutput, StepState};

use super::seq2seq::Seq2Seq;
use crate::network::ground::graph::{Io, squeeze};
use crate::network::layers::kinds::{AttentionScore, Bridge, Cell, Feeding};
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
        let hands_over_as_it_is = a.bridge == Bridge::None
            && a.encoder_width() == a.hidden
            && a.starts().into_iter().eq((0..a.layers).map(Some));
        if !hands_over_as_it_is {
            return Err(
                "between encoder and decoder there is more than states that are handed over as they are",
            );
        }
        if a.attention == AttentionScore::Additive {
            return Err("the keys of additive attention are computed from all of the encoder's outputs");
        }
        if a.feeding != Feeding::None {
            return Err("what is fed to the decoder's first step is made by the whole encoder");
        }
        let names: Vec<String> = (0..self.encoder.len()).flat_map(|l| self.state_names(l)).collect();
        let output = |encoder_output: &str, step_output: String| StepOutput {
            encoder_output: encoder_output.to_owned(),
            step_output,
        };
        let mut memory = Vec::new();
        if self.attention.is_some() {
            let top = self.state_names(self.encoder.len() - 1).swap_remove(0);
            memory.push(output(ENCODER_OUTPUT, next(&top)));
            memory.push(output(ENCODER_MASK, ENCODER_MASK.to_owned()));
        }
        Ok(EncoderStepWiring {
            input: ENCODER_INPUT.to_owned(),
            states: names
                .iter()
                .map(|name| StepState { step_input: name.clone(), step_output: next(name) })
                .collect(),
            last: names.iter().map(|name| output(name, next(name))).collect(),
            memory,
        })
    }

    /// Writes the encoder of one token: a column of the sources and the states of each layer to the next
    /// states; with attention also to the column of the mask.
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
        let state_axes = [Axis::Symbol(BATCH), Axis::Fixed(a.hidden)];
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
        g.scope("encoder");
        for (l, states) in renewed.iter().enumerate() {
            for (name, state) in self.state_names(l).iter().zip(states) {
                g.output(&next(name), state, DataType::Float, &state_axes);
            }
        }
        if let (Some(_), Some(mask)) = (&self.attention, mask) {
            let mask = squeeze(g, &mask, 1);
            g.output(ENCODER_MASK, &mask, DataType::Float, &[Axis::Symbol(BATCH)]);
        }
    }

    /// Writes 1 where a row has a token and 0 at padding, (batch, 1): looked up like all else in this graph,
    /// because some runtimes compare no integers.
    fn emit_column(&self, g: &mut GraphBuilder, io: Io, token: &Value) -> Value {
        g.scope("encoder");
        let vocabulary = self.architecture().source_vocabulary;
        let mut is_token = vec![1.0; vocabulary];
        is_token[PAD as usize] = 0.0;
        let table = g.float(&[vocabulary, 1], &is_token);
        let token = squeeze(g, token, 1);
        match io {
            Io::Ids => g.node("Gather", &[&table, &token], &[]),
            Io::OneHot => g.node("MatMul", &[&token, &table], &[]),
        }
    }
}
