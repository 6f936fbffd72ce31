//! PyTorch's tensors as our parameters: gates in our order, biases in W and B, rows by our ids.

use super::mapping::{BridgeActivation, Feeding, Gate, Mapping, Output, Reset};
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
        } else if self.decoder[0].reset == Reset::Before {
            network::Cell::GruResetBefore
        } else if cells().any(|cell| cell.reset_bias().iter().any(|&x| x != 0.0)) {
            network::Cell::GruResetBias
        } else {
            network::Cell::Gru
        };
        let (hidden, memory, depth) = (self.decoder[0].hidden(), self.memory(), self.decoder.len());
        let layers = self.encoder.len();
        let hand_over = mapping.decoder.starts(layers, depth);
        let is_usual = depth == layers && hand_over.iter().enumerate().all(|(l, from)| *from == Some(l));
        let form = |embedding: &Option<Tensor>| {
            embedding.as_ref().map_or(InputForm::OneHot, |e| InputForm::Embedding(e.shape[1]))
        };
        let mut architecture = Architecture {
            source_vocabulary: source.rows.len(),
            target_vocabulary: target.rows.len(),
            source_input: form(&self.source),
            target_input: form(&self.target),
            cell,
            gate_activation: self.decoder[0].activation,
            hidden,
            encoder_hidden: (memory != hidden).then_some(memory),
            layers,
            decoder_layers: (depth != layers).then_some(depth),
            hand_over: (!is_usual).then_some(hand_over),
            bidirectional: self.encoder[0].len() > 1,
            ..Architecture::default()
        };
        if let Some(bridge) = &mapping.decoder.bridge {
            architecture.bridge = match bridge.activation {
                BridgeActivation::None => Bridge::Linear,
                BridgeActivation::Tanh => Bridge::Tanh,
                BridgeActivation::Relu => Bridge::Relu,
            };
            if cell == network::Cell::Lstm && self.c_from_h {
                architecture.bridge_source = BridgeSource::Hidden;
            }
        }
        if let (Some(wanted), Some(attended)) = (&mapping.decoder.attention, &self.attention) {
            let mut has_bias = attended.combine.as_ref().is_some_and(|layer| layer.bias.is_some());
            architecture.attention = match &attended.score {
                Scored::Dot => AttentionScore::Dot,
                Scored::General(_) => AttentionScore::General,
                Scored::Additive { energy, bias, .. } => {
                    has_bias |= bias.is_some();
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
        let fits = architecture.target_input == InputForm::Embedding(architecture.output_width());
        architecture.tied_embeddings = self.is_tied && fits && self.is_tied_under(target);
        architecture
    }

    /// Whether the output layer under our ids is still the embedding: each id has a row of the model, but for
    /// padding's, which is zeros.
    fn is_tied_under(&self, target: &Side) -> bool {
        let Some(embedding) = &self.target else { return false };
        let width = embedding.shape[1];
        let (pad, others) = target.rows.split_at(1);
        let is_zero = |at: &usize| embedding.values[at * width..][..width].iter().all(|&x| x == 0.0);
        rows::of_outputs(&target.rows) == target.rows
            && others.iter().all(Option::is_some)
            && pad.iter().flatten().all(is_zero)
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
            ("score_bias", Scored::Additive { bias, energy, .. }) => {
                Some(vector(bias.as_ref().unwrap_or(&vec![0.0; energy.len()])))
            }
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
        let (is_c, l) = (state.starts_with("state_c"), state.rsplit_once('_')?.1.parse::<usize>().ok()?);
        let of_layer = self.bridge.get(l)?;
        let Linear { weight, bias } = of_layer.get(usize::from(is_c)).or(of_layer.first())?;
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
                "encoder.embedding" => return Some(embedding(self.source.as_ref()?, source)),
                "decoder.embedding" => return Some(embedding(self.target.as_ref()?, target)),
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
                "W" => {
                    let (embedding, rows) = match side {
                        "encoder" => (&self.source, &source.rows),
                        _ => (&self.target, &target.rows),
                    };
                    let one_hot = (l == 0 && embedding.is_none()).then_some(&rows[..]);
                    Some(cell.input_weight(is_held, one_hot))
                }
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

    /// The bias of R h inside the reset product, if there is one.
    fn reset_bias(&self) -> Vec<f32> {
        if !self.is_inside_reset(2) {
            return Vec::new();
        }
        self.rows().skip(2 * self.hidden()).map(|row| self.biases[1][row]).collect()
    }

    /// W (1, gates, inputs + 1), the bias behind; one more column where padding is held.
    ///
    /// - `one_hot`: the row of the model behind each of our ids, where the inputs are symbols.
    fn input_weight(&self, is_held: bool, one_hot: Option<&[Option<usize>]>) -> (Vec<usize>, Vec<f32>) {
        let (hidden, gates) = (self.hidden(), self.w.shape[0]);
        let columns = one_hot.map_or(self.inputs(), <[_]>::len) + if is_held { 2 } else { 1 };
        let mut values = Vec::with_capacity(gates * columns);
        for (at, row) in self.rows().enumerate() {
            let of_state = if self.is_inside_reset(at / hidden) { 0.0 } else { self.biases[1][row] };
            let weights = &self.w.values[row * self.inputs()..][..self.inputs()];
            match one_hot {
                Some(rows) => values.extend(rows.iter().map(|at| at.map_or(0.0, |at| weights[at]))),
                None => values.extend_from_slice(weights),
            }
            values.push(self.biases[0][row] + of_state);
            // The network has its own values there.
            values.resize((at + 1) * columns, 0.0);
        }
        (vec![1, gates, columns], values)
    }

    /// Whether the bias of R h stands inside the reset product: that of a GRU's candidate, the last of our
    /// gates, where the reset comes after the product.
    fn is_inside_reset(&self, gate: usize) -> bool {
        !self.is_lstm() && gate == 2 && self.reset == Reset::After
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
