//! [`Engine`] over two [`Graph`]s, wired as the manifest says.

use std::sync::Arc;

use super::graph::{DataView, Graph, Tensor, TensorView};
use super::{DecoderState, Engine, IdMatrix, StateTensor, StepOutput};
use crate::bundle::Bundle;
use crate::contract::PAD;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{Dimension, TensorInfo};
use crate::manifest::{Io, OutputForm, Role};

/// The logarithm of a probability that came out as zero.
const LEAST_PROBABILITY: f32 = f32::MIN_POSITIVE;

/// An encoder and a decoder graph, run by any engine.
pub struct OnnxEngine {
    name: &'static str,
    encoder: Box<dyn Graph>,
    decoder: Box<dyn Graph>,
    plan: Arc<Plan>,
    /// One-hot rows of the tokens at hand; empty with ids.
    one_hot: Vec<f32>,
    /// Shapes of the decoder's inputs, token first; the batch is written in at each step.
    shapes: Vec<Vec<usize>>,
    outputs: Vec<Tensor>,
}

/// What the manifest and the graphs' outsides say, resolved once.
struct Plan {
    io: Io,
    output: OutputForm,
    source_vocabulary: usize,
    target_vocabulary: usize,
    /// Axes of the decoder's ids: (batch, 1) or (batch).
    token_rank: usize,
    /// Recurrent states first, then memory.
    tensors: Vec<Wire>,
    recurrent: usize,
    attention: bool,
    names: Names,
}

/// For errors.
struct Names {
    encoder: String,
    decoder: String,
}

/// Where the batch lies in one state or memory tensor; foreign graphs may put layers before it.
struct Wire {
    name: String,
    encoder_axis: usize,
    input_axis: usize,
    output_axis: usize,
}

impl OnnxEngine {
    /// Loads encoder and decoder of `bundle` with `load`: (graph name, ONNX bytes, inputs, outputs).
    ///
    /// - `name`: what [`Engine::name`] says.
    ///
    /// # Errors
    /// What `load` gives.
    pub fn new(
        name: &'static str,
        bundle: &Bundle,
        load: impl Fn(&str, &[u8], &[&str], &[&str]) -> Result<Box<dyn Graph>>,
    ) -> Result<Self> {
        let (manifest, wiring) = (bundle.manifest(), &bundle.manifest().wiring);
        let (encoder, decoder) = (bundle.graph_info(Role::Encoder)?, bundle.graph_info(Role::Decoder)?);
        let encoder_batch = batch_symbol(encoder.input(&wiring.encoder_input));
        let decoder_batch = batch_symbol(decoder.input(&wiring.decoder_input));
        let states = wiring
            .states
            .iter()
            .map(|wire| (&wire.encoder_output, &wire.decoder_input, Some(&wire.decoder_output)));
        let memory = wiring.memory.iter().map(|wire| (&wire.encoder_output, &wire.decoder_input, None));
        let wires = states.chain(memory).map(|(from, to, next)| Wire {
            name: from.clone(),
            encoder_axis: batch_axis(encoder.output(from), encoder_batch),
            input_axis: batch_axis(decoder.input(to), decoder_batch),
            output_axis: next.map_or(0, |next| batch_axis(decoder.output(next), decoder_batch)),
        });
        let token_rank =
            decoder.input(&wiring.decoder_input).and_then(|info| info.shape.as_ref()).map_or(2, Vec::len);
        let one_hot = usize::from(manifest.io == Io::OneHot);
        if !(1 + one_hot..=2 + one_hot).contains(&token_rank) {
            let message = format!(
                "{token_rank} axes; (batch, 1) or (batch) is expected, and the vocabulary after it with one-hot tensors"
            );
            return Err(Error::new(ErrorKind::Bundle, message)
                .in_graph(bundle.graph_name(Role::Decoder), Some(&wiring.decoder_input)));
        }
        let plan = Plan {
            io: manifest.io,
            output: wiring.output,
            source_vocabulary: manifest.source.symbols.len(),
            target_vocabulary: manifest.target.symbols.len(),
            token_rank: token_rank - one_hot,
            tensors: wires.collect(),
            recurrent: wiring.states.len(),
            attention: wiring.attention.is_some(),
            names: Names {
                encoder: bundle.graph_name(Role::Encoder).to_owned(),
                decoder: bundle.graph_name(Role::Decoder).to_owned(),
            },
        };
        let encoder = load(
            &plan.names.encoder,
            bundle.graph(Role::Encoder)?,
            &[&wiring.encoder_input],
            &wiring.encoder_outputs(),
        )?;
        let decoder = load(
            &plan.names.decoder,
            bundle.graph(Role::Decoder)?,
            &wiring.decoder_inputs(),
            &wiring.decoder_outputs(),
        )?;
        Ok(Self::with(name, encoder, decoder, Arc::new(plan)))
    }

    fn with(name: &'static str, encoder: Box<dyn Graph>, decoder: Box<dyn Graph>, plan: Arc<Plan>) -> Self {
        let shapes = vec![vec![]; plan.tensors.len() + 1];
        Self { name, encoder, decoder, plan, one_hot: vec![], shapes, outputs: vec![] }
    }
}

/// The symbol of the first axis.
fn batch_symbol(tensor: Option<&TensorInfo>) -> Option<&str> {
    match tensor?.shape.as_ref()?.first()? {
        Dimension::Symbol(symbol) => Some(symbol),
        Dimension::Fixed(_) | Dimension::Unknown => None,
    }
}

/// The axis that is called as the batch is; the first if none is.
fn batch_axis(tensor: Option<&TensorInfo>, batch: Option<&str>) -> usize {
    let shape = tensor.and_then(|tensor| tensor.shape.as_deref()).unwrap_or_default();
    let named =
        |axis: &Dimension| matches!(axis, Dimension::Symbol(symbol) if Some(symbol.as_str()) == batch);
    shape.iter().position(named).unwrap_or(0)
}

/// Moves `axis` to the front, in place of where it was.
fn to_front(data: &mut Vec<f32>, shape: &[usize], axis: usize) {
    let (outer, rows): (usize, usize) = (shape[..axis].iter().product(), shape[axis]);
    if outer > 1 && rows > 1 {
        transpose(data, outer, rows, shape[axis + 1..].iter().product());
    }
}

/// (a, b, inner) to (b, a, inner).
fn transpose(data: &mut Vec<f32>, a: usize, b: usize, inner: usize) {
    let block = |i: usize, j: usize| (i * b + j) * inner;
    *data = (0..b)
        .flat_map(|j| (0..a).flat_map(move |i| block(i, j)..block(i, j) + inner))
        .map(|at| data[at])
        .collect();
}

fn check_ids(ids: &[i64], symbols: usize, graph: &str) -> Result<()> {
    // Unsigned, so that one comparison finds negative ids too.
    if let Some(&id) = ids.iter().find(|&&id| id as u64 >= symbols as u64) {
        return Err(Error::new(
            ErrorKind::Input,
            format!("id {id}, but the vocabulary has the ids 0 to {}", symbols - 1),
        )
        .in_graph(graph, None));
    }
    Ok(())
}

/// Rows of zeros with a 1 at the id; PAD stays all zero.
fn fill_one_hot(ids: &[i64], width: usize, rows: &mut Vec<f32>) {
    rows.clear();
    rows.resize(ids.len() * width, 0.0);
    for (row, &id) in rows.chunks_exact_mut(width).zip(ids) {
        if id != i64::from(PAD) {
            row[id as usize] = 1.0;
        }
    }
}

impl Engine for OnnxEngine {
    fn name(&self) -> &str {
        self.name
    }

    fn target_vocabulary(&self) -> usize {
        self.plan.target_vocabulary
    }

    fn encode(&mut self, source: &IdMatrix) -> Result<DecoderState> {
        let plan = Arc::clone(&self.plan);
        let &IdMatrix { rows, columns, ref data } = source;
        if rows == 0 || columns == 0 || data.len() != rows * columns {
            let message = format!(
                "{} ids given for {rows} rows of {columns}; at least one of each is needed",
                data.len()
            );
            return Err(Error::new(ErrorKind::Input, message).in_graph(&plan.names.encoder, None));
        }
        check_ids(data, plan.source_vocabulary, &plan.names.encoder)?;
        match plan.io {
            Io::Ids => self.encoder.run(
                &[TensorView { shape: &[rows, columns], data: DataView::I64(data) }],
                &mut self.outputs,
            )?,
            Io::OneHot => {
                fill_one_hot(data, plan.source_vocabulary, &mut self.one_hot);
                let shape = [rows, columns, plan.source_vocabulary];
                self.encoder.run(
                    &[TensorView { shape: &shape, data: DataView::F32(&self.one_hot) }],
                    &mut self.outputs,
                )?;
            }
        }
        let mut tensors =
            plan.tensors.iter().zip(self.outputs.drain(..)).map(|(wire, Tensor { shape, mut data })| {
                if shape.get(wire.encoder_axis) != Some(&rows) {
                    let message = format!(
                        "shape {shape:?} where axis {} should be the batch of {rows}",
                        wire.encoder_axis
                    );
                    return Err(Error::new(ErrorKind::Engine, message)
                        .in_graph(&plan.names.encoder, Some(&wire.name)));
                }
                to_front(&mut data, &shape, wire.encoder_axis);
                let mut row_shape = shape;
                row_shape.remove(wire.encoder_axis);
                Ok(StateTensor { row_shape, data })
            });
        let recurrent = tensors.by_ref().take(plan.recurrent).collect::<Result<_>>()?;
        let memory = tensors.collect::<Result<_>>()?;
        Ok(DecoderState { batch: rows, recurrent, memory })
    }

    fn step(&mut self, tokens: &[i64], state: &mut DecoderState, output: &mut StepOutput) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        let batch = state.batch;
        let count = state.recurrent.len();
        if tokens.len() != batch
            || batch == 0
            || count != plan.recurrent
            || count + state.memory.len() != plan.tensors.len()
        {
            let message = format!(
                "{} tokens and {count} states given for a batch of {batch} and {} states",
                tokens.len(),
                plan.recurrent
            );
            return Err(Error::new(ErrorKind::Input, message).in_graph(&plan.names.decoder, None));
        }
        check_ids(tokens, plan.target_vocabulary, &plan.names.decoder)?;

        for (wire, tensor) in plan.tensors.iter().zip(state.recurrent.iter().chain(&state.memory)) {
            if tensor.data.len() != batch * tensor.row_len() {
                let message =
                    format!("{} values given for {batch} rows of {:?}", tensor.data.len(), tensor.row_shape);
                return Err(
                    Error::new(ErrorKind::Input, message).in_graph(&plan.names.decoder, Some(&wire.name))
                );
            }
        }

        // A foreign graph may want layers before the batch; ours never does.
        for (wire, tensor) in plan.tensors.iter().zip(state.recurrent.iter_mut().chain(&mut state.memory)) {
            let outer: usize = tensor.row_shape.iter().take(wire.input_axis).product();
            if wire.input_axis > 0 && outer > 1 && batch > 1 {
                let inner = tensor.row_len() / outer;
                transpose(&mut tensor.data, batch, outer, inner);
            }
        }
        let width = plan.target_vocabulary;
        let (token_shape, tensor_shapes) = self.shapes.split_at_mut(1);
        token_shape[0].clear();
        token_shape[0].extend_from_slice(&[batch, 1][..plan.token_rank]);
        let token_data = match plan.io {
            Io::Ids => DataView::I64(tokens),
            Io::OneHot => {
                token_shape[0].push(width);
                fill_one_hot(tokens, width, &mut self.one_hot);
                DataView::F32(&self.one_hot)
            }
        };
        let tensors = state.recurrent.iter().chain(&state.memory);
        for ((wire, tensor), shape) in plan.tensors.iter().zip(tensors.clone()).zip(tensor_shapes.iter_mut())
        {
            shape.clear();
            shape.extend_from_slice(&tensor.row_shape);
            shape.insert(wire.input_axis.min(shape.len()), batch);
        }
        let mut inputs = Vec::with_capacity(plan.tensors.len() + 1);
        inputs.push(TensorView { shape: &token_shape[0], data: token_data });
        inputs.extend(
            tensors
                .zip(tensor_shapes.iter())
                .map(|(tensor, shape)| TensorView { shape, data: DataView::F32(&tensor.data) }),
        );
        self.decoder.run(&inputs, &mut self.outputs)?;
        drop(inputs);

        // Buffers change hands instead of being copied: what the loop has read becomes the next call's space.
        let (logits, rest) =
            self.outputs.split_first_mut().unwrap_or_else(|| unreachable!("decoders have an output"));
        if logits.data.len() != batch * width {
            let message = format!("shape {:?}; {batch} rows of {width} are expected", logits.shape);
            return Err(Error::new(ErrorKind::Engine, message).in_graph(&plan.names.decoder, None));
        }
        std::mem::swap(&mut output.logits, &mut logits.data);
        if plan.output == OutputForm::Probabilities {
            output.logits.iter_mut().for_each(|p| *p = p.max(LEAST_PROBABILITY).ln());
        }
        for ((wire, tensor), next) in plan.tensors.iter().zip(&mut state.recurrent).zip(rest.iter_mut()) {
            if next.data.len() != tensor.data.len() || next.shape.get(wire.output_axis) != Some(&batch) {
                let message = format!(
                    "the next value of {} has shape {:?}, the one before had rows of {:?}",
                    wire.name, next.shape, tensor.row_shape
                );
                return Err(Error::new(ErrorKind::Engine, message).in_graph(&plan.names.decoder, None));
            }
            to_front(&mut next.data, &next.shape, wire.output_axis);
            std::mem::swap(&mut tensor.data, &mut next.data);
        }
        // Memory goes back to the order that the loop knows.
        for (wire, tensor) in plan.tensors[plan.recurrent..].iter().zip(&mut state.memory) {
            let outer: usize = tensor.row_shape.iter().take(wire.input_axis).product();
            if wire.input_axis > 0 && outer > 1 && batch > 1 {
                let inner = tensor.row_len() / outer;
                transpose(&mut tensor.data, outer, batch, inner);
            }
        }
        output.attention.clear();
        if plan.attention {
            std::mem::swap(&mut output.attention, &mut rest[plan.recurrent].data);
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Self::with(
            self.name,
            self.encoder.fork()?,
            self.decoder.fork()?,
            Arc::clone(&self.plan),
        )))
    }
}
