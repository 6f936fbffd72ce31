//! The recurrent family as export and verification see it.

use s2s_runtime::contract::{ATTENTION, DECODER_INPUT, DECODER_OUTPUT, ENCODER_INPUT, FED_OUTPUT, next};
use s2s_runtime::manifest::{EncoderStepWiring, MemoryWire, OutputForm, Role, StateWire, Wiring};
use s2s_runtime::vocabulary::Vocabulary;

use super::filling::Filling;
use super::seq2seq::Seq2Seq;
use crate::error::{Error, ErrorKind, Result};
use crate::network::ground::graph::Io;
use crate::network::layers::kinds::{AttentionScore, Cell, Feeding};
use crate::network::sequence::{FindTensor, Forward, Need, SequenceNetwork};
use crate::network::{Exported, Layout, Network, Parameters};
use crate::onnx::GraphBuilder;

impl SequenceNetwork for Seq2Seq {
    fn vocabularies(&self) -> [usize; 2] {
        [self.architecture.source_vocabulary, self.architecture.target_vocabulary]
    }

    fn architecture_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(&self.architecture)
            .map_err(|e| Error::new(ErrorKind::Internal, "the architecture cannot be written").caused_by(e))
    }

    fn parameter_layout(&self) -> &Layout {
        &self.layout
    }

    fn tag(&self) -> &'static str {
        self.architecture.cell.name()
    }

    fn roles(&self) -> &'static [Role] {
        &Role::WITH_OPTIONAL
    }

    fn needs(&self) -> Vec<Need> {
        let a = &self.architecture;
        [
            (a.cell != Cell::Lstm, Need::Gru),
            (a.cell == Cell::GruResetBefore, Need::GruResetBefore),
            (a.bidirectional, Need::Bidirectional),
            (a.attention != AttentionScore::None, Need::Attention),
        ]
        .into_iter()
        .filter_map(|(is, need)| is.then_some(need))
        .collect()
    }

    fn wiring(&self, io: Io) -> Wiring {
        let a = &self.architecture;
        let has_attention = a.attention != AttentionScore::None;
        let zeros = || Some(vec![a.hidden]);
        let names =
            (0..a.decoder_depth()).flat_map(|l| self.state_names(l).into_iter().map(move |name| (l, name)));
        let states = names.map(|(l, state)| StateWire {
            decoder_output: next(&state),
            encoder_output: if self.hand_over.is_given(l) { state.clone() } else { String::new() },
            zeros: if self.hand_over.is_given(l) { None } else { zeros() },
            decoder_input: state,
            ..StateWire::default()
        });
        let fed = (a.feeding == Feeding::Output).then(|| StateWire {
            zeros: zeros(),
            decoder_input: FED_OUTPUT.to_owned(),
            decoder_output: next(FED_OUTPUT),
            ..StateWire::default()
        });
        let kept =
            |name: &str| MemoryWire { encoder_output: name.to_owned(), decoder_input: name.to_owned() };
        Wiring {
            encoder_input: ENCODER_INPUT.to_owned(),
            decoder_input: DECODER_INPUT.to_owned(),
            decoder_output: DECODER_OUTPUT.to_owned(),
            output: match io {
                Io::Ids => OutputForm::Logits,
                Io::OneHot => OutputForm::Probabilities,
            },
            states: states.chain(fed).collect(),
            memory: self.memory_axes().into_iter().map(|(name, _)| kept(name)).collect(),
            attention: has_attention.then(|| ATTENTION.to_owned()),
            ..Wiring::default()
        }
    }

    fn encoder_step(&self) -> std::result::Result<EncoderStepWiring, &'static str> {
        self.encoder_step_wiring()
    }

    fn reading(&self, source: &Vocabulary) -> Box<dyn SequenceNetwork> {
        Box::new(self.clone().with_filling(Filling::of(source)))
    }

    fn emit(&self, role: Role, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io) {
        match role {
            Role::Encoder => self.emit_encoder(p, g, io),
            Role::Decoder => self.emit_decoder(p, g, io),
            Role::Training => self.emit_training(p, g, io),
            Role::Translate => self.emit_translate(p, g),
            Role::EncoderStep => self.emit_encoder_step(p, g, io),
        }
    }

    fn forward(&self, p: &Parameters<f32>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<f32> {
        Self::forward(self, p, sources, inputs)
    }

    fn forward_exact(&self, p: &Parameters<f64>, sources: &[Vec<u32>], inputs: &[Vec<u32>]) -> Forward<f64> {
        Self::forward(self, p, sources, inputs)
    }

    fn export_tensors<'a>(&self, p: &'a Parameters<f32>) -> Vec<Exported<'a, f32>> {
        Network::exported(self, p)
    }

    fn import_tensors(&self, find: &mut FindTensor<'_>) -> Result<Parameters<f32>> {
        Network::import(self, find)
    }
}
