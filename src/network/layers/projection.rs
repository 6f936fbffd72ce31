//! The input side of a recurrent layer: ids or rows of the layer below to the gates' pre-activations.

use std::ops::Range;

use super::kinds::InputForm;
pub use super::rows::Gates;
use super::rows::{PreparedRows, Rows, RowsTape};
use super::symbols::{PreparedSymbols, Symbols, SymbolsTape};
use crate::network::ground::gradients::Summands;
use crate::network::ground::graph::{GraphSide, Io};
use crate::network::ground::parameters::{Layout, Parameters};
use crate::network::ground::pass::Pass;
use crate::onnx::builder::{GraphBuilder, Value};
use s2s_kernels::Real;
use s2s_kernels::random::Random;

/// W of a layer, with what comes before it; the last column of W is the bias.
#[derive(Clone, Debug)]
pub enum Projection {
    /// That of a first layer, which reads ids.
    Symbols(Symbols),
    /// That of a layer over rows (tokens, width) of the layer below.
    Rows(Rows),
}

/// What a layer reads in a forward or backward pass.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, R> {
    /// The ids of the packed rows.
    Ids(&'a [u32]),
    /// Packed rows (tokens, width).
    Rows(&'a [R]),
}

/// [`Projection`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug)]
pub enum PreparedProjection<R> {
    /// That of a first layer.
    Symbols(PreparedSymbols<R>),
    /// That of a layer over rows.
    Rows(PreparedRows<R>),
}

impl<R> Default for PreparedProjection<R> {
    fn default() -> Self {
        Self::Symbols(PreparedSymbols::OneHot)
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct ProjectionTape<R> {
    symbols: SymbolsTape<R>,
    rows: RowsTape<R>,
}

/// Says that a layer was given something else than it was made for.
#[cold]
fn mismatch() -> ! {
    unreachable!("a layer reads what it was made for")
}

impl Projection {
    /// Registers W of a first layer, and the embedding of its side unless another direction has registered
    /// it.
    pub fn over_symbols(
        p: &mut Layout,
        side: &str,
        layer: &str,
        vocabulary: usize,
        gates: Gates,
        form: InputForm,
    ) -> Self {
        Self::Symbols(Symbols::new(p, side, layer, vocabulary, gates, form))
    }

    /// Registers W of a layer over rows.
    pub fn over_rows(p: &mut Layout, layer: &str, width: usize, gates: Gates) -> Self {
        Self::Rows(Rows::new(p, layer, width, gates))
    }

    /// Packs the weights into the memory of `old`; `tokens` is about how many ids a shard will bring, and
    /// `dropout` whether inputs are dropped.
    pub fn prepare<R: Real>(
        &self,
        p: &Parameters<R>,
        tokens: usize,
        dropout: bool,
        old: PreparedProjection<R>,
    ) -> PreparedProjection<R> {
        match self {
            Self::Symbols(symbols) => {
                let old =
                    if let PreparedProjection::Symbols(old) = old { old } else { PreparedSymbols::OneHot };
                // A table of whole symbols cannot drop single channels of an embedding.
                PreparedProjection::Symbols(symbols.prepare(p, if dropout { 0 } else { tokens }, old))
            }
            Self::Rows(rows) => {
                let old = if let PreparedProjection::Rows(old) = old { old } else { PreparedRows::default() };
                PreparedProjection::Rows(rows.prepare(p, old))
            }
        }
    }

    /// Fills `gates` (tokens, gates) with W x + b.
    pub fn forward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedProjection<R>,
        input: Input<'_, R>,
        gates: &mut [R],
        tape: &mut ProjectionTape<R>,
    ) {
        match (self, prepared, input) {
            (Self::Symbols(symbols), PreparedProjection::Symbols(prepared), Input::Ids(ids)) => {
                symbols.forward(pass, prepared, ids, gates, &mut tape.symbols);
            }
            (Self::Rows(layer), PreparedProjection::Rows(prepared), Input::Rows(rows)) => {
                layer.forward(pass, prepared, rows, gates, &mut tape.rows);
            }
            _ => mismatch(),
        }
    }

    /// Goes back from the gradients of the pre-activations, `d_gates` (tokens, gates): a layer over rows
    /// overwrites `d_input` with the gradient of the rows.
    pub fn backward<R: Real>(
        &self,
        pass: &mut Pass<'_, R>,
        prepared: &PreparedProjection<R>,
        input: Input<'_, R>,
        d_gates: &[R],
        tape: &mut ProjectionTape<R>,
        d_input: &mut Vec<R>,
    ) {
        match (self, prepared, input) {
            (Self::Symbols(symbols), PreparedProjection::Symbols(prepared), Input::Ids(ids)) => {
                symbols.backward(pass, prepared, ids, d_gates, &mut tape.symbols);
            }
            (Self::Rows(layer), PreparedProjection::Rows(prepared), Input::Rows(_)) => {
                layer.backward(pass, prepared, d_gates, &mut tape.rows, d_input);
            }
            _ => mismatch(),
        }
    }

    /// Lists what [`backward`](Self::backward) found as gradients of the parameters; `d_bias` (gates) are the
    /// sums of `d_gates`.
    pub fn summands<'a, R: Real>(
        &self,
        p: &'a Parameters<R>,
        input: Input<'a, R>,
        d_gates: &'a [R],
        d_bias: &'a [R],
        tape: &'a ProjectionTape<R>,
        out: &mut Summands<'a, R>,
    ) {
        match (self, input) {
            (Self::Symbols(symbols), Input::Ids(ids)) => {
                symbols.summands(p, ids, d_gates, d_bias, &tape.symbols, out);
            }
            (Self::Rows(layer), Input::Rows(rows)) => {
                layer.summands(rows, d_gates, d_bias, &tape.rows, out);
            }
            _ => mismatch(),
        }
    }

    /// Draws W (Glorot uniform, as Keras does) and the embedding; sets the bias of the gates in `ones` to 1,
    /// the rest to 0.
    pub fn initialise(&self, p: &mut Parameters<f32>, ones: Range<usize>, random: &mut Random) {
        match self {
            Self::Symbols(symbols) => symbols.initialise(p, ones, random),
            Self::Rows(rows) => rows.initialise(p, ones, random),
        }
    }

    /// Writes the layer's input over whole texts (time, batch, channels), the last channel the mask (before
    /// its opposite, where gates are held at padding), and its W.
    ///
    /// `below` (time, batch, width) is the layer below, `None` for the first.
    pub fn emit_sequence(
        &self,
        p: &Parameters<f32>,
        g: &mut GraphBuilder,
        side: &GraphSide,
        below: Option<&Value>,
    ) -> (Value, Value) {
        match (self, below) {
            (Self::Symbols(symbols), None) => symbols.emit_sequence(p, g, side),
            (Self::Rows(rows), Some(below)) => rows.emit_sequence(p, g, below, &side.mask),
            _ => mismatch(),
        }
    }

    /// Writes W x + b (batch, gates) of one step; `input` is a token (batch, 1) or rows (batch, width).
    pub fn emit_step(&self, p: &Parameters<f32>, g: &mut GraphBuilder, io: Io, input: &Value) -> Value {
        match self {
            Self::Symbols(symbols) => symbols.emit_step(p, g, io, input),
            Self::Rows(rows) => rows.emit_step(p, g, input),
        }
    }
}
