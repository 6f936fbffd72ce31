//! Keras's arrays as our parameters: gates in our order, the bias the last column of W, rows follow our ids.
//!
//! | Keras | gates | here |
//! |---|---|---|
//! | `LSTM` | i, f, c, o | i, o, f, c |
//! | `GRU` | z, r, h | the same |
//!
//! The two biases of a GRU with `reset_after` are one in z and r; in h that of the recurrent product is
//! multiplied with the reset gate, and stays apart unless it is zero everywhere.

use super::attention::{Attention, Score};
use super::hdf5::Array;
use super::parts::{Kind, Model, Side};
use super::saved::{ArrayName, Direction, Saved};
use crate::error::{Error, ErrorKind, Result};
use crate::import::rows;
use crate::network::{
    Architecture, AttentionOutput, AttentionScore, Cell, GateActivation, InputForm, Network, Parameters,
    Seq2Seq,
};

const KERNEL: ArrayName = ArrayName { name: "kernel", number: 0 };
const RECURRENT: ArrayName = ArrayName { name: "recurrent_kernel", number: 1 };
const BIAS: ArrayName = ArrayName { name: "bias", number: 2 };
const DENSE_BIAS: ArrayName = ArrayName { name: "bias", number: 1 };
const EMBEDDING: ArrayName = ArrayName { name: "embeddings", number: 0 };
const SCALE: ArrayName = ArrayName { name: "scale", number: 0 };

/// The arrays of a model, in their places.
pub(super) struct Tensors<'a> {
    /// What they are the parameters of; its vocabularies are not known yet.
    pub(super) architecture: Architecture,
    pub(super) source_rows: usize,
    pub(super) target_rows: usize,
    encoder: SideTensors<'a>,
    decoder: SideTensors<'a>,
    attention: Option<AttentionTensors<'a>>,
    dense: Dense<'a>,
}

struct SideTensors<'a> {
    embedding: Option<&'a Array>,
    /// Each direction of each layer.
    layers: Vec<Vec<Recurrent<'a>>>,
}

struct Recurrent<'a> {
    kind: Kind,
    kernel: &'a Array,
    recurrent: &'a Array,
    bias: Vec<f32>,
    /// The part of the candidate's bias that the reset gate multiplies (hidden); empty but for a GRU.
    inner: Vec<f32>,
}

struct AttentionTensors<'a> {
    score: ScoreTensors<'a>,
    combine: Option<Dense<'a>>,
    context_first: bool,
}

enum ScoreTensors<'a> {
    Dot,
    Scaled(f32),
    General(&'a Array),
    Additive(Vec<f32>),
}

struct Dense<'a> {
    kernel: &'a Array,
    bias: Vec<f32>,
}

fn fit(layer: &str, name: &str, array: &Array, shape: &[usize]) -> Result<()> {
    if array.shape == shape {
        return Ok(());
    }
    let message = format!(
        "{name} of layer {layer:?} has shape {:?}, and {shape:?} would fit the layers around it",
        array.shape
    );
    Err(Error::new(ErrorKind::Data, message)
        .help("the file's layers and weights are of different models; save the model again"))
}

/// An array of two axes.
fn matrix<'a>(
    saved: &'a Saved,
    layer: &str,
    direction: Option<Direction>,
    name: ArrayName,
) -> Result<(&'a Array, [usize; 2])> {
    let array = saved.array(layer, direction, name)?;
    match array.shape[..] {
        [rows, columns] if rows > 0 && columns > 0 => Ok((array, [rows, columns])),
        _ => Err(Error::new(
            ErrorKind::Data,
            format!("{} of layer {layer:?} has shape {:?}, not two axes", name.name, array.shape),
        )),
    }
}

impl<'a> Tensors<'a> {
    /// Looks all arrays up and checks their shapes.
    pub(super) fn gather(model: &Model, saved: &'a Saved) -> Result<Self> {
        let width = |layer: Option<&String>, direction| match layer {
            Some(layer) => Ok(matrix(saved, layer, direction, RECURRENT)?.1[0]),
            None => Ok(0),
        };
        let hidden = width(model.decoder.layers.first(), None)?;
        let directions: &[Option<Direction>] = if model.bidirectional {
            &[Some(Direction::Forward), Some(Direction::Backward)]
        } else {
            &[None]
        };
        let each = width(model.encoder.layers.first(), directions[0])?;
        let outputs = each * directions.len();
        let kind = model.cell.kind;
        let (encoder, source_rows, source_input) = side(&model.encoder, saved, directions, kind, each)?;
        let (decoder, target_rows, target_input) = side(&model.decoder, saved, &[None], kind, hidden)?;
        let attention = model.attention.as_ref().map(|a| attention(a, saved, hidden, outputs)).transpose()?;
        let read = match &attention {
            Some(AttentionTensors { combine: None, .. }) => outputs + hidden,
            _ => hidden,
        };
        let dense = dense(saved, &model.dense, read, target_rows)?;
        let of_reset = encoder.layers.iter().chain(&decoder.layers).flatten();
        let has_inner = of_reset.flat_map(|layer| &layer.inner).any(|&x| x != 0.0);
        let straight = model.starts.iter().enumerate().all(|(l, from)| *from == Some(l));
        let (layers, decoder_layers) = (encoder.layers.len(), decoder.layers.len());
        let architecture = Architecture {
            source_input,
            target_input,
            cell: match kind {
                Kind::Lstm => Cell::Lstm,
                Kind::GruAfter if has_inner => Cell::GruResetBias,
                Kind::GruAfter => Cell::Gru,
                Kind::GruBefore => Cell::GruResetBefore,
            },
            gate_activation: gate_activation(model, &saved.version)?,
            hidden,
            encoder_hidden: (outputs != hidden).then_some(outputs),
            layers,
            decoder_layers: (layers != decoder_layers).then_some(decoder_layers),
            hand_over: (layers != decoder_layers || !straight).then(|| model.starts.clone()),
            bidirectional: model.bidirectional,
            attention: match attention.as_ref().map(|attention| &attention.score) {
                None => AttentionScore::None,
                Some(ScoreTensors::Dot) => AttentionScore::Dot,
                Some(ScoreTensors::Scaled(_) | ScoreTensors::General(_)) => AttentionScore::General,
                Some(ScoreTensors::Additive(_)) => AttentionScore::Additive,
            },
            attention_bias: attention
                .iter()
                .flat_map(|attention| &attention.combine)
                .any(|combine| combine.bias.iter().any(|&x| x != 0.0)),
            attention_output: match &attention {
                Some(AttentionTensors { combine: None, .. }) => AttentionOutput::Concatenated,
                _ => AttentionOutput::Combined,
            },
            ..Architecture::default()
        };
        Ok(Self { architecture, source_rows, target_rows, encoder, decoder, attention, dense })
    }

    /// The parameters of `network`, whose ids stand for these rows of the model; none is a row of zeros.
    pub(super) fn parameters(
        &self,
        network: &Seq2Seq,
        source: &[Option<usize>],
        target: &[Option<usize>],
    ) -> Result<Parameters<f32>> {
        let outputs = rows::of_outputs(target);
        let cell = format!("{}_", self.architecture.cell.name());
        network.import(|name| {
            if let Some(name) = name.strip_prefix("decoder.dense.") {
                return Some(self.output(name == "bias", &outputs));
            }
            if let Some(name) = name.strip_prefix("decoder.attention.") {
                return self.attention(name);
            }
            let (side, name) = name.split_once('.')?;
            let (side, ids) =
                if side == "encoder" { (&self.encoder, source) } else { (&self.decoder, target) };
            if name == "embedding" {
                let array = side.embedding?;
                return Some(rows::embedding(&array.values, array.values.len() / array.shape[0], ids));
            }
            let (layer, name) = name.strip_prefix(&cell)?.split_once('.')?;
            let index: usize = layer.parse().ok()?;
            let (direction, name) = name.strip_prefix("reverse.").map_or((0, name), |name| (1, name));
            let layer = side.layers.get(index)?.get(direction)?;
            let one_hot = index == 0 && side.embedding.is_none();
            match name {
                "W" => {
                    let is_held = self.architecture.cell == Cell::GruResetBias;
                    Some(layer.w(one_hot.then_some(ids), is_held))
                }
                "R" => Some(layer.r()),
                "B" => Some(layer.b()),
                _ => None,
            }
        })
    }

    /// Weights or bias of the output layer.
    fn output(&self, is_bias: bool, outputs: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
        let Dense { kernel, bias } = &self.dense;
        let weight = self.turned(kernel);
        if is_bias { rows::output_bias(weight, bias, outputs) } else { rows::output_weight(weight, outputs) }
    }

    /// The rows of the layer that reads context and state, the context's first; all rows of another.
    fn turned<'k>(&self, kernel: &'k Array) -> impl Iterator<Item = &'k [f32]> + use<'k> {
        let (rows, columns) = (kernel.shape[0], kernel.shape[1]);
        let hidden = self.architecture.hidden;
        let first = match &self.attention {
            Some(attention) if !attention.context_first && rows > hidden => hidden,
            _ => 0,
        };
        (first..rows).chain(0..first).map(move |row| &kernel.values[row * columns..][..columns])
    }

    fn attention(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let attention = self.attention.as_ref()?;
        let (hidden, outputs) = (self.architecture.hidden, self.architecture.encoder_width());
        let diagonal = |x: f32, width: usize| {
            let values = (0..width * width).map(|at| if at % (width + 1) == 0 { x } else { 0.0 }).collect();
            (vec![width, width], values)
        };
        match (name, &attention.score) {
            ("key", ScoreTensors::Scaled(scale)) => Some(diagonal(*scale, hidden)),
            ("key", ScoreTensors::General(key)) => Some((vec![hidden, outputs], key.values.clone())),
            ("query" | "memory", ScoreTensors::Additive(_)) => Some(diagonal(1.0, hidden)),
            ("score", ScoreTensors::Additive(scale)) => Some((vec![hidden], scale.clone())),
            ("score_bias", ScoreTensors::Additive(_)) => Some((vec![hidden], vec![0.0; hidden])),
            ("combine", _) => {
                let kernel = attention.combine.as_ref()?.kernel;
                Some((kernel.shape.clone(), self.turned(kernel).flatten().copied().collect()))
            }
            ("combine_bias", _) => Some((vec![hidden], attention.combine.as_ref()?.bias.clone())),
            _ => None,
        }
    }
}

/// The form of the gates, which depends on the version where they are hard.
fn gate_activation(model: &Model, version: &str) -> Result<GateActivation> {
    if !model.cell.hard {
        return Ok(GateActivation::Sigmoid);
    }
    match version.split('.').next() {
        Some("1" | "2") => Ok(GateActivation::HardSigmoidFifth),
        Some("3") => Ok(GateActivation::HardSigmoidSixth),
        _ => Err(Error::new(
            ErrorKind::Data,
            "its gates are hard sigmoids, which are 0.2x + 0.5 in Keras 2 and x/6 + 0.5 in Keras 3, and the \
            file does not say which version saved it",
        )
        .help("save the whole model again with the version that trained it")),
    }
}

fn attention<'a>(
    model: &Attention,
    saved: &'a Saved,
    hidden: usize,
    outputs: usize,
) -> Result<AttentionTensors<'a>> {
    if outputs != hidden && !matches!(model.score, Score::General(_)) {
        let message =
            format!("attention compares encoder outputs of {outputs} units with decoder states of {hidden}");
        return Err(Error::new(ErrorKind::Data, message).help("both must be as wide"));
    }
    let score = match &model.score {
        Score::Dot => ScoreTensors::Dot,
        Score::Scaled(layer) => {
            let array = saved.array(layer, None, SCALE)?;
            fit(layer, "scale", array, &[])?;
            ScoreTensors::Scaled(array.values[0])
        }
        Score::General(layer) => {
            let (kernel, _) = matrix(saved, layer, None, KERNEL)?;
            fit(layer, "kernel", kernel, &[hidden, outputs])?;
            ScoreTensors::General(kernel)
        }
        Score::Additive(None) => ScoreTensors::Additive(vec![1.0; hidden]),
        Score::Additive(Some(layer)) => {
            let scale = saved.array(layer, None, SCALE)?;
            fit(layer, "scale", scale, &[hidden])?;
            ScoreTensors::Additive(scale.values.clone())
        }
    };
    let combine =
        model.combine.as_ref().map(|layer| dense(saved, layer, outputs + hidden, hidden)).transpose()?;
    Ok(AttentionTensors { score, combine, context_first: model.context_first })
}

fn dense<'a>(saved: &'a Saved, layer: &str, inputs: usize, outputs: usize) -> Result<Dense<'a>> {
    let (kernel, _) = matrix(saved, layer, None, KERNEL)?;
    fit(layer, "kernel", kernel, &[inputs, outputs])?;
    let bias = bias(saved, layer, None, DENSE_BIAS, &[outputs])?;
    Ok(Dense { kernel, bias })
}

/// The arrays of one side, whose layers have so many units a direction.
fn side<'a>(
    side: &Side,
    saved: &'a Saved,
    directions: &[Option<Direction>],
    kind: Kind,
    hidden: usize,
) -> Result<(SideTensors<'a>, usize, InputForm)> {
    let embedding = side.embedding.as_ref().map(|name| matrix(saved, name, None, EMBEDDING)).transpose()?;
    let mut layers = Vec::new();
    let mut rows = 0;
    for (index, name) in side.layers.iter().enumerate() {
        let mut both = Vec::new();
        for &direction in directions {
            let (kernel, [inputs, _]) = matrix(saved, name, direction, KERNEL)?;
            let width = match (index, &embedding) {
                (0, None) if both.is_empty() => inputs,
                (0, None) => rows,
                (0, Some((_, [_, width]))) => *width,
                _ => hidden * directions.len(),
            };
            if index == 0 {
                rows = embedding.as_ref().map_or(width, |(_, [rows, _])| *rows);
            }
            let gates = hidden * if kind == Kind::Lstm { 4 } else { 3 };
            fit(name, "kernel", kernel, &[width, gates])?;
            let (recurrent, _) = matrix(saved, name, direction, RECURRENT)?;
            fit(name, "recurrent_kernel", recurrent, &[hidden, gates])?;
            both.push(Recurrent::new(saved, name, direction, kind, kernel, recurrent)?);
        }
        layers.push(both);
    }
    let form = embedding.as_ref().map_or(InputForm::OneHot, |(_, [_, width])| InputForm::Embedding(*width));
    Ok((SideTensors { embedding: embedding.map(|(array, _)| array), layers }, rows, form))
}

/// The bias of a layer; zeros where it has none (`use_bias=False`).
fn bias(
    saved: &Saved,
    layer: &str,
    direction: Option<Direction>,
    name: ArrayName,
    shape: &[usize],
) -> Result<Vec<f32>> {
    if !saved.has(layer, direction, name) {
        return Ok(vec![0.0; shape.iter().product()]);
    }
    let array = saved.array(layer, direction, name)?;
    fit(layer, "bias", array, shape)?;
    Ok(array.values.clone())
}

impl<'a> Recurrent<'a> {
    /// The arrays of one direction of a layer; the shapes of both kernels are checked.
    fn new(
        saved: &Saved,
        name: &str,
        direction: Option<Direction>,
        kind: Kind,
        kernel: &'a Array,
        recurrent: &'a Array,
    ) -> Result<Self> {
        let gates = recurrent.shape[1];
        if kind != Kind::GruAfter {
            let bias = bias(saved, name, direction, BIAS, &[gates])?;
            return Ok(Self { kind, kernel, recurrent, bias, inner: Vec::new() });
        }
        let both = bias(saved, name, direction, BIAS, &[2, gates])?;
        let (own, inner) = both.split_at(gates);
        let (gated, candidate) = inner.split_at(2 * gates / 3);
        let sum = own.iter().zip(gated.iter().copied().chain(std::iter::repeat(0.0))).map(|(a, b)| a + b);
        Ok(Self { kind, kernel, recurrent, bias: sum.collect(), inner: candidate.to_vec() })
    }

    /// Keras's column of each of our gates, in our order.
    fn columns(&self) -> impl Iterator<Item = usize> + use<> {
        let (order, hidden): (&[usize], usize) = match self.kind {
            Kind::Lstm => (&[0, 3, 1, 2], self.bias.len() / 4),
            Kind::GruAfter | Kind::GruBefore => (&[0, 1, 2], self.bias.len() / 3),
        };
        order.iter().flat_map(move |gate| gate * hidden..(gate + 1) * hidden)
    }

    /// W (1, gates, inputs + 1): the kernel transposed, its bias behind; `rows` picks the inputs, else all in
    /// order. With `is_held` there is one more column, which the network fills itself.
    fn w(&self, rows: Option<&[Option<usize>]>, is_held: bool) -> (Vec<usize>, Vec<f32>) {
        let gates = self.bias.len();
        let inputs: Vec<Option<usize>> = match rows {
            // PAD's row is zero, as for an embedding.
            Some(rows) => rows.iter().enumerate().map(|(id, at)| at.filter(|_| id > 0)).collect(),
            None => (0..self.kernel.shape[0]).map(Some).collect(),
        };
        let columns = inputs.len() + 1 + usize::from(is_held);
        let mut values = Vec::with_capacity(gates * columns);
        for gate in self.columns() {
            values.extend(inputs.iter().map(|at| at.map_or(0.0, |at| self.kernel.values[at * gates + gate])));
            values.push(self.bias[gate]);
            values.extend(is_held.then_some(0.0));
        }
        (vec![1, gates, columns], values)
    }

    /// R (1, gates, hidden): the recurrent kernel transposed.
    fn r(&self) -> (Vec<usize>, Vec<f32>) {
        let (hidden, gates) = (self.recurrent.shape[0], self.bias.len());
        let column = |gate| (0..hidden).map(move |at| self.recurrent.values[at * gates + gate]);
        (vec![1, gates, hidden], self.columns().flat_map(column).collect())
    }

    /// B (1, 2 gates): zeros, and behind them that of the candidate within the reset product.
    fn b(&self) -> (Vec<usize>, Vec<f32>) {
        let all = 2 * self.bias.len();
        let mut values = vec![0.0; all - self.inner.len()];
        values.extend_from_slice(&self.inner);
        (vec![1, all], values)
    }
}
