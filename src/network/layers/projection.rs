//! The input side of a recurrent layer: ids or rows of the layer below to the gates' pre-activations.

use super::kinds::InputForm;
use super::symbols::{PreparedSymbols, Symbols};
use crate::network::ground::dropout::Dropout;
use crate::network::ground::gradients::{Summand, Summands};
use crate::network::ground::graph::GraphSide;
use crate::network::ground::graph::emit_parameter;
use crate::network::ground::parameters::{Layout, ParameterId, Parameters};
use crate::onnx::builder::{Attribute, GraphBuilder, Value};
use s2s_kernels::random::Random;
use s2s_kernels::{MatRef, Packed, Real, Scratch, Store, matmul_packed};

/// W of a layer, with what comes before it; the last column of W is the bias.
#[derive(Clone, Debug)]
pub enum Projection {
    /// The first layer: ids.
    Symbols(Symbols),
    /// A layer over rows (tokens, width) of the layer below; `w` (1, gates, width + 1).
    Rows {
        /// Width of the rows.
        width: usize,
        /// Gates in all.
        gates: usize,
        /// W.
        w: ParameterId,
    },
}

/// What a layer reads in a forward or backward pass.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a, R> {
    /// Ids of the packed rows.
    Ids(&'a [u32]),
    /// Packed rows (tokens, width).
    Rows(&'a [R]),
}

/// [`Projection`] laid out for the products of one optimiser step; shared by all shards.
#[derive(Clone, Debug)]
pub enum PreparedProjection<R> {
    /// See [`PreparedSymbols`].
    Symbols(PreparedSymbols<R>),
    /// A layer over rows.
    Rows {
        /// W transposed, (width, gates).
        forward: Packed<R>,
        /// W, (gates, width).
        backward: Packed<R>,
    },
}

impl<R> Default for PreparedProjection<R> {
    fn default() -> Self {
        Self::Symbols(PreparedSymbols::OneHot)
    }
}

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Debug, Default)]
pub struct ProjectionTape<R> {
    /// Embedded rows, or the rows of the layer below after dropout.
    pub(super) rows: Vec<R>,
    /// What each value (or, with one-hot input, each token) was multiplied by; empty without dropout.
    pub(super) factors: Vec<R>,
    /// Gradients of the table of all symbols or of the embedded rows.
    pub(super) buffer: Vec<R>,
    /// Which of the two.
    pub(super) is_by_symbol: bool,
    /// Whether `rows` are those that were read.
    is_dropped: bool,
}

impl Projection {
    /// Registers W of a first layer, and the embedding of its side unless another direction has registered
    /// it.
    pub fn over_symbols(
        p: &mut Layout,
        side: &str,
        layer: &str,
        vocabulary: usize,
        gates: usize,
        form: InputForm,
    ) -> Self {
        Self::Symbols(Symbols::new(p, side, layer, vocabulary, gates, form))
    }

    /// Registers W of a layer over rows.
    pub fn over_rows(p: &mut Layout, layer: &str, width: usize, gates: usize) -> Self {
        Self::Rows { width, gates, w: p.add(format!("{layer}.W"), &[1, gates, width + 1]) }
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
            &Self::Rows { width, gates, w } => {
                let (forward, backward) = match old {
                    PreparedProjection::Rows { forward, backward } => (forward, backward),
                    PreparedProjection::Symbols(_) => Default::default(),
                };
                let w = MatRef::strided(p.get(w), gates, width, width + 1);
                PreparedProjection::Rows {
                    forward: forward.repacked(w.transposed()),
                    backward: backward.repacked(w),
                }
            }
        }
    }

    /// Fills `gates_out` (tokens, gates) with W x + b.
    #[allow(clippy::too_many_arguments)]
    pub fn forward<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedProjection<R>,
        input: Input<'_, R>,
        gates_out: &mut [R],
        tape: &mut ProjectionTape<R>,
        dropout: Option<Dropout>,
        scratch: &mut Scratch<R>,
    ) {
        match (self, prepared, input) {
            (Self::Symbols(symbols), PreparedProjection::Symbols(prepared), Input::Ids(ids)) => {
                symbols.forward(p, prepared, ids, gates_out, tape, dropout, scratch);
            }
            (
                &Self::Rows { width, gates, w },
                PreparedProjection::Rows { forward, .. },
                Input::Rows(rows),
            ) => {
                let rows = match dropout {
                    Some(dropout) => {
                        dropout.factors(rows.len(), &mut tape.factors);
                        tape.rows.clear();
                        tape.rows.extend(rows.iter().zip(&tape.factors).map(|(&x, &f)| x * f));
                        &tape.rows
                    }
                    None => rows,
                };
                let bias: Vec<R> = p.get(w).chunks_exact(width + 1).map(|row| row[width]).collect();
                let rows = MatRef::new(rows, rows.len() / width, width);
                matmul_packed(gates_out, gates, Store::Bias(&bias), rows, forward, scratch);
            }
            _ => unreachable!("a layer reads what it was made for"),
        }
    }

    /// From the gradients of the pre-activations, `d_gates` (tokens, gates): for a layer over rows,
    /// overwrites `d_input` with the gradient of the rows.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<R: Real>(
        &self,
        p: &Parameters<R>,
        prepared: &PreparedProjection<R>,
        input: Input<'_, R>,
        d_gates: &[R],
        tape: &mut ProjectionTape<R>,
        dropout: bool,
        d_input: &mut Vec<R>,
        scratch: &mut Scratch<R>,
    ) {
        match (self, prepared, input) {
            (Self::Symbols(symbols), PreparedProjection::Symbols(prepared), Input::Ids(ids)) => {
                symbols.backward(p, prepared, ids, d_gates, tape, dropout, scratch);
            }
            (
                &Self::Rows { width, gates, .. },
                PreparedProjection::Rows { backward, .. },
                Input::Rows(rows),
            ) => {
                tape.is_dropped = dropout;
                d_input.resize(rows.len(), R::ZERO);
                let d_gates = MatRef::new(d_gates, rows.len() / width, gates);
                matmul_packed(d_input, width, Store::Overwrite, d_gates, backward, scratch);
                if dropout {
                    d_input.iter_mut().zip(&tape.factors).for_each(|(d, &f)| *d *= f);
                }
            }
            _ => unreachable!("a layer reads what it was made for"),
        }
    }

    /// What [`backward`](Self::backward) found, as gradients of the parameters; `d_bias` (gates) are the sums
    /// of `d_gates`.
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
            (Self::Symbols(symbols), Input::Ids(ids)) => symbols.summands(p, ids, d_gates, d_bias, tape, out),
            (&Self::Rows { width, gates, w }, Input::Rows(rows)) => {
                let rows = if tape.is_dropped { &tape.rows } else { rows };
                let tokens = rows.len() / width;
                out.push((
                    w,
                    Summand::over_rows(MatRef::new(d_gates, tokens, gates), MatRef::new(rows, tokens, width)),
                ));
                out.push((w, Summand::Column { at: width, values: d_bias }));
            }
            _ => unreachable!("a layer reads what it was made for"),
        }
    }

    /// Draws W (Glorot uniform, as Keras does) and the embedding; sets the bias of gate columns `ones` to 1,
    /// the rest to 0.
    pub fn initialise(&self, p: &mut Parameters<f32>, ones: std::ops::Range<usize>, random: &mut Random) {
        match self {
            Self::Symbols(symbols) => {
                symbols.initialise(p, random);
                symbols.set_bias(p, ones, 1.0);
            }
            &Self::Rows { width, gates, w } => {
                let limit = (6.0 / (width + gates) as f64).sqrt();
                for (gate, row) in p.get_mut(w).chunks_exact_mut(width + 1).enumerate() {
                    row[..width].iter_mut().for_each(|x| *x = random.symmetric(limit));
                    row[width] = if ones.contains(&gate) { 1.0 } else { 0.0 };
                }
            }
        }
    }

    /// The parameter that is kept transposed, if any; see [`Symbols`].
    pub fn transposed(&self) -> Option<ParameterId> {
        match self {
            Self::Symbols(symbols) => symbols.transposed(),
            Self::Rows { .. } => None,
        }
    }

    /// ONNX, a whole text: the layer's input (time, batch, channels), the last channel the mask, and its W.
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
            (&Self::Rows { w, .. }, Some(below)) => {
                let x = g.node("Concat", &[below, &side.mask], &[("axis", Attribute::Int(2))]);
                (x, emit_parameter(p, w, g))
            }
            _ => unreachable!("a layer reads what it was made for"),
        }
    }
}
