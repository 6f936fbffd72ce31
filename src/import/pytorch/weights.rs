//! PyTorch's tensors as our parameters: gates in our order, biases in W and B, rows by our ids.

use super::mapping::{BridgeActivation, Feeding, Gate, Mapping, Output, Start};
use super::parts::{Cell, Linear, Parts, Scored};
use super::tensor::Tensor;
use crate::error::Result;
use crate::import::rows::{self, Side};
use crate::network::{
    self, Architecture, AttentionOutput, AttentionScore, Bridge, BridgeSource, InputForm, Network,
    Parameters, Seq2Seq,
};

impl Parts {
    /// The network that the parts are of.
    pub(super) fn architecture(&self, mapping: &Mapping, source: &Side, target: &Side) -> Architecture {
        let cells = || self.encoder.iter().flatten().chain(&self.decoder);
        let cell = if self.decoder[0].is_lstm() {
            network::Cell::Lstm
        } else if cells().any(|cell| cell.reset_bias().iter().any(|&x| x != 0.0)) {
            network::Cell::GruResetBias
        } else {
            network::Cell::Gru
        };
        let (hidden, memory, depth) = (self.decoder[0].hidden(), self.memory(), self.decoder.len());
        let top = self.encoder.len() - 1;
        let hand_over = match mapping.decoder.starts_from {
            Start::Same => None,
            Start::Top => Some(vec![Some(top); depth]),
            Start::Zeros => Some(vec![None; depth]),
        };
        let mut architecture = Architecture {
            source_vocabulary: source.rows.len(),
            target_vocabulary: target.rows.len(),
            source_input: InputForm::Embedding(self.source.shape[1]),
            target_input: InputForm::Embedding(self.target.shape[1]),
            cell,
            hidden,
            encoder_hidden: (memory != hidden).then_some(memory),
            layers: self.encoder.len(),
            decoder_layers: (depth != self.encoder.len()).then_some(depth),
            // One layer starts from one layer in any case.
            hand_over: hand_over.filter(|from| *from != [Some(0)] || top > 0),
            bidirectional: self.encoder[0].len() > 1,
            ..Architecture::default()
        };
        if let Some(bridge) = &mapping.decoder.bridge {
            architecture.bridge = match bridge.activation {
                BridgeActivation::None => Bridge::Linear,
                BridgeActivation::Tanh => Bridge::Tanh,
                BridgeActivation::Relu => Bridge::Relu,
            };
            if cell == network::Cell::Lstm && bridge.c.is_none() {
                architecture.bridge_source = BridgeSource::Hidden;
            }
        }
        if let (Some(wanted), Some(attended)) = (&mapping.decoder.attention, &self.attention) {
            let mut has_bias = attended.combine.as_ref().is_some_and(|layer| layer.bias.is_some());
            architecture.attention = match &attended.score {
                Scored::Dot => AttentionScore::Dot,
                Scored::General(_) => AttentionScore::General,
                Scored::Additive { energy, bias, .. } => {
                    has_bias |= bias.iter().any(|&x| x != 0.0);
                    architecture.attention_width = (energy.len() != hidden).then_some(energy.len());
                    AttentionScore::Additive
                }
            };
            architecture.attention_bias = has_bias;
            architecture.attention_output = match wanted.output {
                Output::Tanh(_) => AttentionOutput::Combined,
                Output::Linear(_) => AttentionOutput::CombinedLinear,
                Output::Both(_) => AttentionOutput::Concatenated,
                Output::State => AttentionOutput::State,
            };
            architecture.feeding = match wanted.feeding {
                Feeding::None => network::Feeding::None,
                Feeding::Output => network::Feeding::Output,
                Feeding::Context => network::Feeding::Context,
            };
        }
        architecture
    }

    /// A parameter of the attention, by the rest of its name.
    fn attention_parameter(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let attended = self.attention.as_ref()?;
        let combine = attended.combine.as_ref();
        let vector = |values: &Vec<f32>| (vec![values.len()], values.clone());
        match (name, &attended.score) {
            ("key", Scored::General(key)) => Some(whole(key)),
            ("query", Scored::Additive { state, .. }) => Some(whole(state)),
            ("memory", Scored::Additive { memory, .. }) => Some(whole(memory)),
            ("score_bias", Scored::Additive { bias, .. }) => Some(vector(bias)),
            ("score", Scored::Additive { energy, .. }) => Some(vector(energy)),
            ("combine", _) => Some(whole(&combine?.weight)),
            ("combine_bias", _) => {
                let Linear { weight, bias } = combine?;
                Some(vector(&bias.clone().unwrap_or_else(|| vec![0.0; weight.shape[1]])))
            }
            _ => None,
        }
    }

    /// A parameter of the bridge, by the rest of its name, as in `state_h_0.weight`.
    fn bridge_parameter(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let (state, part) = name.split_once('.')?;
        let is_c = state.starts_with("state_c");
        let Linear { weight, bias } = self.bridge.get(usize::from(is_c)).or(self.bridge.first())?;
        if part == "weight" {
            return Some(whole(weight));
        }
        let outputs = weight.shape[1];
        Some((vec![outputs], bias.clone().unwrap_or_else(|| vec![0.0; outputs])))
    }

    /// The weight of what is fed (F, gates), columns in our order of gates.
    fn fed_weight(&self) -> Option<(Vec<usize>, Vec<f32>)> {
        let feed = self.attention.as_ref()?.feed.as_ref()?;
        let columns: Vec<usize> = self.decoder[0].rows().collect();
        let rows = feed.values.chunks_exact(columns.len());
        let values = rows.flat_map(|row| columns.iter().map(|&column| row[column])).collect();
        Some((feed.shape.clone(), values))
    }

    /// The parameters of `network`, whose ids stand for these rows of the model; none is a row of zeros.
    pub(super) fn parameters(
        &self,
        network: &Seq2Seq,
        source: &Side,
        target: &Side,
    ) -> Result<Parameters<f32>> {
        let is_held = network.architecture().cell == network::Cell::GruResetBias;
        let outputs = rows::of_outputs(&target.rows);
        network.import(|name| {
            match name {
                "encoder.embedding" => return Some(embedding(&self.source, source)),
                "decoder.embedding" => return Some(embedding(&self.target, target)),
                "decoder.dense.weight" => return Some(self.output(false, &outputs)),
                "decoder.dense.bias" => return Some(self.output(true, &outputs)),
                _ => {}
            }
            if let Some(name) = name.strip_prefix("decoder.attention.") {
                return self.attention_parameter(name);
            }
            if let Some(name) = name.strip_prefix("decoder.bridge.") {
                return self.bridge_parameter(name);
            }
            if name.ends_with(".feed") {
                return self.fed_weight();
            }
            let mut words = name.split('.');
            let (side, layer) = (words.next()?, words.next()?);
            let l: usize = layer.split_once('_')?.1.parse().ok()?;
            let mut part = words.next()?;
            let is_reverse = part == "reverse";
            if is_reverse {
                part = words.next()?;
            }
            let cell = match side {
                "encoder" => self.encoder.get(l)?.get(usize::from(is_reverse))?,
                _ => self.decoder.get(l)?,
            };
            match part {
                "W" => Some(cell.input_weight(is_held)),
                "R" => Some(cell.state_weight()),
                "B" => Some(cell.state_bias()),
                _ => None,
            }
        })
    }

    /// Weights or bias of the output layer.
    fn output(&self, is_bias: bool, outputs: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
        let Linear { weight, bias } = &self.output;
        let symbols = weight.shape[1];
        let inputs = weight.values.chunks_exact(symbols);
        if !is_bias {
            return rows::output_weight(inputs, outputs);
        }
        rows::output_bias(inputs, bias.as_deref().unwrap_or(&vec![0.0; symbols]), outputs)
    }
}

fn whole(tensor: &Tensor) -> (Vec<usize>, Vec<f32>) {
    (tensor.shape.clone(), tensor.values.clone())
}

fn embedding(tensor: &Tensor, side: &Side) -> (Vec<usize>, Vec<f32>) {
    rows::embedding(&tensor.values, tensor.shape[1], &side.rows)
}

impl Cell {
    /// The checkpoint's row of each of ours: i, o, f, c or z, r, n.
    fn rows(&self) -> impl Iterator<Item = usize> {
        const LSTM: &[Gate] = &[Gate::I, Gate::O, Gate::F, Gate::G];
        const GRU: &[Gate] = &[Gate::Z, Gate::R, Gate::N];
        let hidden = self.hidden();
        let ours = if self.is_lstm() { LSTM } else { GRU };
        ours.iter().flat_map(move |gate| {
            let at = self.gates.iter().position(|known| known == gate).unwrap_or_default();
            at * hidden..(at + 1) * hidden
        })
    }

    /// The bias of R h in the candidate of a GRU, which stands inside the reset product; nothing of an LSTM.
    fn reset_bias(&self) -> Vec<f32> {
        if self.is_lstm() {
            return Vec::new();
        }
        self.rows().skip(2 * self.hidden()).map(|row| self.biases[1][row]).collect()
    }

    /// W (1, gates, inputs + 1), the bias behind; one more column where padding is held.
    fn input_weight(&self, is_held: bool) -> (Vec<usize>, Vec<f32>) {
        let (inputs, hidden, gates) = (self.inputs(), self.hidden(), self.w.shape[0]);
        let columns = inputs + if is_held { 2 } else { 1 };
        let mut values = Vec::with_capacity(gates * columns);
        for (at, row) in self.rows().enumerate() {
            let is_inside_reset = !self.is_lstm() && at >= 2 * hidden;
            let of_state = if is_inside_reset { 0.0 } else { self.biases[1][row] };
            values.extend_from_slice(&self.w.values[row * inputs..][..inputs]);
            values.push(self.biases[0][row] + of_state);
            // The network has its own values there.
            values.resize((at + 1) * columns, 0.0);
        }
        (vec![1, gates, columns], values)
    }

    /// R (1, gates, hidden).
    fn state_weight(&self) -> (Vec<usize>, Vec<f32>) {
        let hidden = self.hidden();
        let values = self.rows().flat_map(|row| &self.r.values[row * hidden..][..hidden]).copied();
        (vec![1, self.r.shape[0], hidden], values.collect())
    }

    /// B (1, 2 gates): zeros but for the bias inside the reset product.
    fn state_bias(&self) -> (Vec<usize>, Vec<f32>) {
        let gates = self.w.shape[0];
        let mut values = vec![0.0; 2 * gates - self.hidden()];
        values.extend(self.reset_bias());
        (vec![1, 2 * gates], values)
    }
}
