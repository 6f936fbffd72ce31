//! The tensors of a mapping, looked up and held against each other.

use std::collections::BTreeSet;

use super::checkpoint::Checkpoint;
use super::mapping::{
    Activation, Attention, Bridge, Cells, Combine, Dense, Fed, Feeding, First, Gate, Mapping, NamedScale,
    Output, Reset, Scale, Score, State, Table, TableForm,
};
use super::tensor::Tensor;
use crate::error::{Error, ErrorKind, Result};
use crate::network::GateActivation;

/// Layers that are looked for; models have up to eight.
const MOST_LAYERS: usize = 32;
/// Names of tensors that an error lists.
const MOST_NAMED: usize = 8;

/// What a model is made of.
pub(super) struct Parts {
    /// Embeddings (symbols, width); none of one-hot input.
    pub(super) source: Option<Tensor>,
    pub(super) target: Option<Tensor>,
    /// Rows of source and target.
    pub(super) symbols: [usize; 2],
    /// Layers, the lowest first, each with one direction or two.
    pub(super) encoder: Vec<Vec<Cell>>,
    pub(super) decoder: Vec<Cell>,
    pub(super) output: Linear,
    pub(super) attention: Option<Attended>,
    /// For each decoder layer those for h and (LSTM) c; one where both are made of h.
    pub(super) bridge: Vec<Vec<Linear>>,
    /// Whether the bridge of c reads h.
    pub(super) c_from_h: bool,
    /// Whether the output layer's weight is the target embedding.
    pub(super) is_tied: bool,
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
    /// Where a GRU resets its state.
    pub(super) reset: Reset,
    pub(super) activation: GateActivation,
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
        bias: Option<Vec<f32>>,
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

    /// The rows of an embedding; `None` for one-hot input.
    fn table(&mut self, table: &Table) -> Result<Option<Tensor>> {
        match table {
            Table::Form { form: TableForm::OneHot } => Ok(None),
            Table::Name(name) => self.matrix(name, false).map(Some),
            Table::Changed { weight, activation, scale } => {
                let mut tensor = self.matrix(weight, false)?;
                let factor = match scale {
                    None => 1.0,
                    Some(Scale::Number(number)) => *number,
                    Some(Scale::Named(NamedScale::SqrtWidth)) => (tensor.shape[1] as f32).sqrt(),
                };
                let relu = activation.is_some_and(|Activation::Relu| true);
                tensor.values.iter_mut().for_each(|x| *x = factor * if relu { x.max(0.0) } else { *x });
                Ok(Some(tensor))
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
            Cells::Name(_) | Cells::Module { .. } => (false, None),
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
            Some(name) if !cells.is_module() || self.has(&name) => self.vector(&name, rows),
            _ => Ok(vec![0.0; rows]),
        };
        let biases = [bias(b_ih)?, bias(b_hh)?];
        let (reset, activation) = cells.kind();
        Ok(Cell { w, r, biases, gates, reset, activation })
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
                let bias = match (state.bias, memory.bias) {
                    (Some(a), Some(b)) => Some(a.iter().zip(b).map(|(a, b)| a + b).collect()),
                    (bias, None) | (None, bias) => bias,
                };
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

    /// The bridges of the decoder's layers; none where a layer starts from zeros.
    fn bridge(
        &mut self,
        bridge: &Bridge,
        starts: &[Option<usize>],
        shape: [usize; 2],
    ) -> Result<Vec<Vec<Linear>>> {
        if bridge.each_way && shape.iter().any(|width| !width.is_multiple_of(2)) {
            return Err(wrong("`each_way` is of a bridge between states of two halves"));
        }
        let part = if bridge.each_way { shape.map(|width| width / 2) } else { shape };
        let mut linear = |dense: &Dense, l: usize| -> Result<Linear> {
            let linear = self.fitting(&dense.of_layer(l), part)?;
            Ok(if bridge.each_way { linear.of_both_ways() } else { linear })
        };
        let layer = |(l, start): (usize, &Option<usize>)| -> Result<Vec<Linear>> {
            let states =
                [Some(&bridge.h), bridge.c.as_ref()].into_iter().flatten().filter(|_| start.is_some());
            states.map(|dense| linear(dense, l)).collect()
        };
        starts.iter().enumerate().map(layer).collect()
    }
}

impl Linear {
    /// The layer that maps each half of its input as this one does.
    fn of_both_ways(self) -> Self {
        let (inputs, outputs) = (self.weight.shape[0], self.weight.shape[1]);
        let zeros = || std::iter::repeat_n(0.0, outputs);
        let rows = || self.weight.values.chunks_exact(outputs);
        let first = rows().flat_map(|row| row.iter().copied().chain(zeros()));
        let second = rows().flat_map(|row| zeros().chain(row.iter().copied()));
        let weight = Tensor { shape: vec![2 * inputs, 2 * outputs], values: first.chain(second).collect() };
        Self { weight, bias: self.bias.map(|bias| bias.repeat(2)) }
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
        let (output_weight, ..) = mapping.decoder.output.names();
        let is_tied = matches!(&mapping.decoder.embedding, Table::Name(name) if *name == output_weight);
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
        let c_from_h = bridge.is_some_and(|bridge| bridge.c.is_none() || bridge.c_from == State::H);
        let starts = mapping.decoder.starts(encoder.len(), decoder.len());
        if starts.len() != decoder.len() {
            let message =
                format!("`starts_from` has {} entries for {} decoder layers", starts.len(), decoder.len());
            return Err(wrong(message));
        }
        let bridge = bridge.map(|b| reader.bridge(b, &starts, [memory, hidden])).transpose()?;
        let bridge = bridge.unwrap_or_default();
        let rows = |embedding: &Option<Tensor>, cell: &Cell| {
            embedding.as_ref().map_or(cell.inputs(), |embedding| embedding.shape[0])
        };
        let symbols = [rows(&source, &encoder[0][0]), rows(&target, &decoder[0])];
        let used = reader.used;
        let parts = Self {
            source,
            target,
            symbols,
            encoder,
            decoder,
            output,
            attention,
            bridge,
            c_from_h,
            is_tied,
            used,
        };
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
        let widths = |embedding: &Option<Tensor>, above| {
            // One-hot input is as wide as the cell reads.
            [embedding.as_ref().map(|embedding| embedding.shape[1]), Some(above)]
        };
        let (of_source, of_target) = (widths(&self.source, self.memory()), widths(&self.target, hidden));
        let encoder = encoder.map(|(l, cell)| ("encoder", l, cell, of_source, self.encoder[0][0].hidden()));
        let decoder = decoder.map(|(l, cell)| ("decoder", l, cell, of_target, hidden));
        for (side, l, cell, [embedding, above], width) in encoder.chain(decoder) {
            let inputs = if l == 0 { embedding } else { above }.unwrap_or(cell.inputs());
            if cell.is_lstm() != is_lstm {
                return Err(wrong("LSTM and GRU layers in one model"));
            }
            if (cell.reset, cell.activation) != (self.decoder[0].reset, self.decoder[0].activation) {
                return Err(wrong("encoder and decoder have different `reset` or `gate_activation`"));
            }
            if cell.is_lstm() && cell.reset == Reset::Before {
                return Err(wrong("`reset` is of a GRU, and the layers are LSTMs"));
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
        if self.output.weight.shape[1] != self.symbols[1] {
            let message = format!(
                "the output layer gives {} scores, and the decoder's embedding has {} rows",
                self.output.weight.shape[1], self.symbols[1]
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
