//! PyTorch's tensors as our parameters: gates in our order, biases in W and B, rows by our ids.

use s2s_runtime::contract::{END, START};

use super::mapping::Gate;
use super::parts::{Cell, Parts};
use super::tensor::Tensor;
use super::vocabulary::Side;
use crate::error::Result;
use crate::network::{self, Architecture, AttentionScore, InputForm, Network, Parameters, Seq2Seq};

/// A symbol that the model does not have gets a logit lower than any that it can give, by so many nats: its
/// probability is below 2e-9 of the least likely one.
const MARGIN: f32 = 20.0;

impl Parts {
    /// The network that the parts are of.
    pub(super) fn architecture(&self, source: &Side, target: &Side) -> Architecture {
        let cells = || self.encoder.iter().flatten().chain(&self.decoder);
        let cell = if self.decoder[0].is_lstm() {
            network::Cell::Lstm
        } else if cells().any(|cell| cell.reset_bias().iter().any(|&x| x != 0.0)) {
            network::Cell::GruResetBias
        } else {
            network::Cell::Gru
        };
        let score = match &self.attention {
            None => AttentionScore::None,
            Some(attended) if attended.key.is_none() => AttentionScore::Dot,
            Some(_) => AttentionScore::General,
        };
        Architecture {
            source_vocabulary: source.rows.len(),
            target_vocabulary: target.rows.len(),
            source_input: InputForm::Embedding(self.source.shape[1]),
            target_input: InputForm::Embedding(self.target.shape[1]),
            cell,
            hidden: self.decoder[0].hidden(),
            layers: self.decoder.len(),
            bidirectional: self.encoder[0].len() > 1,
            attention: score,
            ..Architecture::default()
        }
    }

    /// The parameters of `network`, whose ids stand for these rows of the model; none is a row of zeros.
    pub(super) fn parameters(
        &self,
        network: &Seq2Seq,
        source: &Side,
        target: &Side,
    ) -> Result<Parameters<f32>> {
        let is_held = network.architecture().cell == network::Cell::GruResetBias;
        // Where one symbol both starts and ends targets, the model has one score for it: that of END.
        let mut outputs = target.rows.clone();
        let [start, end] = [START, END].map(|id| id as usize);
        if outputs[start] == outputs[end] {
            outputs[start] = None;
        }
        network.import(|name| {
            let attended = |part: fn(&super::parts::Attended) -> Option<&Tensor>| {
                let tensor = part(self.attention.as_ref()?)?;
                Some((tensor.shape.clone(), tensor.values.clone()))
            };
            match name {
                "encoder.embedding" => return Some(embedding(&self.source, &source.rows)),
                "decoder.embedding" => return Some(embedding(&self.target, &target.rows)),
                "decoder.dense.weight" => return Some(self.output_weight(&outputs)),
                "decoder.dense.bias" => return Some(self.output_bias(&outputs)),
                "decoder.attention.key" => return attended(|attended| attended.key.as_ref()),
                "decoder.attention.combine" => return attended(|attended| Some(&attended.combine)),
                _ => {}
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

    fn output_weight(&self, rows: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
        let weight = &self.output.weight;
        let (inputs, outputs) = (weight.shape[0], weight.shape[1]);
        let values = weight
            .values
            .chunks_exact(outputs)
            .flat_map(|row| rows.iter().map(move |at| at.map_or(0.0, |at| row[at])));
        (vec![inputs, rows.len()], values.collect())
    }

    fn output_bias(&self, rows: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
        let weight = &self.output.weight;
        let outputs = weight.shape[1];
        let bias = |at: usize| self.output.bias.as_ref().map_or(0.0, |bias| bias[at]);
        // What the output layer reads is a state or a tanh, within 1.
        let mut least: Vec<f32> = (0..outputs).map(bias).collect();
        for row in weight.values.chunks_exact(outputs) {
            least.iter_mut().zip(row).for_each(|(least, w)| *least -= w.abs());
        }
        let lowest = least.into_iter().fold(f32::INFINITY, f32::min) - MARGIN;
        (vec![rows.len()], rows.iter().map(|at| at.map_or(lowest, bias)).collect())
    }
}

/// The rows of an embedding; that of PAD is zero whatever the model has there, because no graph reads it.
fn embedding(tensor: &Tensor, rows: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
    let width = tensor.shape[1];
    let row = |(id, at): (usize, &Option<usize>)| match at {
        Some(at) if id > 0 => tensor.values[at * width..][..width].to_vec(),
        _ => vec![0.0; width],
    };
    (vec![rows.len(), width], rows.iter().enumerate().flat_map(row).collect())
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
