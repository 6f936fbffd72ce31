//! The tensors of a mapping, looked up and held against each other.

use std::collections::BTreeSet;

use super::checkpoint::Checkpoint;
use super::mapping::{Activation, Attention, Cells, Dense, First, Gate, KeyOf, Mapping, Table};
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

/// Luong's attention.
pub(super) struct Attended {
    /// K (hidden, hidden) of general scores (h K) . m.
    pub(super) key: Option<Tensor>,
    /// (2 hidden, hidden), the context's rows first.
    pub(super) combine: Tensor,
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

    /// A linear layer that must be without bias, (inputs, outputs).
    fn plain(&mut self, dense: &Dense, shape: [usize; 2]) -> Result<Tensor> {
        let (name, ..) = dense.names();
        let linear = self.linear(dense)?;
        if linear.bias.is_some_and(|bias| bias.iter().any(|&x| x != 0.0)) {
            return Err(wrong(format!("the layer of {name} has a bias, for which there is no place")));
        }
        if linear.weight.shape == shape {
            return Ok(linear.weight);
        }
        let found = &linear.weight.shape;
        Err(wrong(format!("tensor {name} is {found:?} from inputs to outputs, and {shape:?} would fit")))
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

    fn attention(&mut self, attention: &Attention, hidden: usize) -> Result<Attended> {
        let key = attention.key.as_ref().map(|key| self.plain(key, [hidden, hidden])).transpose()?;
        // q . (m W^T) is (q W) . m.
        let key = key.map(|key| if attention.key_of == KeyOf::Memory { transposed(&key) } else { key });
        let mut combine = self.plain(&attention.combine, [2 * hidden, hidden])?;
        if attention.first == First::State {
            combine.values.rotate_left(hidden * hidden);
        }
        Ok(Attended { key, combine })
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
        let decoder: Vec<Cell> =
            reader.layers(&mapping.decoder.recurrent, false)?.into_iter().flatten().collect();
        let output = reader.linear(&mapping.decoder.output)?;
        let hidden = decoder[0].hidden();
        let attention =
            mapping.decoder.attention.as_ref().map(|a| reader.attention(a, hidden)).transpose()?;
        let parts = Self { source, target, encoder, decoder, output, attention, used: reader.used };
        parts.check()?;
        parts.check_rest(mapping, checkpoints)?;
        Ok(parts)
    }

    /// Whether the parts are a network that there is a place for.
    fn check(&self) -> Result<()> {
        let (hidden, is_lstm) = (self.decoder[0].hidden(), self.decoder[0].is_lstm());
        let directions = self.encoder[0].len();
        if self.encoder.len() != self.decoder.len() {
            let message = format!("{} encoder and {} decoder layers", self.encoder.len(), self.decoder.len());
            return Err(wrong(message).help("both sides have as many layers"));
        }
        let sides = [("encoder", self.source.shape[1], directions), ("decoder", self.target.shape[1], 1)];
        for (side, embedding, directions) in sides {
            let layers: Vec<&Cell> = match side {
                "encoder" => self.encoder.iter().flatten().collect(),
                _ => self.decoder.iter().collect(),
            };
            let uneven = self.encoder.iter().any(|layer| layer.len() != self.encoder[0].len());
            if side == "encoder" && uneven {
                return Err(wrong("some layers of the encoder read both ways and some do not"));
            }
            for (at, cell) in layers.into_iter().enumerate() {
                let l = at / directions;
                let inputs = if l == 0 { embedding } else { hidden };
                if cell.is_lstm() != is_lstm {
                    return Err(wrong("LSTM and GRU layers in one model"));
                }
                if cell.hidden() * directions != hidden {
                    let message = format!(
                        "{side} layer {l} is {} wide in each direction, and {hidden} over {directions} would \
                         fit the decoder",
                        cell.hidden()
                    );
                    return Err(wrong(message));
                }
                if cell.inputs() != inputs {
                    let message = format!(
                        "{side} layer {l} reads {} values, and {inputs} would fit what is below",
                        cell.inputs()
                    );
                    return Err(wrong(message));
                }
            }
        }
        if self.output.weight.shape != [hidden, self.target.shape[0]] {
            let message = format!(
                "the output layer is {:?} from inputs to outputs, and {:?} would fit decoder and embedding",
                self.output.weight.shape,
                [hidden, self.target.shape[0]]
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
