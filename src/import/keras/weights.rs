//! Keras's arrays as our parameters: gates i, f, c, o become i, o, f, c, the bias the last column of W, rows
//! follow our ids.

use s2s_runtime::contract::{END, START};

use super::file::Saved;
use super::graph::{Model, Side};
use super::hdf5::Array;
use crate::error::{Error, ErrorKind, Result};
use crate::network::{InputForm, Network, Parameters, Seq2Seq};

/// Where each of our gates i, o, f, c lies among Keras's i, f, c, o.
const GATES: [usize; 4] = [0, 3, 1, 2];
/// A symbol that the model does not have gets a logit lower than any that it can give, by so many nats: its
/// probability is below 2e-9 of the least likely one.
const MARGIN: f32 = 20.0;

/// The arrays of a model, in their places.
pub(super) struct Tensors<'a> {
    pub(super) hidden: usize,
    pub(super) source_rows: usize,
    pub(super) target_rows: usize,
    pub(super) source_input: InputForm,
    pub(super) target_input: InputForm,
    encoder: SideTensors<'a>,
    decoder: SideTensors<'a>,
    dense: (&'a Array, Vec<f32>),
}

struct SideTensors<'a> {
    embedding: Option<&'a Array>,
    layers: Vec<Lstm<'a>>,
}

struct Lstm<'a> {
    kernel: &'a Array,
    recurrent: &'a Array,
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
fn matrix<'a>(saved: &'a Saved, layer: &str, order: &[&str], name: &str) -> Result<(&'a Array, [usize; 2])> {
    let array = saved.array(layer, order, name)?;
    match array.shape[..] {
        [rows, columns] if rows > 0 && columns > 0 => Ok((array, [rows, columns])),
        _ => Err(Error::new(
            ErrorKind::Data,
            format!("{name} of layer {layer:?} has shape {:?}, not two axes", array.shape),
        )),
    }
}

impl<'a> Tensors<'a> {
    /// Looks all arrays up and checks their shapes.
    pub(super) fn gather(model: &Model, saved: &'a Saved) -> Result<Self> {
        let hidden = match model.encoder.layers.first() {
            Some(layer) => matrix(saved, layer, &LSTM, "recurrent_kernel")?.1[0],
            None => 0,
        };
        let (encoder, source_rows, source_input) = side(&model.encoder, saved, hidden)?;
        let (decoder, target_rows, target_input) = side(&model.decoder, saved, hidden)?;
        let (kernel, [_, outputs]) = matrix(saved, &model.dense, &DENSE, "kernel")?;
        fit(&model.dense, "kernel", kernel, &[hidden, target_rows])?;
        let bias = bias(saved, &model.dense, &DENSE, outputs)?;
        Ok(Self {
            hidden,
            source_rows,
            target_rows,
            source_input,
            target_input,
            encoder,
            decoder,
            dense: (kernel, bias),
        })
    }

    /// The parameters of `network`, whose ids stand for these rows of the model; none is a row of zeros.
    pub(super) fn parameters(
        &self,
        network: &Seq2Seq,
        source: &[Option<usize>],
        target: &[Option<usize>],
    ) -> Result<Parameters<f32>> {
        // Where one symbol both starts and ends targets, the model has one probability for it: that of END.
        let mut outputs = target.to_vec();
        let [start, end] = [START, END].map(|id| id as usize);
        if outputs[start] == outputs[end] {
            outputs[start] = None;
        }
        network.import(|name| {
            if let Some(name) = name.strip_prefix("decoder.dense.") {
                return Some(self.dense(name == "bias", &outputs));
            }
            let (side, name) = name.split_once('.')?;
            let (side, rows) =
                if side == "encoder" { (&self.encoder, source) } else { (&self.decoder, target) };
            if name == "embedding" {
                return Some(embedding(side.embedding?, rows));
            }
            let (layer, name) = name.strip_prefix("lstm_")?.split_once('.')?;
            let index: usize = layer.parse().ok()?;
            let lstm = side.layers.get(index)?;
            let one_hot = index == 0 && side.embedding.is_none();
            Some(if name == "R" { lstm.r() } else { lstm.w(one_hot.then_some(rows)) })
        })
    }

    fn dense(&self, is_bias: bool, rows: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
        let (kernel, bias) = &self.dense;
        let outputs = bias.len();
        if !is_bias {
            let row = |row: &'a [f32]| rows.iter().map(move |at| at.map_or(0.0, |at| row[at]));
            let values = kernel.values.chunks_exact(outputs).flat_map(row).collect();
            return (vec![self.hidden, rows.len()], values);
        }
        // |h| < 1, so that no logit is lower than its bias less the sum of its weights.
        let least = |at: usize| {
            bias[at] - kernel.values.iter().skip(at).step_by(outputs).map(|w| w.abs()).sum::<f32>()
        };
        let lowest = (0..outputs).map(least).fold(f32::INFINITY, f32::min) - MARGIN;
        (vec![rows.len()], rows.iter().map(|at| at.map_or(lowest, |at| bias[at])).collect())
    }
}

const LSTM: [&str; 3] = ["kernel", "recurrent_kernel", "bias"];
const DENSE: [&str; 2] = ["kernel", "bias"];
const EMBEDDING: [&str; 1] = ["embeddings"];

fn side<'a>(side: &Side, saved: &'a Saved, hidden: usize) -> Result<(SideTensors<'a>, usize, InputForm)> {
    let embedding =
        side.embedding.as_ref().map(|name| matrix(saved, name, &EMBEDDING, "embeddings")).transpose()?;
    let mut layers: Vec<Lstm<'a>> = Vec::new();
    let mut rows = 0;
    for (index, name) in side.layers.iter().enumerate() {
        let (kernel, [inputs, _]) = matrix(saved, name, &LSTM, "kernel")?;
        let width = match (index, &embedding) {
            (0, None) => inputs,
            (0, Some((_, [_, width]))) => *width,
            _ => hidden,
        };
        if index == 0 {
            rows = embedding.as_ref().map_or(inputs, |(_, [rows, _])| *rows);
        }
        fit(name, "kernel", kernel, &[width, 4 * hidden])?;
        let (recurrent, _) = matrix(saved, name, &LSTM, "recurrent_kernel")?;
        fit(name, "recurrent_kernel", recurrent, &[hidden, 4 * hidden])?;
        layers.push(Lstm { kernel, recurrent, bias: bias(saved, name, &LSTM, 4 * hidden)? });
    }
    let form = embedding.as_ref().map_or(InputForm::OneHot, |(_, [_, width])| InputForm::Embedding(*width));
    Ok((SideTensors { embedding: embedding.map(|(array, _)| array), layers }, rows, form))
}

/// The bias of a layer; zeros where it has none (`use_bias=False`).
fn bias(saved: &Saved, layer: &str, order: &[&str], length: usize) -> Result<Vec<f32>> {
    match saved.array(layer, order, "bias") {
        Ok(array) => {
            fit(layer, "bias", array, &[length])?;
            Ok(array.values.clone())
        }
        Err(error) if saved.has(layer, order, "bias") => Err(error),
        Err(_) => Ok(vec![0.0; length]),
    }
}

/// The rows of an embedding; the row of PAD is zero whatever the model has there, because the graphs never
/// read it.
fn embedding(array: &Array, rows: &[Option<usize>]) -> (Vec<usize>, Vec<f32>) {
    let width = array.values.len() / array.shape[0];
    let row = |(id, at): (usize, &Option<usize>)| match at {
        Some(at) if id > 0 => array.values[at * width..][..width].to_vec(),
        _ => vec![0.0; width],
    };
    (vec![rows.len(), width], rows.iter().enumerate().flat_map(row).collect())
}

impl Lstm<'_> {
    /// W (1, gates, inputs + 1): the kernel transposed, its bias behind; `rows` picks the inputs, else all in
    /// order.
    fn w(&self, rows: Option<&[Option<usize>]>) -> (Vec<usize>, Vec<f32>) {
        let gates = self.bias.len();
        let inputs: Vec<Option<usize>> = match rows {
            // PAD's row is zero, as for an embedding.
            Some(rows) => rows.iter().enumerate().map(|(id, at)| at.filter(|_| id > 0)).collect(),
            None => (0..self.kernel.shape[0]).map(Some).collect(),
        };
        let mut values = Vec::with_capacity(gates * (inputs.len() + 1));
        for gate in keras_gates(gates) {
            values.extend(inputs.iter().map(|at| at.map_or(0.0, |at| self.kernel.values[at * gates + gate])));
            values.push(self.bias[gate]);
        }
        (vec![1, gates, inputs.len() + 1], values)
    }

    /// R (1, gates, hidden): the recurrent kernel transposed.
    fn r(&self) -> (Vec<usize>, Vec<f32>) {
        let gates = self.bias.len();
        let hidden = gates / 4;
        let values = keras_gates(gates)
            .flat_map(|gate| (0..hidden).map(move |at| self.recurrent.values[at * gates + gate]))
            .collect();
        (vec![1, gates, hidden], values)
    }
}

/// Keras's column of each of our gates, in our order.
fn keras_gates(gates: usize) -> impl Iterator<Item = usize> {
    let hidden = gates / 4;
    GATES.into_iter().flat_map(move |gate| gate * hidden..(gate + 1) * hidden)
}
