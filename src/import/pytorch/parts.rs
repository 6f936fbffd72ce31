//! The tensors of a mapping, looked up and held against each other.

use std::collections::BTreeSet;

use super::checkpoint::Checkpoint;
use super::mapping::{
    Activation, Attention, Bridge, Cells, Combine, Dense, Fed, Feeding, First, Gate, Mapping, Output, Score,
    Table,
};
use super::tensor::Tensor;
use crate::error::{Error, ErrorKind, Result};

/// Layers that are looked for; models have up to eight.
const MOST_LAYERS: usize = 32;
/// Names of tensors that an error lists.
const MOST_NAMED: usize = 8;

/// What a model is made of.
pub(super) struct Parts {
    pub(super) source: Tensor,
    pub(super) target: Tensor,
    /// Layers, the lowest first, each with one direction or two.
    pub(super) encoder: Vec<Vec<Cell>>,
    pub(super) decoder: Vec<Cell>,
    pub(super) output: Linear,
    pub(super) attention: Option<Attended>,
    /// Layers for h and (LSTM) c; one where both are made of h.
    pub(super) bridge: Vec<Linear>,
    /// The names of tensors that were read.
    pub(super) used: BTreeSet<String>,
}

/// A recurrent layer in one direction; rows in the order in which the checkpoint has the gates.
pub(super) struct Cell {
    /// (gates * hidden, inputs).
    pub(super) w: Tensor,
    /// (gates * hidden, hidden).
    pub(super) r: Tensor,
    /// Biases of W x and of R h, (gates * hidden) each.
    pub(super) biases: [Vec<f32>; 2],
    /// The order of the gates, three of a GRU or four of an LSTM.
    pub(super) gates: Vec<Gate>,
}

/// A linear layer.
pub(super) struct Linear {
    /// (inputs, outputs).
    pub(super) weight: Tensor,
    /// (outputs).
    pub(super) bias: Option<Vec<f32>>,
}

/// Attention, with E the width of the encoder's outputs and H that of the decoder's state.
pub(super) struct Attended {
    pub(super) score: Scored,
    /// C (E + H, H), the context's rows first, and its bias.
    pub(super) combine: Option<Linear>,
    /// The weight of what is fed (F, gates), columns in the order of the checkpoint's gates.
    pub(super) feed: Option<Tensor>,
}

/// The weights of a score.
pub(super) enum Scored {
    Dot,
    /// K (H, E).
    General(Tensor),
    /// W (H, A), U (E, A), the bias (A) of both, v (A).
    Additive {
        state: Tensor,
        memory: Tensor,
        bias: Vec<f32>,
        energy: Vec<f32>,
    },
}

impl Cell {
    /// Width of the state.
    pub(super) fn hidden(&self) -> usize {
        self.r.shape[1]
    }

    /// Width of the input.
    pub(super) fn inputs(&self) -> usize {
        self.w.shape[1]
    }

    /// Whether it is an LSTM; else it is a GRU.
    pub(super) fn is_lstm(&self) -> bool {
        self.gates.len() == 4
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Data, message)
}

/// The tensors of all checkpoints.
struct Reader<'a> {
    checkpoints: &'a mut [Checkpoint],
    used: BTreeSet<String>,
}

impl Reader<'_> {
    fn has(&self, name: &str) -> bool {
        self.checkpoints.iter().any(|checkpoint| checkpoint.has(name))
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        self.used.insert(name.to_owned());
        let at = self.checkpoints.iter().position(|checkpoint| checkpoint.has(name)).unwrap_or(0);
        self.checkpoints[at].tensor(name)
    }

    /// A matrix, transposed where the mapping says that the file has it so.
    fn matrix(&mut self, name: &str, is_transposed: bool) -> Result<Tensor> {
        let tensor = self.tensor(name)?;
        match tensor.shape[..] {
            [rows, columns] if rows > 0 && columns > 0 => {
                Ok(if is_transposed { transposed(&tensor) } else { tensor })
            }
            _ => Err(wrong(format!("tensor {name} has the shape {:?}, not two axes", tensor.shape))),
        }
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        if tensor.values.len() == length && tensor.shape.iter().filter(|&&axis| axis != 1).count() <= 1 {
            return Ok(tensor.values);
        }
        Err(wrong(format!("tensor {name} has the shape {:?}, and [{length}] would fit", tensor.shape)))
    }

    fn table(&mut self, table: &Table) -> Result<Tensor> {
        match table {
            Table::Name(name) => self.matrix(name, false),
            Table::Activated { weight, activation } => {
                let mut tensor = self.matrix(weight, false)?;
                match activation {
                    Activation::Relu => tensor.values.iter_mut().for_each(|x| *x = x.max(0.0)),
                }
                Ok(tensor)
            }
        }
    }

    /// A linear layer, its weight as (inputs, outputs).
    fn linear(&mut self, dense: &Dense) -> Result<Linear> {
        let (weight, bias, is_transposed) = dense.names();
        let weight = self.matrix(&weight, !is_transposed)?;
        // nn.Linear may have none.
        let bias = bias.filter(|name| !matches!(dense, Dense::Name(_)) || self.has(name));
        let bias = bias.map(|name| self.vector(&name, weight.shape[1])).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// A linear layer from so many inputs to so many outputs.
    fn fitting(&mut self, dense: &Dense, shape: [usize; 2]) -> Result<Linear> {
        let linear = self.linear(dense)?;
        if linear.weight.shape == shape {
            return Ok(linear);
        }
        let (found, (name, ..)) = (&linear.weight.shape, dense.names());
        Err(wrong(format!("tensor {name} is {found:?} from inputs to outputs, and {shape:?} would fit")))
    }

    /// The same without a bias.
    fn plain(&mut self, dense: &Dense, shape: [usize; 2]) -> Result<Tensor> {
        let linear = self.fitting(dense, shape)?;
        if linear.bias.is_some_and(|bias| bias.iter().any(|&x| x != 0.0)) {
            let (name, ..) = dense.names();
            return Err(wrong(format!("the layer of {name} has a bias, for which there is no place")));
        }
        Ok(linear.weight)
    }

    fn cell(&mut self, cells: &Cells, l: usize, is_reverse: bool) -> Result<Cell> {
        let [w, r, b_ih, b_hh] = cells.names(l, is_reverse);
        let (Some(w_name), Some(r_name)) = (w, r) else {
            return Err(wrong("a recurrent layer without weights"));
        };
        let (is_transposed, order) = match cells {
            Cells::Name(_) => (false, None),
            Cells::Tensors { transposed, gates, .. } => (*transposed, gates.clone()),
        };
        let w = self.matrix(&w_name, is_transposed)?;
        let r = self.matrix(&r_name, is_transposed)?;
        let (rows, hidden) = (r.shape[0], r.shape[1]);
        let usual: &[Gate] = match rows {
            _ if rows == 4 * hidden => &[Gate::I, Gate::F, Gate::G, Gate::O],
            _ if rows == 3 * hidden => &[Gate::R, Gate::Z, Gate::N],
            _ => {
                let message = format!(
                    "tensor {r_name} has the shape {:?}: an LSTM has 4 rows for each column, a GRU 3",
                    r.shape
                );
                return Err(wrong(message).help("plain recurrent networks (nn.RNN) cannot be imported"));
            }
        };
        if w.shape[0] != rows {
            let message =
                format!("tensor {w_name} has {} rows of gates, and {r_name} has {rows}", w.shape[0]);
            return Err(wrong(message).help("`transposed: true` is for weights of (inputs, gates)"));
        }
        let gates = order.unwrap_or_else(|| usual.to_vec());
        let is_complete = gates.len() == usual.len() && usual.iter().all(|gate| gates.contains(gate));
        if !is_complete {
            return Err(wrong(format!("`gates` is {gates:?}, and {w_name} has the gates {usual:?}"))
                .help("list each of them once, in the order of the tensor's rows"));
        }
        let mut bias = |name: Option<String>| match name {
            Some(name) if !matches!(cells, Cells::Name(_)) || self.has(&name) => self.vector(&name, rows),
            _ => Ok(vec![0.0; rows]),
        };
        let biases = [bias(b_ih)?, bias(b_hh)?];
        Ok(Cell { w, r, biases, gates })
    }

    /// The layers of a side; those behind the first are looked for by their numbers.
    fn layers(&mut self, cells: &Cells, both_ways: bool) -> Result<Vec<Vec<Cell>>> {
        let mut layers: Vec<Vec<Cell>> = Vec::new();
        for l in 0..MOST_LAYERS {
            let [name, ..] = cells.names(l, false);
            if l > 0 && !name.is_some_and(|name| self.has(&name)) {
                break;
            }
            let mut layer = vec![self.cell(cells, l, false)?];
            let [reverse, ..] = cells.names(l, true);
            if let Some(reverse) = reverse.filter(|name| self.has(name)) {
                if !both_ways {
                    return Err(wrong(format!("the decoder reads both ways: there is a tensor {reverse}")));
                }
                layer.push(self.cell(cells, l, true)?);
            }
            layers.push(layer);
        }
        Ok(layers)
    }

    /// - `memory`, `hidden`: widths of the encoder's outputs and the decoder's state.
    fn attention(&mut self, attention: &Attention, memory: usize, hidden: usize) -> Result<Attended> {
        let score = match &attention.score {
            Score::Dot => Scored::Dot,
            Score::General(key) => Scored::General(self.plain(key, [hidden, memory])?),
            // h . (m K) is (h K^T) . m.
            Score::GeneralOfMemory(key) => Scored::General(transposed(&self.plain(key, [memory, hidden])?)),
            Score::Additive(additive) => {
                let energy = self.linear(&additive.energy)?.weight;
                let width = energy.shape[0];
                if energy.shape != [width, 1] {
                    let (name, ..) = additive.energy.names();
                    return Err(wrong(format!("tensor {name} gives {} scores, not one", energy.shape[1])));
                }
                let state = self.fitting(&additive.state, [hidden, width])?;
                let memory = self.fitting(&additive.memory, [memory, width])?;
                let mut bias = vec![0.0; width];
                for more in [state.bias, memory.bias].into_iter().flatten() {
                    bias.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
                }
                let (state, memory) = (state.weight, memory.weight);
                Scored::Additive { state, memory, bias, energy: energy.values }
            }
        };
        let combine = match &attention.output {
            Output::Tanh(combine) | Output::Linear(combine) => {
                let Combine { layer, first } = combine;
                let mut linear = self.fitting(layer, [memory + hidden, hidden])?;
                if *first == First::State {
                    linear.weight.values.rotate_left(hidden * hidden);
                }
                Some(linear)
            }
            Output::Both(_) | Output::State => None,
        };
        Ok(Attended { score, combine, feed: None })
    }

    fn bridge(&mut self, bridge: &Bridge, shape: [usize; 2]) -> Result<Vec<Linear>> {
        [Some(&bridge.h), bridge.c.as_ref()]
            .into_iter()
            .flatten()
            .map(|layer| self.fitting(layer, shape))
            .collect()
    }
}

impl Cell {
    /// Takes the columns of W that read what is fed, `width` of them, (width, gates).
    fn take_fed(&mut self, width: usize, place: Fed) -> Result<Tensor> {
        let (rows, inputs) = (self.w.shape[0], self.w.shape[1]);
        if inputs <= width {
            let message =
                format!("the decoder's first layer reads {inputs} values, and {width} of them would be fed");
            return Err(wrong(message));
        }
        let start = if place == Fed::Before { 0 } else { inputs - width };
        let fed = (0..width * rows).map(|at| self.w.values[at % rows * inputs + start + at / rows]);
        let fed = Tensor { shape: vec![width, rows], values: fed.collect() };
        let rest = self.w.values.chunks_exact(inputs);
        let values = rest.flat_map(|row| row[..start].iter().chain(&row[start + width..])).copied().collect();
        self.w = Tensor { shape: vec![rows, inputs - width], values };
        Ok(fed)
    }
}

fn transposed(tensor: &Tensor) -> Tensor {
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let at = |at: usize| tensor.values[at % rows * columns + at / rows];
    Tensor { shape: vec![columns, rows], values: (0..rows * columns).map(at).collect() }
}

impl Parts {
    /// Reads what `mapping` names, and checks that it fits together and that nothing else is there.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] with the names of the tensors.
    pub(super) fn gather(mapping: &Mapping, checkpoints: &mut [Checkpoint]) -> Result<Self> {
        let mut reader = Reader { checkpoints, used: BTreeSet::new() };
        let source = reader.table(&mapping.encoder.embedding)?;
        let target = reader.table(&mapping.decoder.embedding)?;
        let encoder = reader.layers(&mapping.encoder.recurrent, true)?;
        let mut decoder: Vec<Cell> =
            reader.layers(&mapping.decoder.recurrent, false)?.into_iter().flatten().collect();
        let mut output = reader.linear(&mapping.decoder.output)?;
        let (memory, hidden) = (encoder[0][0].hidden() * encoder[0].len(), decoder[0].hidden());
        let mut attention = None;
        if let Some(wanted) = &mapping.decoder.attention {
            let mut attended = reader.attention(wanted, memory, hidden)?;
            attended.feed = match wanted.feeding {
                Feeding::None => None,
                Feeding::Output => Some(decoder[0].take_fed(hidden, wanted.fed)?),
                Feeding::Context => Some(decoder[0].take_fed(memory, wanted.fed)?),
            };
            if matches!(wanted.output, Output::Both(First::State)) {
                // Ours begins with the context.
                let columns = output.weight.shape[1];
                let rows = hidden.min(output.weight.shape[0]);
                output.weight.values.rotate_left(rows * columns);
            }
            attention = Some(attended);
        }
        let bridge = mapping.decoder.bridge.as_ref();
        let bridge = bridge.map(|b| reader.bridge(b, [memory, hidden])).transpose()?.unwrap_or_default();
        let used = reader.used;
        let parts = Self { source, target, encoder, decoder, output, attention, bridge, used };
        parts.check()?;
        parts.check_rest(mapping, checkpoints)?;
        Ok(parts)
    }

    /// Width of the encoder's outputs, both directions together.
    pub(super) fn memory(&self) -> usize {
        self.encoder[0].len() * self.encoder[0][0].hidden()
    }

    /// Whether the parts are one network.
    fn check(&self) -> Result<()> {
        let (hidden, is_lstm) = (self.decoder[0].hidden(), self.decoder[0].is_lstm());
        if self.encoder.iter().any(|layer| layer.len() != self.encoder[0].len()) {
            return Err(wrong("some layers of the encoder read both ways and some do not"));
        }
        let encoder =
            self.encoder.iter().enumerate().flat_map(|(l, layer)| layer.iter().map(move |cell| (l, cell)));
        let decoder = self.decoder.iter().enumerate();
        let widths = |embedding: &Tensor, above| [embedding.shape[1], above];
        let (of_source, of_target) = (widths(&self.source, self.memory()), widths(&self.target, hidden));
        let encoder = encoder.map(|(l, cell)| ("encoder", l, cell, of_source, self.encoder[0][0].hidden()));
        let decoder = decoder.map(|(l, cell)| ("decoder", l, cell, of_target, hidden));
        for (side, l, cell, [embedding, above], width) in encoder.chain(decoder) {
            let inputs = if l == 0 { embedding } else { above };
            if cell.is_lstm() != is_lstm {
                return Err(wrong("LSTM and GRU layers in one model"));
            }
            if cell.hidden() != width {
                let message = format!(
                    "{side} layer {l} is {} wide, and the first one of that side {width}",
                    cell.hidden()
                );
                return Err(wrong(message));
            }
            if cell.inputs() != inputs {
                let message = format!(
                    "{side} layer {l} reads {} values, and {inputs} would fit what is below",
                    cell.inputs()
                );
                return Err(wrong(message).help("what else it reads is named under `attention.feeding`"));
            }
        }
        if self.output.weight.shape[1] != self.target.shape[0] {
            let message = format!(
                "the output layer gives {} scores, and the decoder's embedding has {} rows",
                self.output.weight.shape[1], self.target.shape[0]
            );
            return Err(wrong(message));
        }
        Ok(())
    }

    /// Whether each tensor of the checkpoints is read or said to be none of the model.
    fn check_rest(&self, mapping: &Mapping, checkpoints: &[Checkpoint]) -> Result<()> {
        let names = checkpoints.iter().flat_map(Checkpoint::names);
        let rest: Vec<&str> =
            names.filter(|name| !self.used.contains(*name) && !mapping.ignores(name)).collect();
        if rest.is_empty() {
            return Ok(());
        }
        let more = rest.len().saturating_sub(MOST_NAMED);
        let named = rest[..rest.len() - more].join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(wrong(format!("the mapping says nothing about {named}{more}")).help(
            "without them it would be another model: name them as parts, or under `ignore` if they are none",
        ))
    }
}
