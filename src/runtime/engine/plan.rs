//! What the manifest and the outsides of the graphs say together, resolved once for all calls.

use std::sync::Arc;

use super::interface::Joins;
use super::state::{Carried, Kind};
use crate::bundle::Bundle;
use crate::contract::SpecialIds;
use crate::error::{Error, ErrorKind, Result};
use crate::graph_info::{Dimension, FLOAT, GraphInfo, INT64, TensorInfo};
use crate::manifest::{Io, MaskWire, MaskedOne, OutputForm, Role, StateWire};
use crate::vocabulary::{Padding, PaddingSide};

/// How the two graphs of a bundle are called.
pub(super) struct Plan {
    pub(super) io: Io,
    pub(super) output: OutputForm,
    pub(super) source_vocabulary: usize,
    pub(super) target_vocabulary: usize,
    pub(super) special: SpecialIds,
    /// Where sources are filled up, and what stands around each of them.
    pub(super) side: PaddingSide,
    pub(super) before: Option<i64>,
    pub(super) behind: Option<i64>,
    /// Symbols that the encoder's graph puts behind every source by itself: its memory is as much longer.
    pub(super) graph_behind: usize,
    /// ONNX's numbers of the element types of ids.
    pub(super) source_type: i32,
    /// Columns of every source, where the graph fixes them.
    pub(super) source_columns: Option<usize>,
    pub(super) token_type: i32,
    /// Axes of the decoder's ids: (batch, 1) or (batch).
    pub(super) token_rank: usize,
    /// The decoder reads all tokens so far, not the last one.
    pub(super) prefix: Option<Prefix>,
    pub(super) encoder_mask: Option<Mask>,
    /// How the encoder is told the lengths of its sources: element type and axes.
    pub(super) encoder_lengths: Option<(i32, usize)>,
    pub(super) decoder_mask: Option<Mask>,
    /// States first, then memory.
    pub(super) carried: Arc<[Carried]>,
    pub(super) wires: Vec<Wire>,
    pub(super) states: usize,
    pub(super) attention: bool,
    /// The decoder was exported for one row.
    pub(super) one_row: bool,
    /// For errors.
    pub(super) encoder: String,
    pub(super) decoder: String,
}

/// Where a carried tensor comes from.
pub(super) struct Wire {
    pub(super) first: First,
    /// The axis of the rows in the decoder's output.
    pub(super) output_axis: usize,
}

/// What a carried tensor is before the first step.
pub(super) enum First {
    /// An output of the encoder, and its axis of rows.
    Encoder { output: usize, axis: usize },
    /// Zeros, or nothing, with these axes of a row.
    Zeros(Vec<usize>),
}

/// How a decoder without states is fed.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    /// Tokens that it always reads; as many as there are unless the graph fixes them.
    pub(super) columns: Option<usize>,
    /// Its scores are those behind the last column alone.
    pub(super) last_alone: bool,
}

/// A mask that a graph reads.
pub(super) struct Mask {
    pub(super) element_type: i32,
    /// What it has at a token and at padding.
    pub(super) values: [i64; 2],
}

impl Plan {
    /// # Errors
    /// [`ErrorKind::Bundle`] naming the graph and the tensor that does not fit the manifest.
    pub(super) fn of(bundle: &Bundle) -> Result<Self> {
        let (manifest, wiring) = (bundle.manifest(), &bundle.manifest().wiring);
        let (encoder, decoder) = (bundle.graph_info(Role::Encoder)?, bundle.graph_info(Role::Decoder)?);
        let names = [Role::Encoder, Role::Decoder].map(|role| bundle.graph_name(role));
        let source = encoder.input(&wiring.encoder_input);
        let token = decoder.input(&wiring.decoder_input);
        let batches = [batch_symbol(source), batch_symbol(token)];
        let one_row = [source, token].map(|tensor| fixed_length(tensor, 0) == Some(1));
        let outputs = wiring.encoder_outputs();
        let from_encoder = |name: &str| First::Encoder {
            output: outputs.iter().position(|output| *output == name).unwrap_or(0),
            axis: batch_axis(encoder.output(name), batches[0], one_row[0]),
        };
        let (mut carried, mut wires) = (Vec::new(), Vec::new());
        for wire in &wiring.states {
            let input = decoder.input(&wire.decoder_input);
            let batch = batch_axis(input, batches[1], one_row[1]);
            let first = match wire.zeros.as_ref().or(wire.empty.as_ref()) {
                Some(row) => First::Zeros(row.clone()),
                None => from_encoder(&wire.encoder_output),
            };
            check_state(wire, input, batch)
                .map_err(|error| error.in_graph(names[1], Some(&wire.decoder_input)))?;
            let kind = wire.grows.map_or(Kind::Fixed, |axis| Kind::Growing { axis });
            carried.push(Carried { name: state_name(wire).to_owned(), kind, batch, own_time: false });
            wires.push(Wire {
                first,
                output_axis: batch_axis(decoder.output(&wire.decoder_output), batches[1], one_row[1]),
            });
        }
        for wire in &wiring.memory {
            let batch = batch_axis(decoder.input(&wire.decoder_input), batches[1], one_row[1]);
            let first = from_encoder(&wire.encoder_output);
            let First::Encoder { axis, .. } = first else { continue };
            let given = encoder.output(&wire.encoder_output).and_then(|info| info.shape.as_deref());
            let time = time_axis(given, axis, source);
            let (name, kind) = (wire.encoder_output.clone(), Kind::Memory { time });
            carried.push(Carried { name, kind, batch, own_time: false });
            wires.push(Wire { first, output_axis: 0 });
        }
        for (key, id) in [("source_start", wiring.source_start), ("source_end", wiring.source_end)] {
            let symbols = bundle.source().size();
            if let Some(id) = id.filter(|&id| id as usize >= symbols) {
                let message =
                    format!("wiring.{key}: id {id}, but the source vocabulary has {symbols} symbols");
                return Err(
                    Error::new(ErrorKind::Bundle, message).in_graph(names[0], Some(&wiring.encoder_input))
                );
            }
        }
        let token_rank = token.and_then(|info| info.shape.as_ref()).map_or(2, Vec::len);
        let one_hot = usize::from(manifest.io == Io::OneHot);
        if !(1 + one_hot..=2 + one_hot).contains(&token_rank) {
            let message = format!(
                "{token_rank} axes; (batch, 1) or (batch) is expected, and the vocabulary after it with \
                 one-hot tensors"
            );
            return Err(
                Error::new(ErrorKind::Bundle, message).in_graph(names[1], Some(&wiring.decoder_input))
            );
        }
        let prefix = wiring.decoder_prefix.then(|| Prefix::of(token, decoder.output(&wiring.decoder_output)));
        if prefix.is_some() && token_rank != 2 + one_hot {
            let message = format!("{token_rank} axes; a prefix has (batch, target_time)");
            return Err(
                Error::new(ErrorKind::Bundle, message).in_graph(names[1], Some(&wiring.decoder_input))
            );
        }
        let lengths = wiring.encoder_lengths.as_ref().map(|name| encoder.input(name));
        Ok(Self {
            io: manifest.io,
            output: wiring.output,
            source_vocabulary: bundle.source().size(),
            target_vocabulary: bundle.target().size(),
            special: manifest.special_ids,
            side: wiring.source_padding.unwrap_or(PaddingSide::Left),
            before: wiring.source_start.map(i64::from),
            behind: wiring.source_end.map(i64::from),
            graph_behind: bundle.source().spec().graph_padding.as_ref().map_or(0, Padding::even),
            source_type: element_type(source),
            source_columns: fixed_length(source, 1),
            token_type: element_type(token),
            token_rank: token_rank - one_hot,
            prefix,
            encoder_lengths: lengths.map(|input| {
                let rank = input.and_then(|info| info.shape.as_ref()).map_or(1, Vec::len);
                (element_type(input), rank.clamp(1, 2))
            }),
            encoder_mask: wiring.encoder_mask.as_ref().map(|wire| Mask::of(wire, encoder)),
            decoder_mask: wiring.decoder_mask.as_ref().map(|wire| Mask::of(wire, decoder)),
            carried: carried.into(),
            wires,
            states: wiring.states.len(),
            attention: wiring.attention.is_some(),
            one_row: one_row[1],
            encoder: names[0].to_owned(),
            decoder: names[1].to_owned(),
        })
    }

    /// Which rows may run side by side: a decoder that appends to its state reads all of it as its row's own.
    pub(super) fn joins(&self) -> Joins {
        let grows = |carried: &Carried| matches!(carried.kind, Kind::Growing { .. });
        if self.carried.iter().any(grows) { Joins::SameAge } else { Joins::AnyAge }
    }
}

impl Plan {
    /// The axes of the rows in the decoder's inputs and outputs, in the order in which they are fed and read.
    pub(super) fn decoder_axes(&self) -> (Vec<usize>, Vec<usize>) {
        let carried = self.carried.iter().map(|carried| carried.batch);
        let inputs = std::iter::once(0).chain(carried).chain(self.decoder_mask.iter().map(|_| 0));
        let states = self.wires.iter().take(self.states).map(|wire| wire.output_axis);
        let outputs = std::iter::once(0).chain(states).chain(self.attention.then_some(0));
        (inputs.collect(), outputs.collect())
    }
}

impl Prefix {
    fn of(token: Option<&TensorInfo>, scores: Option<&TensorInfo>) -> Self {
        let columns = fixed_length(token, 1);
        let rank = scores.and_then(|tensor| tensor.shape.as_ref()).map_or(3, Vec::len);
        Self { columns, last_alone: rank == 2 || (columns != Some(1) && fixed_length(scores, 1) == Some(1)) }
    }
}

impl Mask {
    fn of(wire: &MaskWire, graph: &GraphInfo) -> Self {
        let values = if wire.one == MaskedOne::Token { [1, 0] } else { [0, 1] };
        Self { element_type: element_type(graph.input(&wire.input)), values }
    }
}

fn element_type(tensor: Option<&TensorInfo>) -> i32 {
    tensor.map_or(INT64, |tensor| tensor.element_type)
}

/// How long an axis is, where the graph fixes it.
fn fixed_length(tensor: Option<&TensorInfo>, axis: usize) -> Option<usize> {
    match tensor?.shape.as_ref()?.get(axis)? {
        Dimension::Fixed(length) => Some(*length),
        Dimension::Symbol(_) | Dimension::Unknown => None,
    }
}

/// How errors call a state.
fn state_name(wire: &StateWire) -> &str {
    wire.from_encoder().unwrap_or(&wire.decoder_input)
}

/// Whether the decoder's input can be given what the manifest says.
fn check_state(wire: &StateWire, input: Option<&TensorInfo>, batch: usize) -> Result<()> {
    let wrong = |message: String| Err(Error::new(ErrorKind::Bundle, message));
    let Some(TensorInfo { element_type, shape: Some(axes), .. }) = input else { return Ok(()) };
    if let Some(axis) = wire.grows {
        let mut row = axes.clone();
        row.remove(batch.min(axes.len().saturating_sub(1)));
        match row.get(axis) {
            Some(Dimension::Fixed(_)) => {
                return wrong(format!("axis {axis} of a row grows, and is of a fixed length here"));
            }
            None => return wrong(format!("axis {axis} of a row grows, and there are {} axes", row.len())),
            Some(_) => {}
        }
    }
    let Some(row) = wire.zeros.as_ref().or(wire.empty.as_ref()) else { return Ok(()) };
    let mut shape = row.clone();
    shape.insert(batch.min(row.len()), 1);
    let fits = |(at, (axis, &length)): (usize, (&Dimension, &usize))| match axis {
        Dimension::Fixed(fixed) => *fixed == length || at == batch,
        Dimension::Symbol(_) | Dimension::Unknown => true,
    };
    if axes.len() != shape.len() || !axes.iter().zip(&shape).enumerate().all(fits) {
        return wrong(format!("the manifest gives rows of {row:?}, and this input has the axes {axes:?}"));
    }
    if *element_type != FLOAT {
        return wrong(format!(
            "a first value is f32, and this input has element type {element_type} (ONNX's number)"
        ));
    }
    Ok(())
}

/// The axis of a row that may have a place for each source column: the one that is called as the columns of
/// the encoder's input are; else the first, unless the encoder says that it always has one length.
fn time_axis(given: Option<&[Dimension]>, batch: usize, source: Option<&TensorInfo>) -> Option<usize> {
    let row = |axis: usize| if axis > batch { axis - 1 } else { axis };
    let columns = source.and_then(|source| source.shape.as_ref()?.get(1));
    if let (Some(axes), Some(Dimension::Symbol(symbol))) = (given, columns) {
        let is_time = |axis: &Dimension| matches!(axis, Dimension::Symbol(other) if other == symbol);
        if let Some(axis) = axes.iter().position(is_time).filter(|&axis| axis != batch) {
            return Some(row(axis));
        }
    }
    let first = given.map(|axes| axes.get(usize::from(batch == 0)));
    match first {
        Some(None | Some(Dimension::Fixed(_))) => None,
        _ => Some(0),
    }
}

/// The symbol of the first axis.
fn batch_symbol(tensor: Option<&TensorInfo>) -> Option<&str> {
    match tensor?.shape.as_ref()?.first()? {
        Dimension::Symbol(symbol) => Some(symbol),
        Dimension::Fixed(_) | Dimension::Unknown => None,
    }
}

/// The axis that is called as the batch is; the first if none is. In a graph for one row it is the last axis
/// of length 1 before the values.
fn batch_axis(tensor: Option<&TensorInfo>, batch: Option<&str>, one_row: bool) -> usize {
    let shape = tensor.and_then(|tensor| tensor.shape.as_deref()).unwrap_or_default();
    if one_row {
        let before = &shape[..shape.len().saturating_sub(1)];
        return before.iter().rposition(|axis| *axis == Dimension::Fixed(1)).unwrap_or(0);
    }
    let named =
        |axis: &Dimension| matches!(axis, Dimension::Symbol(symbol) if Some(symbol.as_str()) == batch);
    shape.iter().position(named).unwrap_or(0)
}
